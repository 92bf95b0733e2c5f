//! The rules of reconnection: a state and an input give the next state and an action.
//!
//! They are pure: no I/O, no clock, no task, no randomness. The actor supplies the facts and carries out the action.
//!
//! ```text
//!            Dialed                    Broken
//!  Dialing ----------> Up(generation) ---------> BackingOff
//!   |   ^                                           |
//!   |   +-------- DelayElapsed ---------------------+
//!   |
//!   +--- DialFailed ---> BackingOff
//!
//!  no retry or delay left, or a final failure --> Ended     the last link broken --> Ended     Close --> Ended
//! ```
//!
//! The first dials of a `connect` are different: each `DialFailed` leads to the next dial at once, and the last one to
//! `Ended`.
//!
//! Each redial without a stable link before it costs one retry, whether a dial failed or a link broke too soon. A link
//! that lived for `stable_after` gives all retries back. A link that did not counts against its address, as a failed dial
//! does. Next: `backoff.rs`, which draws the delays.

use std::time::Duration;

/// The settings that the rules depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How long a link must live for the retries to start over.
    pub(crate) stable_after: Duration,
    /// How many redials there may be without a stable link between them. `None`: no limit.
    pub(crate) max_retries: Option<u32>,
    /// How many dials a `connect` makes for its first link, one after the other without a delay: one for each address
    /// of the dialer. `None`: no `connect` waits, and the first dials are like all others.
    pub(crate) first_dials: Option<u32>,
}

/// The state of the actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ActorState {
    /// A dial is under way.
    Dialing(Outage),
    /// The delay before the next dial runs.
    BackingOff(Outage),
    /// A link is up. The outage before it continues if the link does not prove stable.
    Up {
        /// The number of this link. A break of any other link is ignored.
        generation: u64,
        /// Carried on if this link breaks too soon, so that attempts and retries are not forgotten.
        ended: Outage,
    },
    /// There is nothing left to do.
    Ended,
}

/// A time without a stable link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outage {
    /// The number of the newest link; 0 before the first.
    pub(crate) generation: u64,
    /// The number of the current or next dial, from 1.
    pub(crate) attempt: u32,
    /// How many redials were made or begun. 0 means that no delay was needed yet.
    retries: u32,
}

/// A fact that the actor has learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The dial has made a stream.
    Dialed,
    /// The dial has failed.
    DialFailed {
        /// No other dial is wanted: the error or the program says so.
        is_final: bool,
    },
    /// The delay before the next dial has passed.
    DelayElapsed,
    /// A link broke after it had been up for `lived`. If it is the last one, the program wants no other.
    Broken {
        /// The link that broke. Ignored unless it is the one that is up.
        generation: u64,
        /// How long it had been up. At least `stable_after` means that the retries start over.
        lived: Duration,
        /// The writing side was shut down, so no link follows.
        is_last: bool,
        /// No other dial is wanted: the program says so.
        is_final: bool,
    },
    /// The schedule of the program has no further delay.
    NoDelayLeft,
    /// The program expects a dial to succeed now.
    DialNow,
    /// The program has closed the connection.
    Close,
}

/// What the actor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Go on with what is under way.
    Continue,
    /// Dial.
    Dial,
    /// Wait before the next dial.
    BackOff(Pace),
    /// The same after a link that ended too soon. It counts against its address, as a failed dial does.
    MoveOn(Pace),
    /// Wait no longer than `retry_min` after the end of the last dial.
    ShortenDelay,
    /// Give the new stream to the handles, as the link of this number.
    HandOver {
        /// One more than that of the link before; 1 for the first.
        generation: u64,
    },
    /// End, as the retries are used up, or no other dial is wanted.
    GiveUp,
    /// End, as all first dials of a `connect()` have failed.
    FailConnect,
    /// End, as the program wants no further link.
    Stop,
}

/// Which delay to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// A random part of `retry_min`; the backoff starts over.
    Jitter,
    /// The next delay of the backoff.
    Backoff,
}

impl ActorState {
    /// A new connection, which dials at once.
    pub(crate) fn new() -> Self {
        Self::Dialing(Outage { generation: 0, attempt: 1, retries: 0 })
    }

