//! Attempts that fail for a reason that time alone does not mend: how long to wait, and what to log. No I/O, no clock.
//!
//! Next: [`LoginDialer`](super::login_dialer::LoginDialer), which waits.

use std::time::Duration;

use crate::backoff::{Backoff, Jitter};

/// The longest delay, unless the program says otherwise.
const DEFAULT_MAX: Duration = Duration::from_secs(60);

/// The delays after such failures. The usual ones go on beside them, and the longer of the two counts.
pub(super) struct Hopeless {
    /// Draws them.
    backoff: Backoff,
    /// How many attempts in a row have failed for such a reason.
    count: u32,
}

impl Hopeless {
    /// For usual delays from `retry_min` to `retry_max`, and up to `longest` for such failures.
    pub(super) fn new(retry_min: Duration, retry_max: Duration, longest: Option<Duration>) -> Self {
        let longest = longest.unwrap_or_else(|| DEFAULT_MAX.max(retry_max));
        Self { backoff: Backoff::new(Jitter::Equal, retry_min, longest, None), count: 0 }
    }

    /// Notes the outcome of an attempt. Returns the delay that follows, and how many have failed like that in a row.
    pub(super) fn note(&mut self, is_hopeless: bool) -> (Duration, u32) {
        if !is_hopeless {
            self.backoff.reset();
            self.count = 0;
            return (Duration::ZERO, 0);
        }
        self.count = self.count.saturating_add(1);
        (self.backoff.next().unwrap_or_default(), self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    #[test]
    fn delays_grow_to_the_longest_and_start_over() {
        let mut hopeless = Hopeless::new(30 * MS, 700 * MS, None);
        let longest = 60 * S;
        for round in 0..3 {
            assert!(hopeless.note(true).0 <= 60 * MS, "{round}");
            for count in 2..=20 {
                let (delay, counted) = hopeless.note(true);
                assert!(delay <= longest && counted == count);
            }
            assert!(hopeless.note(true).0 >= longest / 2);
            assert_eq!(hopeless.note(false), (Duration::ZERO, 0));
        }
    }

    #[test]
    fn longest_delay_may_be_the_usual_one() {
        let mut hopeless = Hopeless::new(700 * MS, 700 * MS, Some(700 * MS));
        assert_eq!(hopeless.note(true), (700 * MS, 1));
        let mut hopeless = Hopeless::new(3600 * S, 3600 * S, None);
        assert_eq!(hopeless.note(true), (3600 * S, 1));
    }
}
