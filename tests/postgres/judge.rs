//! Judges what a reader was handed by what the writers know. It knows the rules of PostgreSQL and those of `Listener`, and
//! nothing of how they are kept.

use std::time::Instant;

/// What one writer knows of one of its notifications.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub begin: Instant,
    /// When the server's word came that it is done. Without that word, it may have been sent or not.
    pub acknowledged: Option<Instant>,
    /// Whether it went to one of the channels that the reader listens on.
    pub is_for_reader: bool,
}

/// What the reader was handed, in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Entry {
    /// The notification of this number, of this writer.
    Notification {
        writer: usize,
        number: usize,
    },
    Lost,
    Resynced {
        generation: u64,
    },
}

type Entries = Vec<(Instant, Entry)>;

/// What the reader was handed, and when. The first link's LISTENs were acknowledged at `up`.
#[derive(Clone, Debug)]
pub struct Journal {
    pub up: Instant,
    pub entries: Entries,
}

/// The count of an honest run.
#[derive(Debug, Default)]
pub struct Account {
    pub delivered: usize,
    /// Acknowledged, and lost within a gap.
    pub lost: usize,
    pub gaps: usize,
}

/// The notifications between two markers.
struct Link {
    up: Instant,
    /// When that was begun which, of all that was delivered, was begun last.
    last_begin: Option<Instant>,
}

/// The error says what is wrong.
pub fn judge(sent: &[Vec<Sent>], journal: &Journal) -> Result<Account, String> {
    let mut account = Account::default();
    let mut links = vec![Link { up: journal.up, last_begin: None }];
    let mut is_lost = false;
    let mut generation = 1;
    let mut delivered: Vec<Vec<bool>> = sent.iter().map(|sent| vec![false; sent.len()]).collect();
    let mut next: Vec<usize> = vec![0; sent.len()];
    for (place, (time, entry)) in journal.entries.iter().enumerate() {
        match *entry {
            Entry::Lost if is_lost => return Err(format!("entry {place}: a second Lost")),
            Entry::Lost => is_lost = true,
            Entry::Resynced { .. } if !is_lost => return Err(format!("entry {place}: Resynced without Lost")),
            Entry::Resynced { generation: new } => {
                if new <= generation {
                    return Err(format!("entry {place}: generation {new} after {generation}"));
                }
                (generation, is_lost) = (new, false);
                account.gaps += 1;
                links.push(Link { up: *time, last_begin: None });
            }
            Entry::Notification { writer, number } => {
                let name = format!("entry {place}, number {number} of writer {writer}");
                let Some(this) = sent.get(writer).and_then(|sent| sent.get(number)) else {
                    return Err(format!("{name}: never sent"));
                };
                if is_lost {
                    return Err(format!("{name}: between Lost and Resynced"));
                }
                if !this.is_for_reader {
                    return Err(format!("{name}: its channel is not listened on"));
                }
                if delivered[writer][number] {
                    return Err(format!("{name}: twice"));
                }
                if number < next[writer] {
                    return Err(format!("{name}: after number {} of the same writer", next[writer] - 1));
                }
                let last_begin = &mut links.last_mut().expect("a link").last_begin;
                // What was acknowledged before another began, was before it for everyone.
                if this.acknowledged.is_some_and(|acknowledged| last_begin.is_some_and(|last| acknowledged < last)) {
                    return Err(format!("{name}: after one of another writer that had not begun then"));
                }
                *last_begin = (*last_begin).max(Some(this.begin));
                delivered[writer][number] = true;
                next[writer] = number + 1;
                account.delivered += 1;
            }
        }
    }
    for (writer, sent) in sent.iter().enumerate() {
        for (number, this) in sent.iter().enumerate() {
            let Some(acknowledged) = this.acknowledged else { continue };
            if delivered[writer][number] || !this.is_for_reader {
                continue;
            }
            // Begun while a link was listening, and acknowledged before something that came over this link was begun.
            let of_link = |link: &Link| this.begin > link.up && link.last_begin.is_some_and(|last| acknowledged < last);
            if let Some(link) = links.iter().position(of_link) {
                return Err(format!("number {number} of writer {writer}: missing on link {link}, outside of the gaps"));
            }
            account.lost += 1;
        }
    }
    if is_lost {
        return Err("Lost at the end, and no Resynced".into());
    }
    Ok(account)
}

