//! The backoff of the accept loop: what a failed accept means, and how long to wait after it. No I/O; the time is
//! given.
//!
//! Next: [`super::accept_loop`], which follows it.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

/// The shortest pause.
const SHORTEST: Duration = Duration::from_millis(5);

/// The longest pause. It limits how late the acceptor resumes.
const LONGEST: Duration = Duration::from_millis(100);

/// The shortest time between the reports of two outages.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// From this number of failures in a row, the cause is not the connections that would have been accepted.
const TOO_MANY: u32 = 100;

/// How accepts have failed lately.
#[derive(Debug, Default)]
pub(super) struct AcceptBackoff {
    /// Since the last success.
    failures_in_a_row: u32,
    /// The last pause; zero outside of an outage.
    delay: Duration,
    /// When the present outage began.
    since: Option<Instant>,
    /// Whether the present outage was reported.
    is_reported: bool,
    /// When an outage was reported last.
    last_report: Option<Instant>,
}

/// What to do after an accept that failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AfterFailure {
    /// Accept again at once.
    Retry,
    /// Wait for `delay`; `report` the outage if it is a new one.
    Pause {
        /// From 5 to 100 ms, twice the last pause of the same outage.
        delay: Duration,
        /// Not for an outage that was reported, or that begins within 10 s of the last report.
        report: bool,
    },
}

impl AcceptBackoff {
    /// Notes a failure. Returns what to do about it.
    ///
    /// An error of one connection costs no pause, unless very many come in a row. Any other error starts an outage,
    /// or prolongs it: each further pause is twice as long, up to the longest.
    pub(super) fn on_failure(&mut self, error: &io::Error, now: Instant) -> AfterFailure {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if is_of_one_connection(error) && self.failures_in_a_row < TOO_MANY {
            return AfterFailure::Retry;
        }
        self.delay = (self.delay * 2).clamp(SHORTEST, LONGEST);
        self.since.get_or_insert(now);
        let is_too_soon = self.last_report.is_some_and(|last| now.duration_since(last) < REPORT_INTERVAL);
        let report = !self.is_reported && !is_too_soon;
        if report {
            self.is_reported = true;
            self.last_report = Some(now);
        }
        AfterFailure::Pause { delay: self.delay, report }
    }

    /// Notes a success, which ends an outage. Returns its length if its beginning was reported.
    pub(super) fn on_success(&mut self, now: Instant) -> Option<Duration> {
        self.failures_in_a_row = 0;
        let since = self.since.take()?;
        self.delay = Duration::ZERO;
        std::mem::take(&mut self.is_reported).then(|| now.duration_since(since))
    }
}

/// Whether the error belongs to the one connection that would have been accepted (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    /// EPROTO has no kind of its own.
    const EPROTO: Option<i32> = if cfg!(all(target_os = "linux", not(perconn_portable))) { Some(71) } else { None };
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

    fn delay(after: AfterFailure) -> Duration {
        match after {
            AfterFailure::Pause { delay, .. } => delay,
            AfterFailure::Retry => Duration::ZERO,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lost_connection_costs_no_time_unless_all_are_lost() {
        let mut backoff = AcceptBackoff::default();
        let lost = io::Error::from(io::ErrorKind::ConnectionAborted);
        for _ in 1..TOO_MANY {
            assert_eq!(backoff.on_failure(&lost, Instant::now()), AfterFailure::Retry);
        }
        let expected = AfterFailure::Pause { delay: SHORTEST, report: true };
        assert_eq!(backoff.on_failure(&lost, Instant::now()), expected);
        assert!(backoff.on_success(Instant::now()).is_some());
        assert_eq!(backoff.on_failure(&lost, Instant::now()), AfterFailure::Retry);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_up_to_the_longest_and_start_over() {
        let mut backoff = AcceptBackoff::default();
        let full = io::Error::from_raw_os_error(EMFILE);
        let delays: Vec<_> = (0..6).map(|_| delay(backoff.on_failure(&full, Instant::now())).as_millis()).collect();
        assert_eq!(delays, [5, 10, 20, 40, 80, 100]);
        assert!((0..10_000).all(|_| delay(backoff.on_failure(&full, Instant::now())) == LONGEST));
        backoff.on_success(Instant::now());
        assert_eq!(delay(backoff.on_failure(&full, Instant::now())), SHORTEST);
    }

    #[tokio::test(start_paused = true)]
    async fn outages_are_reported_once_and_not_too_often() {
        let mut backoff = AcceptBackoff::default();
        let full = io::Error::from_raw_os_error(EMFILE);
        let start = Instant::now();
        let mut reports = 0;
        // For a minute, an accept that fails and one that succeeds take turns.
        for millis in 0..60_000 {
            let now = start + Duration::from_millis(millis);
            let is_reported = backoff.on_failure(&full, now) == AfterFailure::Pause { delay: SHORTEST, report: true };
            assert_eq!(backoff.on_success(now).is_some(), is_reported);
            reports += u32::from(is_reported);
        }
        assert_eq!(reports, 6);
    }
}
