//! When the task asks its kernel what the peer's kernel has acknowledged. No event says so.
//!
//! Next: [`Session::unacknowledged`](crate::Session::unacknowledged), the question itself.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause between two questions. A peer on the same network has acknowledged by then.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest. A peer that takes its time is asked about as often as a program looks at a tally.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The next question, with a pause before it that doubles while there is no news.
#[derive(Debug)]
pub(super) struct AckPoll {
    /// When it is due, once it is known to be needed.
    at: Option<Instant>,
    /// The pause before it.
    pause: Duration,
}

impl AckPoll {
    /// Bytes were written.
    pub(super) fn new() -> Self {
        Self { at: None, pause: FIRST_PAUSE }
    }

    /// When the question is due.
    pub(super) fn due(&mut self, now: Instant) -> Instant {
        *self.at.get_or_insert_with(|| now + self.pause)
    }

    /// Whether it is due now. Then it is taken.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let is_due = self.at.is_some_and(|at| at <= now);
        if is_due {
            self.at = None;
        }
        is_due
    }

    /// The kernel has answered. `is_news`: something was acknowledged.
    pub(super) fn answered(&mut self, is_news: bool) {
        self.pause = if is_news { FIRST_PAUSE } else { (self.pause * 2).min(LONGEST_PAUSE) };
    }
}
