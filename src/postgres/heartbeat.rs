//! The rules of silence: when to ask the server whether it is there, and when to give it up. No I/O, no clock.

use std::time::Duration;

use tokio::time::Instant;

/// What is known of one link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heartbeat {
    /// Ask when nothing came in for so long.
    interval: Option<Duration>,
    /// Give up when nothing came in for so long after the question.
    limit: Duration,
    /// Since when a question is open.
    asked: Option<Instant>,
    /// The end of the last time in which this side did not read.
    resumed: Option<Instant>,
    /// The time has run out, and at this time a last look is taken.
    last_look: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing before this time, or before something happens.
    Wait(Option<Instant>),
    Ask,
    GiveUp,
}

/// What may have arrived is looked for once more after so long. (If this program was stopped for a while, the timer may run
/// before the socket is looked at.)
const GRACE: Duration = Duration::from_millis(20);

impl Heartbeat {
    pub(super) fn new(interval: Option<Duration>, limit: Duration) -> Self {
        Self { interval, limit, asked: None, resumed: None, last_look: None }
    }

    /// A question was sent.
    pub(super) fn asked(&mut self, now: Instant) {
        self.asked = self.asked.or(Some(now));
    }

    /// This side reads again: the time in which it did not says nothing of the server.
    pub(super) fn resumed(&mut self, now: Instant) {
        self.resumed = Some(now);
        self.asked = self.asked.map(|_| now);
        self.last_look = None;
    }

    /// Everything that had come was read, the last byte of it at `heard`.
    pub(super) fn step(&mut self, now: Instant, heard: Instant) -> Step {
        if self.asked.is_some_and(|asked| asked < heard) {
            self.asked = None;
            self.last_look = None;
        }
        if let Some(asked) = self.asked {
            let Some(end) = asked.checked_add(self.limit) else { return Step::Wait(None) };
            if now < end {
                return Step::Wait(Some(end));
            }
            let last_look = *self.last_look.get_or_insert(now + GRACE);
            return if now < last_look { Step::Wait(Some(last_look)) } else { Step::GiveUp };
        }
        let quiet_since = self.resumed.map_or(heard, |resumed| resumed.max(heard));
        match self.interval.and_then(|interval| quiet_since.checked_add(interval)) {
            None => Step::Wait(None),
            Some(due) if now < due => Step::Wait(Some(due)),
            Some(_) => {
                self.asked = Some(now);
                Step::Ask
            }
        }
    }
}

#[cfg(test)]
mod tests;
