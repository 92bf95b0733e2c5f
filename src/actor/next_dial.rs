//! When the next dial begins.
//!
//! Next: [`rules`](super::rules), which decide that there is a delay, and that it is cut short.

use std::time::Duration;

use tokio::time::Instant;

/// When the next dial begins.
pub(super) struct NextDial {
    /// At the end of its delay.
    pub(super) at: Instant,
    /// When the last dial ended. A delay that is cut short is still counted from here.
    last_ended: Instant,
}

impl Default for NextDial {
    fn default() -> Self {
        let now = Instant::now();
        Self { at: now, last_ended: now }
    }
}

impl NextDial {
    /// The delay begins now. One beyond the range of the clock ends in 30 years.
    pub(super) fn delay(&mut self, delay: Duration) {
        let now = Instant::now();
        self.at = now.checked_add(delay).unwrap_or_else(|| now + Duration::from_secs(30 * 365 * 24 * 3600));
    }

    /// A dial ends now.
    pub(super) fn dial_ended(&mut self) {
        self.last_ended = Instant::now();
    }

    /// Cuts the delay short, to `retry_min` after the end of the last dial.
    ///
    /// So no number of calls makes the dials follow each other more closely.
    pub(super) fn shorten(&mut self, retry_min: Duration) {
        if let Some(earliest) = self.last_ended.checked_add(retry_min) {
            self.at = self.at.min(earliest); // rule: dial-now-only-shortens
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const S: Duration = Duration::from_secs(1);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    #[tokio::test(start_paused = true)]
    async fn dial_begins_when_its_delay_is_over() {
        let mut next = NextDial::default();
        advance(S).await;
        next.delay(5 * S);
        assert_eq!(next.at, Instant::now() + 5 * S);
    }

    #[tokio::test(start_paused = true)]
    async fn delay_beyond_the_range_of_the_clock_ends_in_30_years() {
        let mut next = NextDial::default();
        next.delay(Duration::MAX);
        assert_eq!(next.at, Instant::now() + 30 * YEAR);
    }

    #[tokio::test(start_paused = true)]
    async fn delay_that_is_cut_short_ends_retry_min_after_the_last_dial() {
        let mut next = NextDial::default();
        advance(S).await;
        next.dial_ended();
        let ended = Instant::now();
        next.delay(60 * S);
        for _ in 0..2 {
            advance(S).await;
            next.shorten(5 * S);
            assert_eq!(next.at, ended + 5 * S);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn delay_that_is_cut_short_is_never_longer_than_before() {
        let mut next = NextDial::default();
        next.dial_ended();
        next.delay(2 * S);
        for retry_min in [5 * S, Duration::MAX] {
            next.shorten(retry_min);
            assert_eq!(next.at, Instant::now() + 2 * S);
        }
    }
}
