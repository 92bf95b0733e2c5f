//! Checks waits: an operation that waits when a link breaks, or when the connection ends, returns at that moment. Limits on
//! waits hold.
//!
//! Next: `main.rs`, which runs the schedules.

use std::collections::HashMap;
use std::time::Duration;

use perconn::{Error, Event, WhenDown};

use super::{CLOSE_LIMIT, Findings, Lifetime, TICK, lifetimes};
use crate::journal::{HandleId, Note, Operation, Outcome, Refusal};
use crate::schedule::{Record, UseCase};

pub(super) fn check(record: &Record, findings: &mut Findings) {
    let lifetimes = lifetimes(record);
    let mut began: HashMap<(HandleId, Operation), Duration> = HashMap::new();
    let mut close_called = None;
    let mut close_done = None;
    let (mut gave_up, mut is_shut_down) = (false, false);
    let mut last_bytes = Duration::ZERO;
    for entry in &record.entries {
        let at = entry.at;
        match &entry.note {
            Note::CloseCalled => close_called = close_called.or(Some(at)),
            Note::CloseDone => close_done = close_done.or(Some(at)),
            Note::Event(Event::GaveUp { .. }) => gave_up = true,
            Note::Began(id, operation) => {
                is_shut_down |= *operation == Operation::Shutdown;
                began.insert((*id, *operation), at);
            }
            Note::Finished(id, operation, outcome) => {
                let Some(began) = began.remove(&(*id, *operation)) else { continue };
                let is_job = matches!(id, HandleId::SharedWriter(_));
                let wait = Wait { operation: *operation, is_job, outcome, began, last_bytes, ended: at };
                if matches!(outcome, Outcome::Bytes(_)) {
                    last_bytes = at;
                }
                if let Err(text) = wait.check(record, &lifetimes, close_called, close_done, gave_up, is_shut_down) {
                    findings.add(at, format!("{id:?} {operation:?} since {began:?}: {text}"));
                }
            }
            _ => {}
        }
    }
    for ((id, operation), began) in began {
        findings.add(began, format!("{id:?} {operation:?} never ended"));
    }
    check_idle_breaks(record, &lifetimes, findings);
}

/// One operation and its time.
struct Wait<'a> {
    operation: Operation,
    /// A job can also wait for the queue.
    is_job: bool,
    outcome: &'a Outcome,
    began: Duration,
    /// When any reader last got bytes.
    last_bytes: Duration,
    ended: Duration,
}

impl Wait<'_> {
    fn check(
        &self,
        record: &Record,
        lifetimes: &[Lifetime],
        close_called: Option<Duration>,
        close_done: Option<Duration>,
        gave_up: bool,
        is_shut_down: bool,
    ) -> Result<(), String> {
        let lasted = self.ended - self.began;
        if let Outcome::Reported(generation, _) = self.outcome {
            let Some(down) = lifetimes.get(*generation as usize - 1).and_then(|lifetime| lifetime.down) else {
                return Err(format!("reported the break of link {generation}, which had not broken"));
            };
            if self.began < down && self.ended != down {
                return Err(format!("link {generation} broke at {down:?}, and it reported that at {:?}", self.ended));
            }
        }
        if matches!(self.outcome, Outcome::ShortLink(_)) && !lasted.is_zero() {
            return Err("it waited before it reported a short link".into());
        }
        if let Some(closed) = close_called {
            let grace = if record.settings.use_case.has_queue() { CLOSE_LIMIT + TICK } else { Duration::ZERO };
            if self.began < closed && closed + grace < self.ended {
                return Err(format!("it went on after the close at {closed:?}"));
            }
        }
        if close_done.is_some_and(|closed| closed < self.began) && !matches!(self.outcome, Outcome::Cancelled) {
            let is_refused = matches!(self.outcome, Outcome::Refused(Refusal::Closed | Refusal::TryAgain));
            if !is_refused || self.ended != self.began {
                return Err(format!("after the close: {:?}", self.outcome));
            }
        }
        let settings = &record.settings;
        if let Outcome::Refused(refusal) = self.outcome {
            let is_right = match (refusal, settings.when_down) {
                (Refusal::Down, WhenDown::Fail) => lasted.is_zero() || self.is_job,
                (Refusal::WaitTimeout, WhenDown::WaitFor(limit)) if self.is_job => limit <= lasted,
                // The limit holds for each outage.
                (Refusal::WaitTimeout, WhenDown::WaitFor(limit)) => {
                    let is_within = |lifetime: &&Lifetime| (self.began..=self.ended).contains(&lifetime.up);
                    let outages = 1 + lifetimes.iter().filter(is_within).count();
                    // Two readers of a shared connection wait one after the other.
                    let queued = if record.settings.use_case == UseCase::Shared { 2 } else { 1 };
                    lasted <= (limit + TICK) * outages as u32 * queued
                }
                (Refusal::GaveUp, _) => gave_up || settings.max_retries.is_some(),
                (Refusal::Closed, _) => close_called.is_some() || is_shut_down,
                (Refusal::AfterShutdown, _) => is_shut_down,
                (Refusal::TryAgain, _) => true,
                _ => false,
            };
            if !is_right {
                return Err(format!("refused with {refusal:?}"));
            }
        }
        let waits_for_links = lifetimes.iter().map(|lifetime| self.overlap(lifetime)).max().unwrap_or_default();
        match settings.idle_timeout {
            Some(limit) if self.operation == Operation::Read && waits_for_links > limit + TICK => {
                Err("it waited longer than the idle timeout allows".into())
            }
            _ => Ok(()),
        }
    }

    /// How long it was under way on a link on which nothing was received.
    fn overlap(&self, lifetime: &Lifetime) -> Duration {
        let end = lifetime.down.map_or(self.ended, |down| down.min(self.ended));
        end.saturating_sub(lifetime.up.max(self.began).max(self.last_bytes))
    }
}

/// A link that broke by the idle timeout had been silent for that long.
fn check_idle_breaks(record: &Record, lifetimes: &[Lifetime], findings: &mut Findings) {
    let (mut last_bytes, mut before_last) = (Duration::ZERO, Duration::ZERO);
    for entry in &record.entries {
        match &entry.note {
            Note::Finished(_, _, Outcome::Bytes(_)) if entry.at > last_bytes => {
                (before_last, last_bytes) = (last_bytes, entry.at);
            }
            Note::Event(Event::Disconnected { generation, cause, .. }) => {
                let Error::IoError { source, .. } = &**cause else { continue };
                if !source.to_string().starts_with("nothing was received") {
                    continue;
                }
                // Bytes of the same moment may have been read after the break.
                let last_bytes = if last_bytes == entry.at { before_last } else { last_bytes };
                let since = last_bytes.max(lifetimes[*generation as usize - 1].up);
                if record.settings.idle_timeout.is_none_or(|limit| entry.at - since < limit) {
                    findings.add(entry.at, format!("link {generation} had been silent only since {since:?}"));
                }
            }
            _ => {}
        }
    }
}
