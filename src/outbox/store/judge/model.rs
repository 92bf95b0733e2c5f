//! The model: all messages there ever were in one list, and each question answered by a walk over it.

use std::time::Duration;

use super::super::{BATCH_BYTES, Keep, Rules};
use crate::outbox::{Fate, Tally, WhenFull};

/// A message.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) number: u64,
    pub(super) len: usize,
    pub(super) accepted_at: Duration,
    /// A stream has taken it whole, on an earlier link.
    pub(super) was_handed: bool,
    pub(super) place: Place,
    /// Where it is among the bytes of the present link, whatever its place.
    pub(super) position: Option<(u64, u64)>,
    /// Whether its bytes are gone.
    pub(super) is_released: bool,
}

/// Where a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Queue,
    /// On the present link. The kernel has had it whole since then.
    Wire(Option<Duration>),
    Gone(Fate),
}

#[derive(Clone, Debug)]
pub(super) struct ModelLink {
    pub(super) counts: bool,
    pub(super) is_socket: bool,
    pub(super) encoded: u64,
    pub(super) begun: u64,
    pub(super) handed: u64,
    /// What the store has heard of.
    pub(super) acknowledged: u64,
    /// What is true.
    pub(super) truly_acknowledged: u64,
    pub(super) pace: Option<ModelPace>,
}

#[derive(Clone, Debug)]
pub(super) struct ModelPace {
    rate: u128,
    since: Duration,
    accepted: u128,
    sent: u128,
}

impl ModelPace {
    /// How many messages may go out.
    pub(super) fn allowance(&self, now: Duration) -> u128 {
        (1 + (now - self.since).as_micros() * self.rate / 1_000_000 + self.accepted).saturating_sub(self.sent)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) rules: Rules,
    pub(super) now: Duration,
    pub(super) items: Vec<Item>,
    pub(super) link: Option<ModelLink>,
    pub(super) reserved: Vec<usize>,
    pub(super) settled: Vec<(u64, Fate)>,
    /// The highest number that a peer can have got whole.
    pub(super) highest_whole: u64,
    /// Whether there was a link that does not count.
    pub(super) has_counted: bool,
    /// Whether there was a stream that has to be flushed.
    pub(super) has_streams: bool,
}

