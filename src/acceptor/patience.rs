//! How long a peer is waited for. No I/O, no clock.

use std::time::Duration;

/// The patience with one direction of a connection: it is spent while an operation waits for the peer, and earned by bytes.
///
/// A byte earns a little, not everything: a peer that sends a byte a second runs out of it almost as fast as one that sends
/// nothing.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Option<Duration>,
    per_byte: Duration,
    left: Duration,
    /// What is left of the time for the first byte, which nothing adds to.
    first: Option<Duration>,
}

impl Patience {
    pub(super) fn new(first: Option<Duration>, limit: Option<Duration>, per_byte: Duration) -> Self {
        Self { limit, per_byte, left: limit.unwrap_or(Duration::MAX), first }
    }

    /// `None`: there is no limit.
    pub(super) fn left(&self) -> Option<Duration> {
        let idle = self.limit.map(|_| self.left);
        match (self.first, idle) {
            (Some(first), Some(idle)) => Some(first.min(idle)),
            (first, idle) => first.or(idle),
        }
    }

    pub(super) fn spend(&mut self, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
        self.first = self.first.map(|first| first.saturating_sub(waited));
    }

    pub(super) fn earn(&mut self, bytes: usize) {
        let earned = self.per_byte.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.left = self.left.saturating_add(earned).min(self.limit.unwrap_or(Duration::MAX));
    }

    pub(super) fn renew(&mut self) {
        self.left = self.limit.unwrap_or(Duration::MAX);
    }

    pub(super) fn first_has_come(&mut self) {
        self.first = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn byte_a_second_runs_out_of_it() {
        let mut patience = Patience::new(None, Some(SECOND * 9), SECOND / 10);
        let seconds = (1..).find(|_| {
            patience.spend(SECOND);
            patience.earn(1);
            patience.left() <= Some(SECOND / 10)
        });
        assert_eq!(seconds, Some(10));
    }

    #[test]
    fn enough_bytes_never_run_out_of_it_and_save_nothing_up() {
        let mut patience = Patience::new(None, Some(SECOND * 2), SECOND / 10);
        for _ in 0..1000 {
            patience.spend(SECOND);
            patience.earn(10_000);
        }
        assert_eq!(patience.left(), Some(SECOND * 2));
    }

    #[test]
    fn only_the_first_message_ends_the_first_limit() {
        let mut patience = Patience::new(Some(SECOND * 3), None, SECOND);
        patience.spend(SECOND);
        patience.earn(1);
        patience.renew();
        assert_eq!(patience.left(), Some(SECOND * 2));
        patience.first_has_come();
        assert_eq!(patience.left(), None);
        let patience = Patience::new(Some(SECOND * 3), Some(SECOND), SECOND);
        assert_eq!(patience.left(), Some(SECOND));
    }

    #[test]
    fn extreme_figures_do_no_harm() {
        let mut patience = Patience::new(None, Some(Duration::MAX), Duration::MAX);
        patience.earn(usize::MAX);
        patience.spend(Duration::MAX);
        patience.earn(usize::MAX);
        assert_eq!(patience.left(), Some(Duration::MAX));
    }
}
