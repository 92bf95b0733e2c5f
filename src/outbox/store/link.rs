//! What a link does to the messages: they are taken, written, acknowledged, and sent again on the next one.
//!
//! Next: [`flight`](super::flight), where on the link each of them ends.

use std::time::Duration;

use super::flight::Flight;
use super::log::Log;
use super::pace::Pace;
use super::{BATCH_BYTES, Keep, Run, Store};
use crate::outbox::Fate;

/// How many messages are taken for one write. Bounds what a protocol adds to short messages.
const BATCH_MESSAGES: usize = 8 * 1024;

impl<L: Log> Store<L> {
    /// A link is up. `counts_bytes`: whether it tells what the peer's kernel has acknowledged.
    pub(in crate::outbox) fn begin_link(&mut self, counts_bytes: bool, now: Duration) {
        debug_assert!(!self.is_up && self.in_flight == 0);
        self.is_up = true;
        self.counts_bytes = counts_bytes;
        self.flight = Flight::default();
        self.pace = self.rules.catch_up_rate.map(|rate| Pace::new(rate, now));
    }

    /// Takes the messages of the next write, in order, and appends them to `batch`. Give them back by
    /// [`encoded`](Self::encoded), all or those before a failure, and name those that cannot be encoded by
    /// [`refused`](Self::refused).
    pub(in crate::outbox) fn take(&mut self, now: Duration, batch: &mut Vec<Run>) {
        self.expire(now);
        let (mut messages, mut bytes) = (BATCH_MESSAGES, BATCH_BYTES);
        // `None`: the queue is empty.
        while let Some(len) = self.log.len_of(self.next_to_take) {
            let most = messages.min(self.may_take(now));
            // rule: batch-is-bounded
            if most == 0 || !batch.is_empty() && len > bytes {
                break;
            }
            let Some(run) = self.log.run(self.next_to_take, most, bytes) else { break };
            messages -= run.len();
            bytes = bytes.saturating_sub(run.bytes().len());
            self.in_flight += run.len();
            self.next_to_take = run.first() + run.len() as u64;
            self.skip_to_queue();
            if let Some(pace) = &mut self.pace {
                pace.send(run.len() as u64);
            }
            batch.push(run);
        }
        if self.queued() == 0 {
            self.pace = None;
        }
    }

    /// How many messages of a backlog may go out now.
    #[inline]
    fn may_take(&self, now: Duration) -> usize {
        let in_pace = self.pace.as_ref().map_or(usize::MAX, |pace| pace.allowance(now)); // rule: catch-up-rate
        self.window_room().min(in_pace)
    }

    /// How many messages may go out now, whatever the pace.
    #[inline]
    fn window_room(&self) -> usize {
        match self.rules.keep {
            _ if !self.is_up => 0,
            Keep::Unanswered => self.rules.window.saturating_sub(self.in_flight), // rule: window
            _ => usize::MAX,
        }
    }

    /// Whether a single message waits in the queue.
    pub(in crate::outbox) fn is_first_queued(&self) -> bool {
        self.queued() == 1
    }

    /// Whether a message can be taken.
    pub(in crate::outbox) fn can_take(&self, now: Duration) -> bool {
        self.queued() > 0 && self.may_take(now) > 0
    }

    /// Whether a message that is accepted now could be taken at once.
    pub(in crate::outbox) fn wants_messages(&self) -> bool {
        self.queued() == 0 && self.window_room() > 0
    }

    /// These messages were taken, and are on the wire now.
    pub(in crate::outbox) fn encoded(&mut self, run: Run) {
        self.flight.encoded(run);
    }

    /// A message that was taken cannot be encoded.
    pub(in crate::outbox) fn refused(&mut self, number: u64, reason: String) {
        if self.log.settle(number) {
            self.in_flight -= 1;
            self.counts.reject(number, reason); // rule: refused-message-is-rejected
        }
    }

    /// The stream has taken this many bytes more.
    pub(in crate::outbox) fn wrote(&mut self, len: usize) {
        self.flight.wrote(len);
    }

    /// All that the stream has taken is with the kernel.
    pub(in crate::outbox) fn flushed(&mut self, now: Duration) {
        let before = self.flight.handed();
        self.flight.flushed(now);
        let handed = self.flight.handed();
        if handed == before {
            return;
        }
        self.highest_handed = self.highest_handed.max(handed);
        if matches!(self.rules.keep, Keep::Never | Keep::Interrupted) {
            self.log.let_go(handed);
            // rule: handed-over-is-not-written
            if !self.counts_bytes {
                self.settle_through(handed, Fate::Written);
            }
        }
        self.forget_positions();
    }

    /// The peer's kernel has acknowledged all but this many bytes.
    pub(in crate::outbox) fn acknowledged(&mut self, missing: u64) {
        let before = self.flight.acknowledged_number();
        self.flight.acknowledged(missing);
        let acknowledged = self.flight.acknowledged_number();
        if acknowledged == before {
            return;
        }
        if self.rules.keep != Keep::Unanswered {
            self.settle_through(acknowledged, Fate::Written); // rule: written-is-acknowledged
        }
        self.forget_positions();
    }

    /// Forgets what nobody asks for any more.
    pub(super) fn forget_positions(&mut self) {
        let until_acknowledged = self.counts_bytes && self.rules.keep != Keep::Unanswered;
        let oldest = self.oldest_waiting().unwrap_or(u64::MAX);
        self.flight.forget(until_acknowledged, oldest);
    }

    /// Whether a fate depends on the peer's acknowledgement of bytes.
    pub(in crate::outbox) fn awaits_acknowledgement(&self) -> bool {
        self.is_up
            && self.rules.keep != Keep::Unanswered
            && self.oldest_waiting().is_some_and(|oldest| oldest <= self.flight.handed())
    }