/// What a listener with a fault would have handed out, instead of this.
pub fn mutants(sent: &[Vec<Sent>], journal: &Journal) -> Vec<(&'static str, Journal)> {
    let entries = &journal.entries;
    let is_notification = |place: usize| matches!(entries[place].1, Entry::Notification { .. });
    let of_one_writer = |one: usize, two: usize| match (entries[one].1, entries[two].1) {
        (Entry::Notification { writer: one, .. }, Entry::Notification { writer: two, .. }) => one == two,
        _ => false,
    };
    // One in the middle of a link, well after others and well before others, that the server has acknowledged.
    let middle = (200..entries.len() - 200).find(|&place| {
        (place - 200..place + 200).all(is_notification)
            && matches!(entries[place].1, Entry::Notification { writer, number }
                if sent[writer][number].acknowledged.is_some())
    });
    let middle = middle.expect("400 notifications in a row");
    let same_writer = (middle + 1..).find(|&place| of_one_writer(middle, place)).expect("another of this writer");
    let lost = entries.iter().rposition(|(_, entry)| *entry == Entry::Lost).expect("a loss");
    let after = (lost..entries.len() - 1).find(|&place| is_notification(place)).expect("one after the gap");
    let before = (0..lost).rev().find(|&place| is_notification(place)).expect("one before the gap");

    let mut mutants = Vec::new();
    let mut mutant = |name, change: &dyn Fn(&mut Entries)| {
        let mut mutant = journal.clone();
        change(&mut mutant.entries);
        mutants.push((name, mutant));
    };
    mutant("drops one", &|entries| _ = entries.remove(middle));
    mutant("drops all of a writer for a while", &|entries| {
        let (Entry::Notification { writer: mute, .. }, mut place) = (entries[middle].1, 0) else { unreachable!() };
        entries.retain(|(_, entry)| {
            place += 1;
            !(middle..middle + 100).contains(&place)
                || !matches!(entry, Entry::Notification { writer, .. } if *writer == mute)
        });
    });
    mutant("hands one out twice in a row", &|entries| entries.insert(middle, entries[middle]));
    mutant("hands one out again later", &|entries| entries.push(entries[middle]));
    mutant("hands one out again after the gap", &|entries| entries.insert(after, entries[before]));
    mutant("swaps two of a writer", &|entries| entries.swap(middle, same_writer));
    mutant("holds one back", &|entries| {
        let held = entries.remove(middle);
        entries.insert(middle + 150, held);
    });
    mutant("omits Lost", &|entries| _ = entries.remove(lost));
    mutant("omits Resynced", &|entries| _ = entries.remove(lost + 1));
    mutant("omits all of the markers", &|entries| {
        entries.retain(|(_, entry)| matches!(entry, Entry::Notification { .. }));
    });
    mutant("says Lost twice", &|entries| entries.insert(lost, entries[lost]));
    mutant("says both twice", &|entries| {
        let marker = [entries[lost], entries[lost + 1]];
        entries.splice(lost..lost, marker);
    });
    mutant("hands out the old link's last after Lost", &|entries| entries.swap(before, lost));
    mutant("hands out the new link's first before Resynced", &|entries| entries.swap(after, lost + 1));
    mutant("hands out what nobody sent", &|entries| {
        entries.push((entries[middle].0, Entry::Notification { writer: 0, number: usize::MAX }));
    });
    mutant("ends within a gap", &|entries| entries.push(entries[lost]));
    mutants
}
