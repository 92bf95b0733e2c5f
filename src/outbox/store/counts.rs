//! The count of messages by fate: the only place where a message ends.
//!
//! Next: [`Tally`], the public face.

use std::collections::BTreeSet;

use crate::outbox::{Fate, Tally};

/// The tally, and what the messages that end leave to do.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// The fates. What was accepted and what waits is not counted here.
    pub(super) tally: Tally,
    /// The messages without a fate that somebody waits for.
    watched: BTreeSet<u64>,
    /// The fates of those that somebody waits for.
    pub(super) settled: Vec<(u64, Fate)>,
    /// Rejected messages, with the reason.
    pub(super) rejections: Vec<(u64, String)>,
}

impl Counts {
    /// The fate of this message is to be [settled](Self::settled).
    pub(super) fn watch(&mut self, number: u64) {
        self.watched.insert(number);
    }

    /// Gives the messages up to this number that still wait, as many as `count`, their fate.
    pub(super) fn settle_through(&mut self, number: u64, count: usize, fate: Fate) {
        if count == 0 {
            return;
        }
        *self.of(&fate) += count as u64;
        while let Some(first) = self.watched.first().copied().filter(|first| *first <= number) {
            self.watched.remove(&first);
            self.settled.push((first, fate.clone()));
        }
    }

    /// Gives a message that waits its fate.
    pub(super) fn settle(&mut self, number: u64, fate: Fate) {
        *self.of(&fate) += 1;
        if !self.watched.is_empty() && self.watched.remove(&number) {
            self.settled.push((number, fate));
        }
    }

    /// The count of a fate.
    fn of(&mut self, fate: &Fate) -> &mut u64 {
        let Tally { answered, rejected, written, in_doubt, dropped, expired, unsent, .. } = &mut self.tally;
        match fate {
            Fate::Answered => answered,
            Fate::Rejected(_) => rejected,
            Fate::Written => written,
            Fate::InDoubt => in_doubt,
            Fate::Dropped => dropped,
            Fate::Expired => expired,
            Fate::Unsent => unsent,
        }
    }

    /// Gives a message that the peer or the protocol does not want its fate, and reports it.
    pub(super) fn reject(&mut self, number: u64, reason: String) {
        self.rejections.push((number, reason.clone()));
        self.settle(number, Fate::Rejected(reason));
    }

    /// Nobody waits for this message any more.
    pub(super) fn unwatch(&mut self, number: u64) {
        self.watched.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fate_that_nobody_waits_for_any_more_is_counted_and_not_reported() {
        let mut counts = Counts::default();
        [1, 2, 3].into_iter().for_each(|number| counts.watch(number));
        counts.unwatch(1);
        counts.unwatch(2);
        counts.settle(1, Fate::Answered);
        counts.settle_through(3, 2, Fate::Written);
        assert_eq!(counts.settled, [(3, Fate::Written)]);
        assert_eq!((counts.tally.answered, counts.tally.written), (1, 2));
    }
}