    /// The link has broken, or is given up. `missing` is how many bytes the peer's kernel had not acknowledged, if that
    /// is known.
    pub(in crate::outbox) fn end_link(&mut self, missing: Option<u64>) {
        if !self.is_up {
            return;
        }
        if let Some(missing) = missing {
            self.acknowledged(missing);
        }
        self.is_up = false;
        self.pace = None;
        self.highest_handed = self.highest_handed.max(self.flight.begun()); // rule: sent-on-an-earlier-link
        let not_again = match self.rules.keep {
            Keep::Never => self.flight.cut().unwrap_or_else(|| self.flight.begun()), // rule: never-sends-again
            Keep::Interrupted => self.flight.handed(),                               // rule: interrupted-is-sent-again
            Keep::Unacknowledged | Keep::Unanswered => 0,
        };
        self.settle_through(not_again, Fate::InDoubt); // rule: doubt-is-counted
        self.in_flight = 0;
        self.next_to_take = self.log.oldest().unwrap_or(self.next_number); // rule: resend-in-order
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use super::super::Rules;
    use super::*;
    use crate::outbox::{Answer, WhenFull};

    const NOW: Duration = Duration::ZERO;

    /// A store with a link.
    pub(in crate::outbox::store) fn store(keep: Keep, counts_bytes: bool) -> Store {
        let mut store = Store::new(Rules {
            capacity: 100_000,
            capacity_bytes: 10_000_000,
            when_full: WhenFull::Wait,
            expire_after: None,
            catch_up_rate: None,
            keep,
            window: 100_000,
            answer_timeout: None,
            first_number: 1,
        });
        store.begin_link(counts_bytes, NOW);
        store
    }

    pub(in crate::outbox::store) fn accept(store: &mut Store, len: usize) {
        store.accept(&vec![b'x'; len], NOW, false);
    }

    /// Takes a batch and writes all of it. Returns how many messages and bytes it has had.
    pub(in crate::outbox::store) fn write_batch(store: &mut Store) -> (usize, usize) {
        let mut batch = Vec::new();
        store.take(NOW, &mut batch);
        let size = batch.iter().fold((0, 0), |size, run| (size.0 + run.len(), size.1 + run.bytes().len()));
        batch.into_iter().for_each(|run| store.encoded(run));
        store.wrote(size.1);
        size
    }

    #[test]
    fn batch_of_short_messages_has_a_number_of_them() {
        let mut store = store(Keep::Interrupted, true);
        // Two chunks of memory, and more than one batch of messages in the first of them.
        accept(&mut store, BATCH_BYTES - 1);
        (0..BATCH_MESSAGES + 10).for_each(|_| accept(&mut store, 1));
        assert_eq!(BATCH_MESSAGES, 8192);
        assert_eq!(write_batch(&mut store), (2, BATCH_BYTES));
        assert_eq!(write_batch(&mut store).0, BATCH_MESSAGES);
        assert_eq!(write_batch(&mut store).0, 9);
        assert_eq!(write_batch(&mut store).0, 0);
    }

    #[test]
    fn batch_of_several_pieces_has_a_number_of_messages_too() {
        let mut store = store(Keep::Unanswered, true);
        (0..BATCH_MESSAGES as u64 + 10).for_each(|_| accept(&mut store, 1));
        write_batch(&mut store);
        write_batch(&mut store);
        // Some of the first have their answers, so that what goes again lies in pieces.
        [3, 5, 7].into_iter().for_each(|number| store.answer(Answer::One(number)).expect("it was sent"));
        store.end_link(None);
        store.begin_link(true, NOW);
        assert_eq!(write_batch(&mut store).0, BATCH_MESSAGES);
        assert_eq!(write_batch(&mut store).0, 10 - 3);
    }

    #[test]
    fn batch_is_filled_to_the_byte() {
        for (last, expected) in [(BATCH_BYTES - 5_000, (2, BATCH_BYTES)), (BATCH_BYTES - 4_999, (1, 5_000))] {
            let mut store = store(Keep::Unanswered, true);
            [60_000, 5_000, last].into_iter().for_each(|len| accept(&mut store, len));
            write_batch(&mut store);
            store.answer(Answer::One(1)).expect("it was sent");
            store.end_link(None);
            store.begin_link(true, NOW);
            assert_eq!(write_batch(&mut store), expected);
        }
    }

    #[test]
    fn positions_are_forgotten_when_nobody_asks_for_them_any_more() {
        let cases = [(Keep::Interrupted, true), (Keep::Interrupted, false), (Keep::Unanswered, true)];
        for (keep, counts_bytes) in cases {
            let mut store = store(keep, counts_bytes);
            let mut kept = BTreeSet::new();
            for _ in 0..100 {
                accept(&mut store, 100);
                write_batch(&mut store);
                store.flushed(NOW);
                store.flushed(NOW); // Again, without a message.
                assert!(store.flight.size().1 <= 1, "{keep:?}, {counts_bytes}");
                kept.insert(store.flight.size().0);
                if counts_bytes {
                    store.acknowledged(0);
                }
                if keep == Keep::Unanswered {
                    store.answer(Answer::UpTo(store.next_number() - 1)).expect("it was sent");
                }
                assert_eq!(store.flight.size(), (0, 0), "{keep:?}, {counts_bytes}");
            }
            // Where a fate depends on the peer's kernel, they are kept until that has the bytes.
            let is_kept = keep == Keep::Interrupted && counts_bytes;
            assert_eq!(kept, BTreeSet::from([usize::from(is_kept)]), "{keep:?}, {counts_bytes}");
        }
    }
}
