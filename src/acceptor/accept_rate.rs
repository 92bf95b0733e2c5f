//! The rate of accepts: a number of accepts in a second, which may also come at once. Pure, but for the clock.
//!
//! Clients beyond it wait in the kernel's queue, so that a rush after an outage reaches the program as a stream.
//!
//! Next: [`super::accept_loop`], which waits before it accepts.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// When the next accept may be. (A leaky bucket that holds the accepts of one second: GCRA, ITU-T I.371.)
#[derive(Debug)]
pub(super) struct AcceptRate {
    /// The time that one accept takes up.
    interval: Duration,
    /// When all accepts so far are made up for.
    paid_until: Instant,
}

/// The part of the rate that can come at once.
const BURST: Duration = Duration::from_secs(1);

impl AcceptRate {
    /// This many accepts in a second; at least 1.
    pub(super) fn new(per_second: u32) -> Self {
        Self { interval: BURST / per_second, paid_until: Instant::now() }
    }

    /// Waits until there may be one more accept.
    ///
    /// Cancel safe: it counts nothing.
    pub(super) async fn ready(&self) {
        let at = self.paid_until + self.interval;
        if let Some(at) = at.checked_sub(BURST).filter(|at| *at > Instant::now()) {
            sleep_until(at).await;
        }
    }

    /// Counts an accept.
    pub(super) fn note_accepted(&mut self) {
        self.paid_until = self.paid_until.max(Instant::now()) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts as fast as the rate allows. Returns the time of each accept.
    async fn accepts(rate: &mut AcceptRate, count: usize) -> Vec<Duration> {
        let start = Instant::now();
        let mut times = Vec::new();
        for _ in 0..count {
            rate.ready().await;
            rate.note_accepted();
            times.push(start.elapsed());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn rush_gets_one_second_of_the_rate_at_once_and_the_rest_in_time() {
        let mut rate = AcceptRate::new(10);
        let times = accepts(&mut rate, 40).await;
        assert!(times[..10].iter().all(Duration::is_zero), "{times:?}");
        for (number, time) in times.iter().enumerate().skip(10) {
            let expected = Duration::from_millis(100) * (number as u32 - 9);
            assert!(*time >= expected && *time < expected + Duration::from_millis(2), "{number}: {time:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pause_saves_up_one_second_and_no_more() {
        let mut rate = AcceptRate::new(10);
        accepts(&mut rate, 20).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let times = accepts(&mut rate, 11).await;
        assert!(times[9].is_zero() && !times[10].is_zero(), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn extreme_rates_do_no_harm() {
        assert!(accepts(&mut AcceptRate::new(u32::MAX), 1000).await[999].is_zero());
        let times = accepts(&mut AcceptRate::new(1), 3).await;
        assert!(times[0].is_zero() && times[1] >= Duration::from_secs(1), "{times:?}");
    }
}
