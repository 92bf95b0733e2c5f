//! Which failures of a long outage become a line of the default log.
//!
//! The first five of an outage do, and then at most one in a time that grows from one minute to one hour. The line says how many
//! failures have had none. The link that ends the outage gets a line, too. The program's own logger gets every failure. No I/O
//! here, and no clock.
//!
//! Next: [`hooks`](crate::hooks), where the lines are written.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// How many failures have a line each.
const FIRST: u32 = 5;

/// The shortest and the longest time between two lines after those.
const PAUSES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// The lines of the present outage.
#[derive(Debug, Default)]
pub(crate) struct OutageLog {
    /// How many failures have had a line, of the first ones.
    lines: u32,
    /// How many have had none since the last line.
    skipped: u32,
    /// When the next line may come, and how long the pause before it is. `None` during the first ones.
    next: Option<(Instant, Duration)>,
    /// A dial has failed since the last link.
    has_dial_failed: bool,
}

impl OutageLog {
    /// Whether a failure gets a line. If so: how many have had none since the last one.
    pub(super) fn failed(&mut self, is_dial: bool, now: Instant) -> Option<u32> {
        self.has_dial_failed |= is_dial;
        let pause = match self.next {
            None if self.lines < FIRST => {
                self.lines += 1;
                return Some(0);
            }
            None => PAUSES.0,
            Some((at, _)) if now < at => {
                self.skipped += 1;
                return None;
            }
            Some((_, pause)) => (2 * pause).min(PAUSES.1),
        };
        self.next = Some((now + pause, pause));
        Some(std::mem::take(&mut self.skipped))
    }

    /// Whether a link gets a line, as the end of the outage. If so: how many failures have had none since the last one.
    ///
    /// A link that a server accepts and closes again and again gets one only while each of its breaks does.
    pub(super) fn connected(&mut self) -> Option<u32> {
        let is_end = std::mem::take(&mut self.has_dial_failed) || self.next.is_none();
        is_end.then(|| std::mem::take(&mut self.skipped))
    }
}

/// The end of a line: how many failures before it have had none.
pub(super) struct Skipped(pub(super) u32);

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => f.write_str(" (and one failure since the last line)"),
            count => write!(f, " (and {count} failures since the last line)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Failures with this time between them: those that get a line, as (number from 1, failures without one before it).
    fn lines(between: Duration, failures: u32) -> Vec<(u32, u32)> {
        let (mut log, start) = (OutageLog::default(), Instant::now());
        let with_line = |failure| log.failed(true, start + between * failure).map(|skipped| (failure, skipped));
        (1..=failures).filter_map(with_line).collect()
    }

    #[test]
    fn first_failures_get_a_line_each_and_later_ones_at_most_one_an_hour() {
        let day = lines(Duration::from_secs(60), 24 * 60);
        let first: Vec<_> = (1..=6).map(|failure| (failure, 0)).collect();
        assert_eq!(day[..6], first);
        // One minute, and then twice as long each time.
        assert_eq!(day[6..9], [(7, 0), (9, 1), (13, 3)]);
        assert_eq!(day.last().map(|line| line.1), Some(59));
        assert!(day.len() < 6 + 7 + 24, "{}", day.len());
        let all: u32 = day.iter().map(|line| 1 + line.1).sum();
        assert_eq!(all, day.last().map_or(0, |line| line.0), "every failure has a line or is counted");
    }

    #[test]
    fn failures_that_are_far_apart_get_a_line_each() {
        assert_eq!(lines(Duration::from_secs(3600), 30).len(), 30);
    }

    #[test]
    fn link_after_failed_dials_gets_a_line_with_the_failures_that_had_none() {
        let (mut log, now) = (OutageLog::default(), Instant::now());
        let lines = (0..100).filter_map(|_| log.failed(true, now)).count();
        assert_eq!(lines, 6);
        assert_eq!(log.connected(), Some(94));
    }

    #[test]
    fn links_that_break_at_once_get_a_line_only_while_their_breaks_do() {
        let (mut log, now) = (OutageLog::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(log.failed(false, now), Some(0));
            assert_eq!(log.connected(), Some(0));
        }
        assert_eq!(log.failed(false, now), Some(0));
        assert_eq!(log.connected(), None);
    }
}
