//! Checks dials and events: when dials are made and to which server, how long their delays are, in which order events
//! come, and when the connection ends.
//!
//! Next: `reports.rs`.

use std::time::Duration;

use perconn::Event;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{Findings, TICK};
use crate::journal::{LogLine, Note, Operation};
use crate::schedule::{Record, Settings};

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
    delays: Delays,
    /// When the last dial ended.
    last_ended: Duration,
    /// `dial_now` was called during a dial, or after a break whose event is still to come.
    is_dial_wanted: bool,
    servers: ServerOrder,
}

/// The delays of the backoff, drawn again from the same seed.
struct Delays {
    random: SmallRng,
    min: Duration,
    max: Duration,
    /// The upper end of the last window.
    upper: Duration,
}

impl Delays {
    fn new(settings: &Settings) -> Self {
        let Settings { retry_min, retry_max, jitter_seed, .. } = *settings;
        let random = SmallRng::seed_from_u64(jitter_seed);
        Self { random, min: retry_min, max: retry_max, upper: retry_min }
    }

    /// The window of the next delay doubles, and starts over after a stable link.
    fn next(&mut self, is_first: bool) -> Duration {
        if is_first {
            self.upper = self.min;
            return self.random.random_range(Duration::ZERO..=self.min);
        }
        self.upper = (self.upper * 2).min(self.max);
        self.random.random_range(self.min..=self.upper)
    }
}

/// To which servers the dials go.
struct ServerOrder {
    count: usize,
    /// The server that the next dial has to go to, if that is known.
    expected: Option<usize>,
    /// The servers of the dials since the last stable link, which was the first server's.
    dialed: Vec<usize>,
}

impl ServerOrder {
    /// A dial to this server.
    fn dial(&mut self, server: usize) -> Result<(), String> {
        if let Some(expected) = self.expected.take().filter(|expected| *expected != server) {
            return Err(format!("a dial to server {server}, and not to {expected}, which had kept its link"));
        }
        // As many dials as there are servers reach each of them.
        let recent = &self.dialed[self.dialed.len().saturating_sub(self.count - 1)..];
        if recent.contains(&server) {
            return Err(format!("a dial to server {server} after those to {recent:?}, of {} servers", self.count));
        }
        self.dialed.push(server);
        Ok(())
    }

    /// The break of a stable link. Its server is dialed first again.
    fn stable_link_broke(&mut self) {
        self.expected = self.dialed.last().copied();
        self.dialed.clear();
    }
}

