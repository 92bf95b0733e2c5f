//! Checks dials and events: when dials are made, how long their delays are, in which order events come, and when the
//! connection ends.
//!
//! Next: `reports.rs`.

use std::time::Duration;

use perconn::Event;

use super::{Findings, TICK};
use crate::journal::{LogLine, Note};
use crate::schedule::{Record, Settings, UseCase};

/// The state of the connection, by its events.
enum Phase {
    Dialing,
    /// A dial is due at this time.
    BackingOff(Duration),
    Up(Duration),
    /// No dial follows.
    Last,
    Over,
}

/// Follows the events and knows what may come next.
struct DialChecker<'a> {
    settings: &'a Settings,
    phase: Phase,
    generation: u64,
    /// The number of dials since the last stable link.
    attempt: u32,
    /// The number of redials since then.
    retries: u32,
    /// The number of delays of the backoff since then.
    drawn: i32,
}

pub(super) fn check(record: &Record, findings: &mut Findings) {
    let settings = &record.settings;
    let mut dials = DialChecker {
        settings,
        phase: Phase::BackingOff(Duration::ZERO),
        generation: 0,
        attempt: 1,
        retries: 0,
        drawn: 0,
    };
    let (mut logged, mut expected) = (Vec::new(), Vec::new());
    let (mut panics, mut panics_logged) = (0, 0);
    let mut reconnected = None;
    let mut closed = None;
    for entry in &record.entries {
        let at = entry.at;
        match &entry.note {
            Note::Reconnect => reconnected = Some(at),
            Note::CloseCalled => closed = closed.or(Some((at, false))),
            Note::CloseDone => closed = closed.map(|(at, _)| (at, true)),
            Note::DialBegan => {
                // A shared connection first sends its queue.
                let is_shared = settings.use_case == UseCase::Shared;
                if closed.is_some_and(|(called, is_done)| is_done || (called < at && !is_shared)) {
                    findings.add(at, "a dial after the close");
                }
                match dials.phase {
                    Phase::BackingOff(due) if (due..=due + TICK).contains(&at) || reconnected == Some(at) => {}
                    Phase::BackingOff(due) => findings.add(at, format!("a dial that was due at {due:?}")),
                    _ => findings.add(at, "a dial that was not due"),
                }
                dials.phase = Phase::Dialing;
            }
            Note::Event(event) => {
                if let Err(text) = dials.event(at, event) {
                    findings.add(at, format!("{text}: {event}"));
                }
                expected.extend(match event {
                    Event::DialFailed { .. } => Some(LogLine::DialFailure),
                    Event::Disconnected { generation, .. } => Some(LogLine::Break(*generation)),
                    Event::GaveUp { .. } => Some(LogLine::GaveUp),
                    _ => None,
                });
            }
            Note::HookPanicked => panics += 1,
            Note::Logged(LogLine::HookPanicked) => panics_logged += 1,
            Note::Logged(line) => logged.push(*line),
            _ => {}
        }
    }
    if logged != expected {
        findings.add(Duration::ZERO, format!("the logger got {logged:?}, and by the events it should be {expected:?}"));
    }
    // The panic of a logger is not logged there.
    if panics_logged > panics {
        findings.add(Duration::ZERO, "a panic was logged that did not happen");
    }
    if !matches!(dials.phase, Phase::Over) {
        findings.add(Duration::ZERO, "there was no event of the end");
    }
    if closed.is_some_and(|(_, is_done)| !is_done) {
        findings.add(Duration::ZERO, "a close never ended");
    }
}

impl DialChecker<'_> {
    fn event(&mut self, at: Duration, event: &Event) -> Result<(), &'static str> {
        match event {
            Event::Connected { generation, attempt, .. } | Event::Reconnected { generation, attempt, .. } => {
                if !matches!(self.phase, Phase::Dialing) {
                    return Err("a link without a dial");
                }
                self.generation += 1;
                self.phase = Phase::Up(at);
                let is_first = matches!(event, Event::Connected { .. });
                expect(*generation == self.generation && is_first == (self.generation == 1), "a wrong generation")?;
                expect(*attempt == self.attempt, "a wrong attempt")
            }
            Event::DialFailed { attempt, retry_in, .. } => {
                if !matches!(self.phase, Phase::Dialing) {
                    return Err("a failure without a dial");
                }
                expect(*attempt == self.attempt, "a wrong attempt")?;
                self.back_off(at, *retry_in, false)
            }
            Event::Disconnected { generation, lived, retry_in, .. } => {
                let Phase::Up(since) = self.phase else { return Err("a break without a link") };
                expect(*generation == self.generation, "a wrong generation")?;
                expect(*lived == at - since, "a wrong lifetime")?;
                let is_stable = *lived >= self.settings.stable_after;
                if is_stable {
                    (self.attempt, self.retries, self.drawn) = (0, 0, 0);
                }
                // The first redial after a stable link, and the first of all, comes after a part of `retry_min`.
                self.back_off(at, *retry_in, self.retries == 0)
            }
            Event::GaveUp { .. } => {
                let max = self.settings.max_retries;
                expect(matches!(self.phase, Phase::Last) && max == Some(self.retries), "it gave up at a wrong time")?;
                self.phase = Phase::Over;
                Ok(())
            }
            Event::Closed => {
                expect(!matches!(self.phase, Phase::Over), "a second event of the end")?;
                self.phase = Phase::Over;
                Ok(())
            }
            _ => Err("an unknown event"),
        }
    }

    fn back_off(&mut self, at: Duration, delay: Option<Duration>, is_first: bool) -> Result<(), &'static str> {
        let Some(delay) = delay else {
            self.phase = Phase::Last;
            return Ok(());
        };
        expect(self.settings.max_retries.is_none_or(|max| self.retries < max), "a retry too many")?;
        self.phase = Phase::BackingOff(at + delay);
        self.attempt += 1;
        self.retries += 1;
        let Settings { retry_min, retry_max, .. } = *self.settings;
        if is_first {
            return expect(delay <= retry_min, "a first redial after more than retry_min");
        }
        self.drawn += 1;
        let window = retry_min.mul_f64(2_f64.powi(self.drawn.min(30))).min(retry_max);
        expect(retry_min <= delay, "a delay below the minimum")?;
        expect(delay <= window, "a delay beyond its window")
    }
}

/// An error if a condition does not hold.
fn expect(holds: bool, otherwise: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(otherwise) }
}
