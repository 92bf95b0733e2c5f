//! What a failed accept means, and how long to wait after it. No I/O; the time is given.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

/// The shortest and the longest pause. The longest says how soon the acceptor resumes.
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(100);

/// How far apart the log lines of two outages are at least.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// So many connections that fail one after the other are not the connections' fault.
const TOO_MANY: u32 = 100;

#[derive(Debug, Default)]
pub(super) struct Pauses {
    in_a_row: u32,
    delay: Duration,
    since: Option<Instant>,
    last_told: Option<Instant>,
    is_told: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The next connection, at once.
    GoOn,
    Pause {
        delay: Duration,
        tell: bool,
    },
}

impl Pauses {
    pub(super) fn failed(&mut self, error: &io::Error, now: Instant) -> Verdict {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if is_of_one_connection(error) && self.in_a_row < TOO_MANY {
            return Verdict::GoOn;
        }
        self.delay = (self.delay * 2).clamp(SHORTEST, LONGEST);
        self.since.get_or_insert(now);
        let is_quiet = self.last_told.is_some_and(|last| now.duration_since(last) < BETWEEN_LINES);
        let tell = !self.is_told && !is_quiet;
        if tell {
            self.is_told = true;
            self.last_told = Some(now);
        }
        Verdict::Pause { delay: self.delay, tell }
    }

    /// How long the outage was, if its beginning was told.
    pub(super) fn succeeded(&mut self, now: Instant) -> Option<Duration> {
        self.in_a_row = 0;
        let since = self.since.take()?;
        self.delay = Duration::ZERO;
        std::mem::take(&mut self.is_told).then(|| now.duration_since(since))
    }
}

/// Whether only the one connection is gone that would have been accepted (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    /// EPROTO has no kind of its own.
    const EPROTO: Option<i32> = if cfg!(target_os = "linux") { Some(71) } else { None };
    let kinds = [
        ConnectionAborted,
        ConnectionReset,
        ConnectionRefused,
        Interrupted,
        HostUnreachable,
        NetworkUnreachable,
        NetworkDown,
        TimedOut,
        // A firewall's rule.
        PermissionDenied,
    ];
    kinds.contains(&error.kind()) || (EPROTO.is_some() && error.raw_os_error() == EPROTO)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMFILE: i32 = 24;

    fn delay(verdict: Verdict) -> Duration {
        match verdict {
            Verdict::Pause { delay, .. } => delay,
            Verdict::GoOn => Duration::ZERO,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lost_connection_costs_no_time_unless_all_are() {
        let mut pauses = Pauses::default();
        let lost = io::Error::from(io::ErrorKind::ConnectionAborted);
        for _ in 1..TOO_MANY {
            assert_eq!(pauses.failed(&lost, Instant::now()), Verdict::GoOn);
        }
        assert_eq!(pauses.failed(&lost, Instant::now()), Verdict::Pause { delay: SHORTEST, tell: true });
        assert!(pauses.succeeded(Instant::now()).is_some());
        assert_eq!(pauses.failed(&lost, Instant::now()), Verdict::GoOn);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_up_to_the_longest_and_start_over() {
        let mut pauses = Pauses::default();
        let full = io::Error::from_raw_os_error(EMFILE);
        let delays: Vec<_> = (0..6).map(|_| delay(pauses.failed(&full, Instant::now())).as_millis()).collect();
        assert_eq!(delays, [5, 10, 20, 40, 80, 100]);
        assert!((0..10_000).all(|_| delay(pauses.failed(&full, Instant::now())) == LONGEST));
        pauses.succeeded(Instant::now());
        assert_eq!(delay(pauses.failed(&full, Instant::now())), SHORTEST);
    }

    #[tokio::test(start_paused = true)]
    async fn outages_are_told_once_and_not_too_often() {
        let mut pauses = Pauses::default();
        let full = io::Error::from_raw_os_error(EMFILE);
        let start = Instant::now();
        let mut lines = 0;
        // An accept that fails, and one that succeeds, for a minute.
        for millis in 0..60_000 {
            let now = start + Duration::from_millis(millis);
            let is_told = pauses.failed(&full, now) == Verdict::Pause { delay: SHORTEST, tell: true };
            assert_eq!(pauses.succeeded(now).is_some(), is_told);
            lines += u32::from(is_told);
        }
        assert_eq!(lines, 6);
    }
}