    /// The next state, and what the actor has to do on the way there.
    ///
    /// Inputs that do not fit the state change nothing: they come late or twice.
    pub(crate) fn step(self, input: Input, limits: &Limits) -> (Self, Action) {
        match (self, input) {
            (Self::Ended, _) => (Self::Ended, Action::Continue),
            (_, Input::Close) => (Self::Ended, Action::Stop), // rule: close-at-any-time

            (Self::Dialing(outage), Input::Dialed) => {
                let generation = outage.generation + 1;
                (Self::Up { generation, ended: outage }, Action::HandOver { generation })
            }
            (Self::Dialing(outage), Input::DialFailed { is_final }) => match limits.first_dials {
                // rule: connect-dials-each-address-once
                Some(count) if outage.generation == 0 && outage.attempt < count && !is_final => {
                    (Self::Dialing(Outage { attempt: outage.attempt + 1, ..outage }), Action::Dial)
                }
                // rule: only-the-first-connect-fails
                Some(_) if outage.generation == 0 => (Self::Ended, Action::FailConnect),
                _ if is_final => (Self::Ended, Action::GiveUp),
                _ => outage.redial(Action::BackOff(Pace::Backoff), limits),
            },
            // rule: one-dial-after-each-delay
            (Self::BackingOff(outage), Input::DelayElapsed) => (Self::Dialing(outage), Action::Dial),
            (Self::BackingOff(_), Input::NoDelayLeft) => (Self::Ended, Action::GiveUp),
            // rule: dial-now-keeps-the-retries
            (Self::BackingOff(_), Input::DialNow) => (self, Action::ShortenDelay),

            (Self::Up { generation, ended }, Input::Broken { generation: broken, lived, is_last, is_final })
                if broken == generation =>
            {
                let is_stable = lived >= limits.stable_after; // rule: stable-link-resets-the-backoff
                if is_last {
                    (Self::Ended, Action::Stop)
                } else if is_final {
                    (Self::Ended, Action::GiveUp)
                } else if is_stable {
                    Outage::after_stable(generation).redial(Action::BackOff(Pace::Jitter), limits)
                } else {
                    // rule: short-link-keeps-the-backoff
                    let pace = if ended.retries == 0 { Pace::Jitter } else { Pace::Backoff };
                    Outage { generation, ..ended }.redial(Action::MoveOn(pace), limits)
                }
            }

            // The rest comes late or twice: a break of a link that has been replaced, or a wish to dial while a link is
            // up or a dial is under way.
            _ => (self, Action::Continue),
        }
    }
}

impl Outage {
    /// The outage that begins when a stable link breaks: all retries are available again.
    fn after_stable(generation: u64) -> Self {
        Self { generation, attempt: 0, retries: 0 }
    }