impl Model {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            highest_whole: rules.first_number - 1,
            rules,
            now: Duration::from_secs(1),
            items: Vec::new(),
            link: None,
            reserved: Vec::new(),
            settled: Vec::new(),
            has_counted: false,
            has_streams: false,
        }
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| !matches!(item.place, Place::Gone(_)))
    }

    pub(super) fn queued(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.place == Place::Queue)
    }

    pub(super) fn next_number(&self) -> u64 {
        self.items.last().map_or(self.rules.first_number, |item| item.number + 1)
    }

    /// What the peer can answer, in order: all of it was begun on this link, to the last byte.
    pub(super) fn sent(&self) -> Vec<u64> {
        let Some(link) = &self.link else { return Vec::new() };
        let is_whole = |item: &&Item| item.position.is_some_and(|(_, end)| end <= link.begun);
        self.waiting().filter(is_whole).map(|item| item.number).collect()
    }

    /// Messages and bytes that are kept.
    pub(super) fn used(&self) -> (usize, usize) {
        let kept = self.waiting().filter(|item| !item.is_released);
        let kept = kept.fold((0, 0), |(messages, bytes), item| (messages + 1, bytes + item.len));
        (kept.0 + self.reserved.len(), kept.1 + self.reserved.iter().sum::<usize>())
    }

    pub(super) fn has_room(&self, len: usize) -> bool {
        let (messages, bytes) = self.used();
        messages < self.rules.capacity && bytes + len <= self.rules.capacity_bytes
    }

    pub(super) fn tally(&self) -> Tally {
        let mut tally = Tally { accepted: self.items.len() as u64, ..Tally::default() };
        for item in &self.items {
            *match &item.place {
                Place::Queue | Place::Wire(_) => &mut tally.waiting,
                Place::Gone(Fate::Answered) => &mut tally.answered,
                Place::Gone(Fate::Rejected(_)) => &mut tally.rejected,
                Place::Gone(Fate::Written) => &mut tally.written,
                Place::Gone(Fate::InDoubt) => &mut tally.in_doubt,
                Place::Gone(Fate::Dropped) => &mut tally.dropped,
                Place::Gone(Fate::Expired) => &mut tally.expired,
                Place::Gone(Fate::Unsent) => &mut tally.unsent,
            } += 1;
        }
        tally
    }

    pub(super) fn settle(&mut self, number: u64, fate: Fate) {
        let item = self.items.iter_mut().find(|item| item.number == number).expect("accepted");
        assert!(!matches!(item.place, Place::Gone(_)), "{number} has a fate");
        item.place = Place::Gone(fate.clone());
        item.is_released = true;
        self.settled.push((number, fate));
    }

    /// Settles a message that is not on its way.
    fn give_up(&mut self, number: u64, fate: Fate) {
        let was_handed = self.items.iter().any(|item| item.number == number && item.was_handed);
        self.settle(number, if was_handed { Fate::InDoubt } else { fate });
    }

    pub(super) fn accept(&mut self, number: u64, len: usize) {
        assert_eq!(number, self.next_number(), "numbers are consecutive");
        if self.rules.when_full == WhenFull::DropOldest {
            while !self.has_room(len) {
                let Some(oldest) = self.queued().map(|item| item.number).next() else { break };
                self.give_up(oldest, Fate::Dropped);
            }
        }
        let has_room = self.has_room(len);
        if has_room && self.queued().next().is_none() {
            self.end_pace();
        }
        self.items.push(Item {
            number,
            len,
            accepted_at: self.now,
            was_handed: false,
            place: Place::Queue,
            position: None,
            is_released: false,
        });
        if !has_room {
            return self.settle(number, Fate::Dropped);
        }
        if let Some(pace) = self.link.as_mut().and_then(|link| link.pace.as_mut()) {
            pace.accepted += 1;
        }
    }

    pub(super) fn begin_link(&mut self, counts: bool, is_socket: bool) {
        let has_backlog = self.queued().next().is_some();
        let rate = self.rules.catch_up_rate.filter(|_| has_backlog);
        let pace = rate.map(|rate| ModelPace { rate: u128::from(rate), since: self.now, accepted: 0, sent: 0 });
        self.has_counted |= !counts;
        self.has_streams |= !is_socket;
        let (encoded, begun, handed, acknowledged, truly_acknowledged) = (0, 0, 0, 0, 0);
        self.link =
            Some(ModelLink { counts, is_socket, encoded, begun, handed, acknowledged, truly_acknowledged, pace });
    }

    /// What is taken for the next write, without taking it; after a message of this length was accepted, too.
    pub(super) fn clone_and_take(&self, accepted: Option<usize>) -> Vec<u64> {
        let mut copy = self.clone();
        if let Some(len) = accepted {
            copy.accept(copy.next_number(), len);
        }
        copy.take_now()
    }

    pub(super) fn take(&mut self) -> Vec<u64> {
        self.expire();
        self.take_now()
    }

    fn take_now(&mut self) -> Vec<u64> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        loop {
            let Some(item) = self.queued().next().cloned() else { break };
            let on_wire = self.items.iter().filter(|item| matches!(item.place, Place::Wire(_))).count();
            let Some(link) = &mut self.link else { break };
            let is_paced = link.pace.as_ref().is_some_and(|pace| pace.allowance(self.now) == 0);
            let is_window_full = self.rules.keep == Keep::Unanswered && on_wire >= self.rules.window;
            if is_paced || is_window_full || !taken.is_empty() && bytes + item.len > BATCH_BYTES {
                break;
            }
            if let Some(pace) = &mut link.pace {
                pace.sent += 1;
            }
            bytes += item.len;
            taken.push(item.number);
            self.items.iter_mut().find(|other| other.number == item.number).expect("queued").place = Place::Wire(None);
        }
        if self.queued().next().is_none() {
            self.end_pace();
        }
        taken
    }

    fn end_pace(&mut self) {
        if let Some(link) = &mut self.link {
            link.pace = None;
        }
    }

    pub(super) fn encoded(&mut self, number: u64, len: u64) {
        let link = self.link.as_mut().expect("up");
        let item = self.items.iter_mut().find(|item| item.number == number).expect("taken");
        item.position = Some((link.encoded, link.encoded + len));
        link.encoded += len;
    }

    pub(super) fn flushed(&mut self) {
        let link = self.link.as_mut().expect("up");
        link.handed = link.begun;
        let (handed, counts) = (link.handed, link.counts);
        let mut written = Vec::new();
        for item in &mut self.items {
            let is_whole = item.position.is_some_and(|(_, end)| end <= handed);
            if is_whole && item.place == Place::Wire(None) {
                item.place = Place::Wire(Some(self.now));
                self.highest_whole = self.highest_whole.max(item.number);
                if matches!(self.rules.keep, Keep::Never | Keep::Interrupted) {
                    item.is_released = true;
                    written.extend((!counts).then_some(item.number));
                }
            }
        }
        written.into_iter().for_each(|number| self.settle(number, Fate::Written));
    }

    pub(super) fn acknowledged(&mut self, missing: u64) {
        let link = self.link.as_mut().expect("up");
        link.acknowledged = link.acknowledged.max(link.handed.saturating_sub(missing));
        if self.rules.keep == Keep::Unanswered {
            return;
        }
        let upto = link.acknowledged;
        let is_written = |item: &&Item| item.position.is_some_and(|(_, end)| end <= upto);
        let written: Vec<u64> = self.waiting().filter(is_written).map(|item| item.number).collect();
        written.into_iter().for_each(|number| self.settle(number, Fate::Written));
    }

    pub(super) fn awaits_acknowledgement(&self) -> bool {
        self.rules.keep != Keep::Unanswered && self.waiting().any(|item| matches!(item.place, Place::Wire(Some(_))))
    }

    pub(super) fn end_link(&mut self, missing: Option<u64>) {
        if let Some(missing) = missing {
            self.acknowledged(missing);
        }
        let link = self.link.take().expect("up");
        let mut in_doubt = Vec::new();
        for item in &mut self.items {
            let Some((start, end)) = item.position.take() else {
                if item.place == Place::Wire(None) {
                    item.place = Place::Queue;
                }
                continue;
            };
            if !matches!(item.place, Place::Wire(_)) {
                continue;
            }
            let (was_begun, was_handed) = (start < link.begun, end <= link.handed);
            let is_over = match self.rules.keep {
                Keep::Never => was_begun,
                Keep::Interrupted => was_handed,
                Keep::Unacknowledged | Keep::Unanswered => false,
            };
            item.was_handed |= end <= link.begun;
            if item.was_handed {
                self.highest_whole = self.highest_whole.max(item.number);
            }
            item.place = Place::Queue;
            in_doubt.extend(is_over.then_some(item.number));
        }
        in_doubt.into_iter().for_each(|number| self.settle(number, Fate::InDoubt));
    }

    pub(super) fn expire(&mut self) {
        let Some(limit) = self.rules.expire_after else { return };
        let is_old = |item: &&Item| self.now >= item.accepted_at + limit;
        let old: Vec<u64> = self.queued().filter(is_old).map(|item| item.number).collect();
        old.into_iter().for_each(|number| self.give_up(number, Fate::Expired));
    }

    pub(super) fn end(&mut self) {
        let queued: Vec<u64> = self.queued().map(|item| item.number).collect();
        queued.into_iter().for_each(|number| self.give_up(number, Fate::Unsent));
    }

    pub(super) fn expiry_deadline(&self) -> Option<Duration> {
        Some(self.queued().next()?.accepted_at + self.rules.expire_after?)
    }

    pub(super) fn answer_deadline(&self) -> Option<Duration> {
        let limit = self.rules.answer_timeout.filter(|_| self.rules.keep == Keep::Unanswered)?;
        match self.items.iter().find(|item| matches!(item.place, Place::Wire(_)))?.place {
            Place::Wire(Some(handed_at)) => Some(handed_at + limit),
            _ => None,
        }
    }
}
