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
