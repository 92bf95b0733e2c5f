//! The law of dials: when they are made, how their delays are drawn, in which order the events come, and when it is over.

use std::time::Duration;

use perconn::Event;

use super::{TICK, Verdict};
use crate::journal::{LogLine, Note};
use crate::schedule::{Record, Settings, UseCase};

/// Where the connection stands by the law.
enum Phase {
    Dialing,
    /// A dial is due at this time.
    Resting(Duration),
    Up(Duration),
    /// No dial is to follow.
    Last,
    Over,
}

struct Law<'a> {
    settings: &'a Settings,
    phase: Phase,
    generation: u64,
    /// Dials since the last stable link.
    attempt: u32,
    /// Redials since then.
    retries: u32,
    /// Delays of the backoff since then.
    drawn: i32,
}

pub(super) fn judge(record: &Record, verdict: &mut Verdict) {
    let settings = &record.settings;
    let mut law =
        Law { settings, phase: Phase::Resting(Duration::ZERO), generation: 0, attempt: 1, retries: 0, drawn: 0 };
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
                // A shared connection first sends what is queued.
                let is_shared = settings.use_case == UseCase::Shared;
                if closed.is_some_and(|(called, is_done)| is_done || (called < at && !is_shared)) {
                    verdict.accuse(at, "a dial after the close");
                }
                match law.phase {
                    Phase::Resting(due) if (due..=due + TICK).contains(&at) || reconnected == Some(at) => {}
                    Phase::Resting(due) => verdict.accuse(at, format!("a dial that was due at {due:?}")),
                    _ => verdict.accuse(at, "a dial that was not due"),
                }
                law.phase = Phase::Dialing;
            }
            Note::Event(event) => {
                if let Err(text) = law.event(at, event) {
                    verdict.accuse(at, format!("{text}: {event}"));
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
        verdict.accuse(Duration::ZERO, format!("the logger was told {logged:?}, and the events are {expected:?}"));
    }
    // A logger that panics is reported elsewhere.
    if panics_logged > panics {
        verdict.accuse(Duration::ZERO, "a panic was logged that nobody had");
    }
    if !matches!(law.phase, Phase::Over) {
        verdict.accuse(Duration::ZERO, "the end was never announced");
    }
    if closed.is_some_and(|(_, is_done)| !is_done) {
        verdict.accuse(Duration::ZERO, "a close never ended");
    }
}

impl Law<'_> {
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
                self.rest(at, *retry_in, false)
            }
            Event::Disconnected { generation, lived, retry_in, .. } => {
                let Phase::Up(since) = self.phase else { return Err("a break without a link") };
                expect(*generation == self.generation, "a wrong generation")?;
                expect(*lived == at - since, "a wrong life time")?;
                let is_stable = *lived >= self.settings.stable_after;
                if is_stable {
                    (self.attempt, self.retries, self.drawn) = (0, 0, 0);
                }
                // The first redial, be it of a stable link or of none, is prompt.
                self.rest(at, *retry_in, self.retries == 0)
            }
            Event::GaveUp { .. } => {
                let max = self.settings.max_retries;
                expect(matches!(self.phase, Phase::Last) && max == Some(self.retries), "it gave up")?;
                self.phase = Phase::Over;
                Ok(())
            }
            Event::Closed => {
                expect(!matches!(self.phase, Phase::Over), "the end came twice")?;
                self.phase = Phase::Over;
                Ok(())
            }
            _ => Err("an unknown event"),
        }
    }

    fn rest(&mut self, at: Duration, delay: Option<Duration>, is_prompt: bool) -> Result<(), &'static str> {
        let Some(delay) = delay else {
            self.phase = Phase::Last;
            return Ok(());
        };
        expect(self.settings.max_retries.is_none_or(|max| self.retries < max), "a retry too many")?;
        self.phase = Phase::Resting(at + delay);
        self.attempt += 1;
        self.retries += 1;
        let Settings { retry_min, retry_max, .. } = *self.settings;
        if is_prompt {
            return expect(delay <= retry_min, "a first redial that is not prompt");
        }
        self.drawn += 1;
        let window = retry_min.mul_f64(2_f64.powi(self.drawn.min(30))).min(retry_max);
        expect(retry_min <= delay, "a delay below the minimum")?;
        expect(delay <= window, "a delay beyond its window")
    }
}

fn expect(holds: bool, otherwise: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(otherwise) }
}
