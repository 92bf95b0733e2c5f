//! The checker: whether a schedule kept every promise, by the records of both ends.
//!
//! Each module checks one group of promises: `dials` delays, addresses and events, `reports` what handles report of a
//! break, `abandons` links that the program gives up, `frames` what the server received, `short_links` what comes after a link that was not stable, `waits` how long operations take.
//! Next: `checker/dials.rs`.

use std::fmt;
use std::time::Duration;

use perconn::Event;

use crate::journal::{self, Note};
use crate::schedule::Record;

// The paths are for the fuzz target, which includes this file from elsewhere.
#[path = "checker/abandons.rs"]
mod abandons;
#[path = "checker/dials.rs"]
mod dials;
#[path = "checker/frames.rs"]
mod frames;
#[path = "checker/reports.rs"]
mod reports;
#[path = "checker/short_links.rs"]
mod short_links;
#[path = "checker/waits.rs"]
mod waits;

/// What the checker found.
#[derive(Default)]
pub struct Findings {
    pub violations: Vec<String>,
    pub operations: usize,
    pub breaks: usize,
    pub abandons: usize,
    pub answers: usize,
}

/// When one link was up, by the events.
#[derive(Clone, Copy, Debug)]
struct Lifetime {
    up: Duration,
    down: Option<Duration>,
}

/// Timers have a resolution of a millisecond and round up.
const TICK: Duration = Duration::from_millis(2);

/// How long a shared connection goes on sending queued jobs after a close.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

impl Findings {
    /// Checks a schedule.
    pub fn of(record: &Record) -> Self {
        let mut findings = Self::default();
        for entry in &record.entries {
            match entry.note {
                Note::Began(..) => findings.operations += 1,
                Note::Event(Event::Disconnected { .. }) => findings.breaks += 1,
                Note::Abandoned(..) => findings.abandons += 1,
                Note::Answer { .. } => findings.answers += 1,
                _ => {}
            }
        }
        findings.violations.extend(record.hung.clone());
        dials::check(record, &mut findings);
        reports::check(record, &mut findings);
        abandons::check(record, &mut findings);
        frames::check(record, &mut findings);
        short_links::check(record, &mut findings);
        waits::check(record, &mut findings);
        findings
    }

    /// Adds a violation.
    fn add(&mut self, at: Duration, text: impl fmt::Display) {
        self.violations.push(format!("at {:.6}: {text}", at.as_secs_f64()));
    }

    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

/// The lifetimes of all links; the first link is at index 0.
fn lifetimes(record: &Record) -> Vec<Lifetime> {
    let mut lifetimes = Vec::new();
    for entry in &record.entries {
        match &entry.note {
            Note::Event(Event::Connected { .. } | Event::Reconnected { .. }) => {
                lifetimes.push(Lifetime { up: entry.at, down: None });
            }
            Note::Event(Event::Disconnected { .. } | Event::Closed) => {
                if let Some(lifetime) = lifetimes.last_mut().filter(|lifetime| lifetime.down.is_none()) {
                    lifetime.down = Some(entry.at);
                }
            }
            _ => {}
        }
    }
    lifetimes
}

/// The settings, the journal and the violations of a schedule.
pub fn report(record: &Record, findings: &Findings) -> String {
    format!("{:#?}\n{}\n{}", record.settings, journal::text(&record.entries), findings.violations.join("\n"))
}
