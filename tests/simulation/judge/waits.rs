//! Nothing hangs and no wake-up is lost: who waits when a link breaks, or when the connection ends, is told at that very
//! moment; and limits on waits are kept.

use std::collections::HashMap;
use std::time::Duration;

use perconn::{Error, Event, WhenDown};

use super::{CLOSE_LIMIT, Life, TICK, Verdict, lives};
use crate::journal::{Note, Outcome, Refusal, What, Who};
use crate::schedule::{Record, UseCase};

pub(super) fn judge(record: &Record, verdict: &mut Verdict) {
    let lives = lives(record);
    let mut began: HashMap<(Who, What), Duration> = HashMap::new();
    let mut close_called = None;
    let mut close_done = None;
    let mut gave_up = false;
    let mut last_bytes = Duration::ZERO;
    for entry in &record.entries {
        let at = entry.at;
        match &entry.note {
            Note::CloseCalled => close_called = close_called.or(Some(at)),
            Note::CloseDone => close_done = close_done.or(Some(at)),
            Note::Event(Event::GaveUp { .. }) => gave_up = true,
            Note::Began(who, what) => {
                began.insert((*who, *what), at);
            }
            Note::Finished(who, what, outcome) => {
                let Some(began) = began.remove(&(*who, *what)) else { continue };
                let is_job = matches!(who, Who::SharedWriter(_));
                let wait = Wait { what: *what, is_job, outcome, began, last_bytes, ended: at };
                if matches!(outcome, Outcome::Bytes(_)) {
                    last_bytes = at;
                }
                if let Err(text) = wait.check(record, &lives, close_called, close_done, gave_up) {
                    verdict.accuse(at, format!("{who:?} {what:?} since {began:?}: {text}"));
                }
            }
            _ => {}
        }
    }
    for ((who, what), began) in began {
        verdict.accuse(began, format!("{who:?} {what:?} never ended"));
    }
    judge_idle_breaks(record, &lives, verdict);
}

/// An operation in time.
struct Wait<'a> {
    what: What,
    /// A job may wait for more than the link.
    is_job: bool,
    outcome: &'a Outcome,
    began: Duration,
    /// When another reader of the same link had bytes.
    last_bytes: Duration,
    ended: Duration,
}

impl Wait<'_> {
    fn check(
        &self,
        record: &Record,
        lives: &[Life],
        close_called: Option<Duration>,
        close_done: Option<Duration>,
        gave_up: bool,
    ) -> Result<(), String> {
        if let Outcome::Told(generation, _) = self.outcome {
            let Some(down) = lives.get(*generation as usize - 1).and_then(|life| life.down) else {
                return Err(format!("told of link {generation}, which had not broken"));
            };
            if self.began < down && self.ended != down {
                return Err(format!("link {generation} broke at {down:?}, and it was told at {:?}", self.ended));
            }
        }
        if let Some(closed) = close_called {
            let grace = if record.settings.use_case == UseCase::Shared { CLOSE_LIMIT + TICK } else { Duration::ZERO };
            if self.began < closed && closed + grace < self.ended {
                return Err(format!("it went on after the close at {closed:?}"));
            }
        }
        if close_done.is_some_and(|closed| closed < self.began) && !matches!(self.outcome, Outcome::Cancelled) {
            let is_refused = matches!(self.outcome, Outcome::Refused(Refusal::Closed | Refusal::Passing));
            if !is_refused || self.ended != self.began {
                return Err(format!("after the close: {:?}", self.outcome));
            }
        }
        let settings = &record.settings;
        let lasted = self.ended - self.began;
        if let Outcome::Refused(refusal) = self.outcome {
            let is_right = match (refusal, settings.when_down) {
                (Refusal::Down, WhenDown::Fail) => lasted.is_zero() || self.is_job,
                (Refusal::WaitTimeout, WhenDown::WaitFor(limit)) if self.is_job => limit <= lasted,
                // The time runs for each outage.
                (Refusal::WaitTimeout, WhenDown::WaitFor(limit)) => {
                    let is_within = |life: &&Life| (self.began..=self.ended).contains(&life.up);
                    let outages = 1 + lives.iter().filter(is_within).count();
                    // Two readers of a shared connection wait one after the other.
                    let in_line = if record.settings.use_case == UseCase::Shared { 2 } else { 1 };
                    lasted <= (limit + TICK) * outages as u32 * in_line
                }
                (Refusal::GaveUp, _) => gave_up || settings.max_retries.is_some(),
                (Refusal::Closed | Refusal::AfterShutdown | Refusal::Passing, _) => true,
                _ => false,
            };
            if !is_right {
                return Err(format!("refused with {refusal:?}"));
            }
        }
        let waits_for_links = lives.iter().map(|life| self.overlap(life)).max().unwrap_or_default();
        match settings.idle_timeout {
            Some(limit) if self.what == What::Read && waits_for_links > limit + TICK => {
                Err("it waited longer than the idle timeout allows".into())
            }
            _ => Ok(()),
        }
    }

    /// How long it was under way on a link without anything being received.
    fn overlap(&self, life: &Life) -> Duration {
        let end = life.down.map_or(self.ended, |down| down.min(self.ended));
        end.saturating_sub(life.up.max(self.began).max(self.last_bytes))
    }
}

/// A link that broke for its silence had been silent for so long.
fn judge_idle_breaks(record: &Record, lives: &[Life], verdict: &mut Verdict) {
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
                let since = last_bytes.max(lives[*generation as usize - 1].up);
                if record.settings.idle_timeout.is_none_or(|limit| entry.at - since < limit) {
                    verdict.accuse(entry.at, format!("link {generation} had been silent only since {since:?}"));
                }
            }
            _ => {}
        }
    }
}
