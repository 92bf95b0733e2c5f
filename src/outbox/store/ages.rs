//! When messages were accepted, to the millisecond: one entry for all messages of a millisecond.
//!
//! Next: [`Store::expire`](super::Store::expire), which asks.

use std::collections::VecDeque;
use std::time::Duration;

use super::shrink::shrink;

/// Messages that were accepted within this time share an entry, and with it the age of the oldest.
const GRAIN: Duration = Duration::from_millis(1);

/// Room for this many entries is kept.
const KEPT_CAPACITY: usize = 256;

/// The times of acceptance, in ascending order.
#[derive(Debug, Default)]
pub(super) struct Ages(VecDeque<(u64, Duration)>);

impl Ages {
    /// Notes the time of a message with a higher number than all before.
    pub(super) fn accept(&mut self, number: u64, now: Duration) {
        if self.0.back().is_none_or(|(_, at)| now >= *at + GRAIN) {
            self.0.push_back((number, now));
        }
    }

    /// When this message was accepted. `None`: not known, as it was never noted.
    pub(super) fn accepted_at(&self, number: u64) -> Option<Duration> {
        let after = self.0.partition_point(|(first, _)| *first <= number);
        Some(self.0.get(after.checked_sub(1)?)?.1)
    }

    /// Drops what is only about messages before this one.
    pub(super) fn forget_before(&mut self, number: u64) {
        while self.0.get(1).is_some_and(|(first, _)| *first <= number) {
            self.0.pop_front();
        }
        shrink(&mut self.0, KEPT_CAPACITY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn messages_of_a_millisecond_share_an_entry_and_no_message_seems_younger_than_it_is() {
        let mut ages = Ages::default();
        for number in 5..1005 {
            ages.accept(number, MS * 7 + Duration::from_nanos(number));
        }
        ages.accept(2000, MS * 20);
        assert_eq!(ages.0.len(), 2);
        assert_eq!(ages.accepted_at(4), None);
        assert_eq!(ages.accepted_at(900), Some(MS * 7 + Duration::from_nanos(5)));
        assert_eq!(ages.accepted_at(3000), Some(MS * 20));
        ages.forget_before(1999);
        assert_eq!(ages.accepted_at(1999), Some(MS * 7 + Duration::from_nanos(5)));
        ages.forget_before(2000);
        assert_eq!(ages.0.len(), 1);
    }

    #[test]
    fn times_of_a_burst_give_their_memory_back() {
        let mut ages = Ages::default();
        (1..=100_000).for_each(|number| ages.accept(number, MS * number as u32));
        assert!(ages.0.capacity() >= 100_000);
        ages.forget_before(100_000);
        assert!(ages.0.capacity() <= 4 * KEPT_CAPACITY, "{}", ages.0.capacity());
        assert_eq!(ages.accepted_at(100_000), Some(MS * 100_000));
    }
}
