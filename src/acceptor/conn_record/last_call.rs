//! How long a stop still accepts what arrives. Pure, but for the clock.
//!
//! Next: [`super::super::stream`], whose reads ask.

use std::time::Duration;

use tokio::time::Instant;

/// What a stop still accepts.
#[derive(Clone, Copy, Debug)]
pub(in crate::acceptor) struct LastCall {
    /// Until then, a connection goes on with what arrives. Later, only with what it has read.
    pub(in crate::acceptor) until: Instant,
    /// How long a connection that reads while it writes must have been quiet to count as idle.
    pub(in crate::acceptor) quiet: Duration,
}

impl LastCall {
    /// The longest. A request that was sent before the stop has arrived by then, and its answer has begun.
    const LONGEST: Duration = Duration::from_secs(1);

    /// Of a stop that begins now and ends at this deadline: one second, but no more than half of the time.
    pub(in crate::acceptor) fn new(deadline: Duration) -> Self {
        let quiet = Self::LONGEST.min(deadline / 2);
        Self { until: Instant::now() + quiet, quiet }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn last_call_takes_a_second_or_half_of_the_time() {
        for (deadline, expected) in [(0, 0), (300, 150), (2_000, 1_000), (u64::MAX, 1_000)] {
            let last_call = LastCall::new(Duration::from_millis(deadline));
            assert_eq!(last_call.quiet, Duration::from_millis(expected));
            assert_eq!(last_call.until, Instant::now() + last_call.quiet);
        }
    }
}
