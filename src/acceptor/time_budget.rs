//! The time budget of one direction of a connection: how long its peer may keep it waiting. No I/O, no clock.
//!
//! Next: [`super::wait_clock`], which measures what is spent.

use std::time::Duration;

/// A budget that waiting for the peer spends and bytes earn back.
///
/// A byte earns a little and not everything. So a peer that sends a byte a second runs out of time almost as fast as
/// one that sends nothing.
#[derive(Debug)]
pub(super) struct TimeBudget {
    /// The whole of it; `None` for no limit.
    limit: Option<Duration>,
    /// What a byte earns.
    per_byte: Duration,
    /// What is left of the limit.
    left: Duration,
    /// What is left for the first message, which bytes do not add to.
    first: Option<Duration>,
}

impl TimeBudget {
    /// A full budget. `first` is the time for the first message.
    pub(super) fn new(first: Option<Duration>, limit: Option<Duration>, per_byte: Duration) -> Self {
        Self { limit, per_byte, left: limit.unwrap_or(Duration::MAX), first }
    }

    /// What is left; `None` for no limit.
    pub(super) fn left(&self) -> Option<Duration> {
        let idle = self.limit.map(|_| self.left);
        match (self.first, idle) {
            (Some(first), Some(idle)) => Some(first.min(idle)),
            (first, idle) => first.or(idle),
        }
    }

    /// Takes the time of a wait, also from the time for the first message.
    pub(super) fn spend(&mut self, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
        self.first = self.first.map(|first| first.saturating_sub(waited));
    }

    /// Gives time back for bytes, up to the limit.
    pub(super) fn earn(&mut self, bytes: usize) {
        let earned = self.per_byte.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.left = self.left.saturating_add(earned).min(self.limit.unwrap_or(Duration::MAX));
    }

    /// Gives everything back, but for the time for the first message.
    pub(super) fn refill(&mut self) {
        self.left = self.limit.unwrap_or(Duration::MAX);
    }

    /// The first message has arrived in time.
    pub(super) fn first_arrived(&mut self) {
        self.first = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn byte_a_second_runs_out_of_time() {
        let mut budget = TimeBudget::new(None, Some(SECOND * 9), SECOND / 10);
        let seconds = (1..).find(|_| {
            budget.spend(SECOND);
            budget.earn(1);
            budget.left() <= Some(SECOND / 10)
        });
        assert_eq!(seconds, Some(10));
    }

    #[test]
    fn enough_bytes_never_run_out_of_time_and_save_nothing_up() {
        let mut budget = TimeBudget::new(None, Some(SECOND * 2), SECOND / 10);
        for _ in 0..1000 {
            budget.spend(SECOND);
            budget.earn(10_000);
        }
        assert_eq!(budget.left(), Some(SECOND * 2));
    }

    #[test]
    fn only_the_first_message_ends_the_first_limit() {
        let mut budget = TimeBudget::new(Some(SECOND * 3), None, SECOND);
        budget.spend(SECOND);
        budget.earn(1);
        budget.refill();
        assert_eq!(budget.left(), Some(SECOND * 2));
        budget.first_arrived();
        assert_eq!(budget.left(), None);
        let budget = TimeBudget::new(Some(SECOND * 3), Some(SECOND), SECOND);
        assert_eq!(budget.left(), Some(SECOND));
    }

    #[test]
    fn extreme_figures_do_no_harm() {
        let mut budget = TimeBudget::new(None, Some(Duration::MAX), Duration::MAX);
        budget.earn(usize::MAX);
        budget.spend(Duration::MAX);
        budget.earn(usize::MAX);
        assert_eq!(budget.left(), Some(Duration::MAX));
    }
}
