//! What the task reports to the event hook: rejections one by one, losses at most once a second.
//!
//! Next: [`Event`], what is reported.

use std::time::Duration;

use tokio::time::Instant;

use super::hooks::Hooks;
use super::{Event, Tally};

/// The shortest time between two reports of losses. A full queue can lose a million messages a second.
const PAUSE: Duration = Duration::from_secs(1);

/// The hook, and what it knows.
#[derive(Debug)]
pub(super) struct Reporter {
    /// The program's hook.
    hooks: Hooks,
    /// What was reported last.
    reported: Tally,
    /// When the next report of losses may come.
    not_before: Option<Instant>,
}

impl Reporter {
    /// Nothing was reported.
    pub(super) fn new(hooks: Hooks) -> Self {
        Self { hooks, reported: Tally::default(), not_before: None }
    }

    /// Reports what there is. Returns when to come again for the rest.
    pub(super) fn report(&mut self, tally: Tally, rejections: Vec<(u64, String)>) -> Option<Instant> {
        for (number, reason) in rejections {
            self.hooks.emit(&Event::Rejected { number, reason });
        }
        if !self.has_losses(&tally) {
            return None;
        }
        let now = Instant::now();
        if let Some(due) = self.not_before.filter(|due| now < *due) {
            return Some(due);
        }
        self.not_before = Some(now + PAUSE);
        self.report_losses(tally);
        None
    }

    /// Reports what is left, and the end.
    pub(super) fn report_end(&mut self, tally: Tally, rejections: Vec<(u64, String)>) {
        self.not_before = None;
        self.report(tally, rejections);
        self.hooks.emit(&Event::Ended { tally });
    }

    /// Whether there are losses that were not reported.
    fn has_losses(&self, tally: &Tally) -> bool {
        let of = |tally: &Tally| tally.in_doubt + tally.dropped + tally.expired;
        of(tally) > of(&self.reported)
    }

    /// Reports the losses since the last report.
    fn report_losses(&mut self, tally: Tally) {
        let before = std::mem::replace(&mut self.reported, tally);
        self.hooks.emit(&Event::Lost {
            in_doubt: tally.in_doubt - before.in_doubt,
            dropped: tally.dropped - before.dropped,
            expired: tally.expired - before.expired,
        });
    }
}