    /// Spends a retry on the next dial and takes `action` before it, or gives up.
    fn redial(self, action: Action, limits: &Limits) -> (ActorState, Action) {
        // rule: retry-limit
        if limits.max_retries.is_some_and(|max| self.retries >= max) {
            return (ActorState::Ended, Action::GiveUp);
        }
        let next = Self {
            generation: self.generation,
            attempt: self.attempt.saturating_add(1),
            retries: self.retries.saturating_add(1),
        };
        (ActorState::BackingOff(next), action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { stable_after: Duration::from_secs(10), max_retries: Some(2), first_dials: None };
    const SHORT: Duration = Duration::from_secs(9);
    const LONG: Duration = Duration::from_secs(10);

    const fn outage(generation: u64, attempt: u32, retries: u32) -> Outage {
        Outage { generation, attempt, retries }
    }

    const FIRST: Outage = outage(0, 1, 0);
    const SECOND: Outage = outage(0, 2, 1);
    const UP: ActorState = ActorState::Up { generation: 1, ended: FIRST };

    const FAILED: Input = Input::DialFailed { is_final: false };
    const FAILED_FOR_GOOD: Input = Input::DialFailed { is_final: true };

    fn broken(generation: u64, lived: Duration) -> Input {
        Input::Broken { generation, lived, is_last: false, is_final: false }
    }

    fn broken_for_good(generation: u64, is_last: bool) -> Input {
        Input::Broken { generation, lived: LONG, is_last, is_final: true }
    }

    fn last_broken(generation: u64) -> Input {
        Input::Broken { generation, lived: SHORT, is_last: true, is_final: false }
    }

    #[test]
    fn each_state_and_input_gives_the_state_and_action_of_the_table() {
        use ActorState::{BackingOff, Dialing, Ended, Up};
        let after_short = outage(1, 2, 1);
        let after_stable = outage(1, 1, 1);
        let table = [
            // A dial.
            (Dialing(FIRST), Input::Dialed, UP, Action::HandOver { generation: 1 }),
            (
                Dialing(after_short),
                Input::Dialed,
                Up { generation: 2, ended: after_short },
                Action::HandOver { generation: 2 },
            ),
            (Dialing(FIRST), FAILED, BackingOff(SECOND), Action::BackOff(Pace::Backoff)),
            (Dialing(FIRST), FAILED_FOR_GOOD, Ended, Action::GiveUp),
            (Dialing(FIRST), Input::DialNow, Dialing(FIRST), Action::Continue),
            (Dialing(after_short), broken(1, LONG), Dialing(after_short), Action::Continue),
            (Dialing(FIRST), Input::Close, Ended, Action::Stop),
            // A delay.
            (BackingOff(SECOND), Input::DelayElapsed, Dialing(SECOND), Action::Dial),
            (BackingOff(SECOND), Input::DialNow, BackingOff(SECOND), Action::ShortenDelay),
            (BackingOff(after_short), broken(1, LONG), BackingOff(after_short), Action::Continue),
            (BackingOff(SECOND), Input::NoDelayLeft, Ended, Action::GiveUp),
            (BackingOff(SECOND), Input::Close, Ended, Action::Stop),
            // A link.
            (UP, broken(1, LONG), BackingOff(after_stable), Action::BackOff(Pace::Jitter)),
            (UP, broken(1, SHORT), BackingOff(after_short), Action::MoveOn(Pace::Jitter)),
            (UP, broken(0, LONG), UP, Action::Continue),
            (UP, broken(2, LONG), UP, Action::Continue),
            (UP, Input::DialNow, UP, Action::Continue),
            (UP, broken_for_good(1, false), Ended, Action::GiveUp),
            (UP, broken_for_good(2, false), UP, Action::Continue),
            (UP, broken_for_good(1, true), Ended, Action::Stop),
            (UP, last_broken(1), Ended, Action::Stop),
            (UP, last_broken(0), UP, Action::Continue),
            (UP, Input::Close, Ended, Action::Stop),
            // The end.
            (Ended, Input::Close, Ended, Action::Continue),
            (Ended, Input::DialNow, Ended, Action::Continue),
            (Ended, Input::Dialed, Ended, Action::Continue),
            (Ended, Input::DelayElapsed, Ended, Action::Continue),
            (Ended, broken(1, LONG), Ended, Action::Continue),
        ];
        for (state, input, next, action) in table {
            assert_eq!(state.step(input, &LIMITS), (next, action), "{state:?} with {input:?}");
        }
    }

    #[test]
    fn backoff_continues_after_an_unstable_link() {
        let flapping = ActorState::Up { generation: 2, ended: SECOND };
        let next = ActorState::BackingOff(outage(2, 3, 2));
        assert_eq!(flapping.step(broken(2, SHORT), &LIMITS), (next, Action::MoveOn(Pace::Backoff)));
    }

    #[test]
    fn failed_dials_and_short_links_cost_retries() {
        let spent = outage(0, 3, 2);
        assert_eq!(ActorState::Dialing(spent).step(FAILED, &LIMITS), (ActorState::Ended, Action::GiveUp));
        let flapping = ActorState::Up { generation: 1, ended: spent };
        assert_eq!(flapping.step(broken(1, SHORT), &LIMITS), (ActorState::Ended, Action::GiveUp));
        let (next, _) = flapping.step(broken(1, LONG), &LIMITS);
        assert_eq!(next, ActorState::BackingOff(outage(1, 1, 1)), "a stable link gives the retries back");
    }

    #[test]
    fn without_retries_the_first_failure_is_the_last() {
        let limits = Limits { max_retries: Some(0), ..LIMITS };
        assert_eq!(ActorState::new().step(FAILED, &limits), (ActorState::Ended, Action::GiveUp));
        assert_eq!(UP.step(broken(1, LONG), &limits), (ActorState::Ended, Action::GiveUp));
    }

    #[test]
    fn first_dials_of_a_connect_follow_at_once_and_the_last_is_final() {
        // No retry is spent on them.
        let limits = Limits { first_dials: Some(3), max_retries: Some(0), ..LIMITS };
        let mut state = ActorState::new();
        for attempt in 2..=3 {
            let next = ActorState::Dialing(outage(0, attempt, 0));
            assert_eq!(state.step(FAILED, &limits), (next, Action::Dial));
            state = next;
        }
        assert_eq!(state.step(FAILED, &limits), (ActorState::Ended, Action::FailConnect));
        assert_eq!(ActorState::new().step(FAILED_FOR_GOOD, &limits), (ActorState::Ended, Action::FailConnect));
        let limits = Limits { first_dials: Some(1), ..LIMITS };
        assert_eq!(ActorState::new().step(FAILED, &limits), (ActorState::Ended, Action::FailConnect));
        let later = ActorState::Dialing(outage(1, 1, 1));
        assert!(matches!(later.step(FAILED, &limits), (ActorState::BackingOff(_), Action::BackOff(Pace::Backoff))));
    }

    #[test]
    fn counters_of_a_very_long_outage_do_not_overflow() {
        let limits = Limits { max_retries: None, ..LIMITS };
        let old = outage(7, u32::MAX, u32::MAX);
        let (next, action) = ActorState::Dialing(old).step(FAILED, &limits);
        assert_eq!((next, action), (ActorState::BackingOff(old), Action::BackOff(Pace::Backoff)));
    }
}
