//! A check of what a reader received against what the writers sent. It knows the rules of PostgreSQL and of `Listener`, and
//! nothing of the implementation.
//!
//! Next: `delivery`, which runs the writers and the reader.

use std::time::Instant;

/// One notification, as its writer knows it.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub begin: Instant,
    /// When the server acknowledged it. Without an acknowledgement it may have been sent or not.
    pub acknowledged: Option<Instant>,
    /// Whether its channel is one of the reader's.
    pub is_for_reader: bool,
}

/// What the reader received.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Entry {
    /// The notification with this number, of this writer.
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

/// What the reader received, in order, and when. The LISTENs of the first connection were acknowledged at `up`.
#[derive(Clone, Debug)]
pub struct ReceivedLog {
    pub up: Instant,
    pub entries: Entries,
}

/// The counts of a correct run.
#[derive(Debug, Default)]
pub struct Summary {
    pub delivered: usize,
    /// Acknowledged, and lost during an outage.
    pub lost: usize,
    pub outages: usize,
}

/// One connection: the notifications between two pairs of markers.
struct Link {
    up: Instant,
    /// The latest begin of all notifications delivered so far on this connection.
    last_begin: Option<Instant>,
}

/// Checks a run. The error says what is wrong.
pub fn check_delivery(sent: &[Vec<Sent>], received: &ReceivedLog) -> Result<Summary, String> {
    let mut summary = Summary::default();
    let mut links = vec![Link { up: received.up, last_begin: None }];
    let mut is_lost = false;
    let mut generation = 1;
    let mut delivered: Vec<Vec<bool>> = sent.iter().map(|sent| vec![false; sent.len()]).collect();
    let mut next: Vec<usize> = vec![0; sent.len()];
    for (index, (time, entry)) in received.entries.iter().enumerate() {
        match *entry {
            Entry::Lost if is_lost => return Err(format!("entry {index}: a second Lost")),
            Entry::Lost => is_lost = true,
            Entry::Resynced { .. } if !is_lost => return Err(format!("entry {index}: Resynced without Lost")),
            Entry::Resynced { generation: new } => {
                if new <= generation {
                    return Err(format!("entry {index}: generation {new} after {generation}"));
                }
                (generation, is_lost) = (new, false);
                summary.outages += 1;
                links.push(Link { up: *time, last_begin: None });
            }
            Entry::Notification { writer, number } => {
                let name = format!("entry {index}, number {number} of writer {writer}");
                let Some(this) = sent.get(writer).and_then(|sent| sent.get(number)) else {
                    return Err(format!("{name}: never sent"));
                };
                if is_lost {
                    return Err(format!("{name}: between Lost and Resynced"));
                }
                if !this.is_for_reader {
                    return Err(format!("{name}: its channel is not listened to"));
                }
                if delivered[writer][number] {
                    return Err(format!("{name}: twice"));
                }
                if number < next[writer] {
                    return Err(format!("{name}: after number {} of the same writer", next[writer] - 1));
                }
                let last_begin = &mut links.last_mut().expect("a link").last_begin;
                // What was acknowledged before another began comes before it for every reader.
                if this.acknowledged.is_some_and(|acknowledged| last_begin.is_some_and(|last| acknowledged < last)) {
                    return Err(format!("{name}: after one of another writer that began later"));
                }
                *last_begin = (*last_begin).max(Some(this.begin));
                delivered[writer][number] = true;
                next[writer] = number + 1;
                summary.delivered += 1;
            }
        }
    }
    for (writer, sent) in sent.iter().enumerate() {
        for (number, this) in sent.iter().enumerate() {
            let Some(acknowledged) = this.acknowledged else { continue };
            if delivered[writer][number] || !this.is_for_reader {
                continue;
            }
            // Begun while a connection was listening, and acknowledged before another notification of this connection was begun.
            let of_link = |link: &Link| this.begin > link.up && link.last_begin.is_some_and(|last| acknowledged < last);
            if let Some(link) = links.iter().position(of_link) {
                return Err(format!(
                    "number {number} of writer {writer}: missing on connection {link}, outside of the outages"
                ));
            }
            summary.lost += 1;
        }
    }
    if is_lost {
        return Err("Lost at the end, and no Resynced".into());
    }
    Ok(summary)
}

/// What a faulty listener would have delivered instead. The names complete "a listener that ...".
pub fn mutants(sent: &[Vec<Sent>], received: &ReceivedLog) -> Vec<(&'static str, ReceivedLog)> {
    let entries = &received.entries;
    let is_notification = |index: usize| matches!(entries[index].1, Entry::Notification { .. });
    let of_one_writer = |one: usize, two: usize| match (entries[one].1, entries[two].1) {
        (Entry::Notification { writer: one, .. }, Entry::Notification { writer: two, .. }) => one == two,
        _ => false,
    };
    let sent_as = |index: usize| match entries[index].1 {
        Entry::Notification { writer, number } => Some(sent[writer][number]),
        _ => None,
    };
    // One in the middle of a connection that a listener must deliver: begun after others were received, and acknowledged before
    // others were begun. On a busy machine, that is not so of all.
    let middle = (200..entries.len() - 200).find(|&index| {
        let (Some(this), Some(later)) = (sent_as(index), sent_as(index + 200)) else { return false };
        (index - 200..index + 200).all(is_notification)
            && this.begin > entries[index - 200].0
            && this.acknowledged.is_some_and(|acknowledged| acknowledged < later.begin)
    });
    let middle = middle.expect("400 notifications in a row");
    let same_writer = (middle + 1..).find(|&index| of_one_writer(middle, index)).expect("another of this writer");
    let lost = entries.iter().rposition(|(_, entry)| *entry == Entry::Lost).expect("a loss");
    let after = (lost..entries.len() - 1).find(|&index| is_notification(index)).expect("one after the outage");
    let before = (0..lost).rev().find(|&index| is_notification(index)).expect("one before the outage");

    let mut mutants = Vec::new();
    let mut mutant = |name, change: &dyn Fn(&mut Entries)| {
        let mut mutant = received.clone();
        change(&mut mutant.entries);
        mutants.push((name, mutant));
    };
    mutant("drops one", &|entries| _ = entries.remove(middle));
    mutant("drops all of a writer for a while", &|entries| {
        let (Entry::Notification { writer: silenced, .. }, mut index) = (entries[middle].1, 0) else { unreachable!() };
        entries.retain(|(_, entry)| {
            index += 1;
            !(middle..middle + 100).contains(&index)
                || !matches!(entry, Entry::Notification { writer, .. } if *writer == silenced)
        });
    });
    mutant("delivers one twice in a row", &|entries| entries.insert(middle, entries[middle]));
    mutant("delivers one again later", &|entries| entries.push(entries[middle]));
    mutant("delivers one again after the outage", &|entries| entries.insert(after, entries[before]));
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
    mutant("reports Lost twice", &|entries| entries.insert(lost, entries[lost]));
    mutant("reports both markers twice", &|entries| {
        let marker = [entries[lost], entries[lost + 1]];
        entries.splice(lost..lost, marker);
    });
    mutant("delivers the last of the old connection after Lost", &|entries| entries.swap(before, lost));
    mutant("delivers the first of the new connection before Resynced", &|entries| entries.swap(after, lost + 1));
    mutant("delivers what was never sent", &|entries| {
        entries.push((entries[middle].0, Entry::Notification { writer: 0, number: usize::MAX }));
    });
    mutant("ends during an outage", &|entries| entries.push(entries[lost]));
    mutants
}
