//! Whether every promise was kept, judged from the records of both ends.

use std::fmt;
use std::time::Duration;

use perconn::Event;

use crate::journal::{self, Note};
use crate::schedule::Record;

// The paths are for the fuzz target, which includes this file from elsewhere.
#[path = "judge/law.rs"]
mod law;
#[path = "judge/tellings.rs"]
mod tellings;
#[path = "judge/waits.rs"]
mod waits;
#[path = "judge/wires.rs"]
mod wires;

/// What the judge found.
#[derive(Default)]
pub struct Verdict {
    pub violations: Vec<String>,
    pub operations: usize,
    pub breaks: usize,
}

/// The life of one link, from the events.
#[derive(Clone, Copy, Debug)]
struct Life {
    up: Duration,
    down: Option<Duration>,
}

/// Timers have a resolution of a millisecond, and round up.
const TICK: Duration = Duration::from_millis(2);

/// For how long a shared connection goes on with what is queued when it is closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

impl Verdict {
    pub fn on(record: &Record) -> Self {
        let mut verdict = Self::default();
        for entry in &record.entries {
            match entry.note {
                Note::Began(..) => verdict.operations += 1,
                Note::Event(Event::Disconnected { .. }) => verdict.breaks += 1,
                _ => {}
            }
        }
        verdict.violations.extend(record.hung.clone());
        law::judge(record, &mut verdict);
        tellings::judge(record, &mut verdict);
        wires::judge(record, &mut verdict);
        waits::judge(record, &mut verdict);
        verdict
    }

    fn accuse(&mut self, at: Duration, text: impl fmt::Display) {
        self.violations.push(format!("at {:.6}: {text}", at.as_secs_f64()));
    }

    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

/// The lives of all links; the first is at index 0.
fn lives(record: &Record) -> Vec<Life> {
    let mut lives = Vec::new();
    for entry in &record.entries {
        match &entry.note {
            Note::Event(Event::Connected { .. } | Event::Reconnected { .. }) => {
                lives.push(Life { up: entry.at, down: None });
            }
            Note::Event(Event::Disconnected { .. } | Event::Closed) => {
                if let Some(life) = lives.last_mut().filter(|life| life.down.is_none()) {
                    life.down = Some(entry.at);
                }
            }
            _ => {}
        }
    }
    lives
}

/// The account of a schedule for whoever has to find out what went wrong.
pub fn report(record: &Record, verdict: &Verdict) -> String {
    format!("{:#?}\n{}\n{}", record.settings, journal::text(&record.entries), verdict.violations.join("\n"))
}