pub(super) fn check(record: &Record, findings: &mut Findings) {
    let settings = &record.settings;
    let mut dials = DialChecker {
        settings,
        phase: Phase::BackingOff(Duration::ZERO),
        generation: 0,
        attempt: 1,
        retries: 0,
        delays: Delays::new(settings),
        last_ended: Duration::ZERO,
        is_dial_wanted: false,
        servers: ServerOrder { count: settings.servers.count, expected: Some(0), dialed: Vec::new() },
    };
    let (mut logged, mut expected) = (Vec::new(), Vec::new());
    let (mut panics, mut panics_logged) = (0, 0);
    let mut closed = None;
    let mut is_shut_down = false;
    for entry in &record.entries {
        let at = entry.at;
        match &entry.note {
            Note::DialNow { is_up } => dials.dial_now(at, *is_up),
            Note::CloseCalled => closed = closed.or(Some((at, false))),
            Note::CloseDone => closed = closed.map(|(at, _)| (at, true)),
            Note::Finished(_, Operation::Shutdown, _) => is_shut_down = true,
            Note::DialBegan(server) => {
                if is_shut_down {
                    findings.add(at, "a dial after the shutdown");
                }
                if let Err(text) = dials.servers.dial(*server) {
                    findings.add(at, text);
                }
                // A shared connection first sends its queue.
                let is_shared = settings.use_case.has_queue();
                if closed.is_some_and(|(called, is_done)| is_done || (called < at && !is_shared)) {
                    findings.add(at, "a dial after the close");
                }
                match dials.phase {
                    Phase::BackingOff(due) if (due..=due + TICK).contains(&at) => {}
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
                self.last_ended = at;
                self.is_dial_wanted = false;
                let is_first = matches!(event, Event::Connected { .. });
                expect(*generation == self.generation && is_first == (self.generation == 1), "a wrong generation")?;
                expect(*attempt == self.attempt, "a wrong attempt")
            }
            Event::DialFailed { attempt, retry_in, .. } => {
                if !matches!(self.phase, Phase::Dialing) {
                    return Err("a failure without a dial");
                }
                expect(*attempt == self.attempt, "a wrong attempt")?;
                self.last_ended = at;
                if self.settings.connects && self.generation == 0 {
                    return self.next_of_first_dials(at, *retry_in);
                }
                let is_last = self.settings.max_retries == Some(self.retries);
                expect(retry_in.is_some() || is_last, "a failed dial that no other follows")?;
                self.back_off(at, *retry_in, false)
            }
            Event::Disconnected { generation, lived, retry_in, .. } => {
                let Phase::Up(since) = self.phase else { return Err("a break without a link") };
                expect(*generation == self.generation, "a wrong generation")?;
                expect(*lived == at - since, "a wrong lifetime")?;
                let is_stable = *lived >= self.settings.stable_after;
                if is_stable {
                    (self.attempt, self.retries) = (0, 0);
                    self.servers.stable_link_broke();
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

    /// A `connect` dials each server once, without a delay, until one dial succeeds.
    fn next_of_first_dials(&mut self, at: Duration, delay: Option<Duration>) -> Result<(), &'static str> {
        self.is_dial_wanted = false;
        if self.attempt as usize == self.settings.servers.count {
            self.phase = Phase::Last;
            return expect(delay.is_none(), "a connect that dials too often");
        }
        self.phase = Phase::BackingOff(at);
        self.attempt += 1;
        expect(delay == Some(Duration::ZERO), "a connect that does not dial each server at once")
    }

    fn back_off(&mut self, at: Duration, delay: Option<Duration>, is_first: bool) -> Result<(), &'static str> {
        let is_dial_wanted = std::mem::take(&mut self.is_dial_wanted);
        let is_after_dial = matches!(self.phase, Phase::Dialing);
        let Some(delay) = delay else {
            self.phase = Phase::Last;
            return Ok(());
        };
        expect(self.settings.max_retries.is_none_or(|max| self.retries < max), "a retry too many")?;
        self.phase = Phase::BackingOff(at + delay);
        if is_dial_wanted {
            self.dial_now(at, false);
        }
        self.attempt += 1;
        self.retries += 1;
        let Settings { retry_min, retry_max, .. } = *self.settings;
        let drawn = self.delays.next(is_first);
        // A wish during the dial counts for the delay after it.
        let drawn = if is_dial_wanted && is_after_dial { drawn.min(retry_min) } else { drawn };
        if is_first {
            expect(delay <= retry_min, "a first redial after more than retry_min")?;
        } else {
            expect((retry_min..=retry_max).contains(&delay), "a delay beyond its bounds")?;
        }
        expect(delay == drawn, "a delay that is not the next one of the backoff")
    }

    /// A delay that runs is cut short, to `retry_min` after the last dial. Nothing else changes.
    fn dial_now(&mut self, at: Duration, is_up: bool) {
        match &mut self.phase {
            Phase::BackingOff(due) => *due = (*due).min(at.max(self.last_ended + self.settings.retry_min)),
            Phase::Up(_) => self.is_dial_wanted |= !is_up,
            Phase::Dialing => self.is_dial_wanted = true,
            Phase::Last | Phase::Over => {}
        }
    }
}

/// An error if a condition does not hold.
fn expect(holds: bool, otherwise: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(otherwise) }
}
