//! The rate at which a backlog goes out after an outage.
//!
//! Next: [`Store::take`](super::Store::take), which asks.

use std::time::Duration;

/// Limits the messages of one link until the queue is empty for the first time.
///
/// The messages that were accepted since the link came up go out on top of the rate, so that the backlog shrinks at the
/// rate whatever the program sends.
#[derive(Debug)]
pub(super) struct Pace {
    /// Messages of the backlog a second.
    rate: u32,
    /// When the link came up.
    since: Duration,
    /// How many messages were accepted since.
    accepted: u64,
    /// How many messages were sent since.
    sent: u64,
}

/// The shortest time between two batches: less would wake the task for single messages.
const TICK: Duration = Duration::from_millis(10);

impl Pace {
    /// Begins with a link.
    pub(super) fn new(rate: u32, now: Duration) -> Self {
        Self { rate, since: now, accepted: 0, sent: 0 }
    }

    /// A message was accepted.
    pub(super) fn accept(&mut self) {
        self.accepted += 1;
    }

    /// These messages go out.
    pub(super) fn send(&mut self, messages: u64) {
        self.sent += messages;
    }

    /// How many more messages may go out.
    pub(super) fn allowance(&self, now: Duration) -> usize {
        usize::try_from(self.allowed(now).saturating_sub(self.sent)).unwrap_or(usize::MAX)
    }

    /// When the next batch may go out: at the next tick, or later if one message takes longer.
    pub(super) fn next(&self, now: Duration) -> Duration {
        if self.allowance(now) > 0 {
            return now;
        }
        // Not allowed, so more were sent than were accepted.
        let of_backlog = u128::from(self.sent - self.accepted);
        let micros = (of_backlog * 1_000_000).div_ceil(u128::from(self.rate));
        let due = self.since + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        due.max(now + TICK)
    }

    /// How many messages may have gone out by now. The first may at once.
    fn allowed(&self, now: Duration) -> u64 {
        let elapsed = now.saturating_sub(self.since).as_micros();
        let of_backlog = elapsed * u128::from(self.rate) / 1_000_000;
        (1 + self.accepted).saturating_add(u64::try_from(of_backlog).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backlog_shrinks_at_the_rate_whatever_is_added() {
        let start = Duration::from_secs(100);
        let mut pace = Pace::new(1000, start);
        let mut backlog = 5_000_i64;
        let mut now = start;
        while now < start + Duration::from_secs(2) {
            (0..7).for_each(|_| pace.accept());
            backlog += 7;
            while pace.allowance(now) > 0 {
                pace.send(1);
                backlog -= 1;
            }
            let next = pace.next(now);
            assert!(next >= now + TICK);
            now = next;
        }
        assert!((2_990..=3_020).contains(&backlog), "{backlog}");
    }

    #[test]
    fn slow_rate_waits_for_one_message() {
        let mut pace = Pace::new(2, Duration::ZERO);
        assert!(pace.allowance(Duration::ZERO) > 0);
        pace.send(1);
        assert_eq!(pace.allowance(Duration::from_millis(499)), 0);
        assert_eq!(pace.next(Duration::from_millis(20)), Duration::from_millis(500));
        assert!(pace.allowance(Duration::from_millis(500)) > 0);
    }
}
