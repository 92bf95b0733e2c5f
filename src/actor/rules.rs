//! The rules of reconnection: a state and an input give a state and an action. No I/O, no clock, no task, no
//! randomness; the actor around it supplies the facts and carries out the action.
//!
//! ```text
//!            Dialed                    Broken
//!  Dialing ----------> Up(generation) ---------> Resting
//!   |   ^                                           |
//!   |   +----------- Rested, Reconnect -------------+
//!   +-- DialFailed --> Resting
//!
//!  no retry left --> Over     the last link broken --> Over     Close --> Over
//! ```
//!
//! A redial in a row without a stable link costs one retry, be it that the dial before failed or that the link was
//! lost too soon. A link that lived for `stable_after` gives all of them back.

use std::time::Duration;

/// The settings that the rules depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) stable_after: Duration,
    /// `None`: no limit.
    pub(crate) max_retries: Option<u32>,
    /// If the first dial fails, there is no second.
    pub(crate) is_first_final: bool,
}

/// Where the actor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ActorState {
    /// A dial is under way.
    Dialing(Outage),
    /// The delay before the next dial runs.
    Resting(Outage),
    /// A link is up. The outage that it ended is kept, in case the link does not prove stable.
    Up { generation: u64, ended: Outage },
    /// There is nothing left to do.
    Over,
}

/// A time without a stable link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outage {
    /// The newest link's number, 0 before there was one.
    pub(crate) generation: u64,
    /// The number of the current or next dial, from 1.
    pub(crate) attempt: u32,
    /// Redials spent.
    retries: u32,
    /// Whether no delay has been asked for yet.
    is_fresh: bool,
}

/// What the actor learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Dialed,
    DialFailed,
    /// The delay has passed.
    Rested,
    /// A link broke after it had been up for `lived`. If it is the last, the program wants no other.
    Broken {
        generation: u64,
        lived: Duration,
        is_last: bool,
    },
    /// The program wants a link now.
    Reconnect,
    /// The program has closed the connection.
    Close,
}

/// What the actor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing: go on with what is under way.
    Continue,
    Dial,
    Rest(Pace),
    HandOver {
        generation: u64,
    },
    /// The retries are used up.
    GiveUp,
    /// The first dial was to be the last.
    Fail,
    Stop,
}

/// Which delay to rest for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// A random part of `retry_min`; the backoff starts over.
    Jitter,
    /// The next delay of the backoff.
    Backoff,
}

impl ActorState {
    /// A new connection: the first dial is made at once.
    pub(crate) fn new() -> Self {
        Self::Dialing(Outage { generation: 0, attempt: 1, retries: 0, is_fresh: true })
    }

    pub(crate) fn step(self, input: Input, limits: &Limits) -> (Self, Action) {
        match (self, input) {
            (Self::Over, _) => (Self::Over, Action::Continue),
            (_, Input::Close) => (Self::Over, Action::Stop),

            (Self::Dialing(outage), Input::Dialed) => {
                let generation = outage.generation + 1;
                (Self::Up { generation, ended: outage }, Action::HandOver { generation })
            }
            (Self::Dialing(outage), Input::DialFailed) if outage.generation == 0 && limits.is_first_final => {
                (Self::Over, Action::Fail)
            }
            (Self::Dialing(outage), Input::DialFailed) => outage.redial(Pace::Backoff, limits),
            (Self::Resting(outage), Input::Rested | Input::Reconnect) => (Self::Dialing(outage), Action::Dial),

            (Self::Up { generation, ended }, Input::Broken { generation: broken, lived, is_last })
                if broken == generation =>
            {
                if is_last {
                    (Self::Over, Action::Stop)
                } else if lived >= limits.stable_after {
                    Outage::after_stable(generation).redial(Pace::Jitter, limits)
                } else {
                    let pace = if ended.is_fresh { Pace::Jitter } else { Pace::Backoff };
                    Outage { generation, ..ended }.redial(pace, limits)
                }
            }

            // What is left comes late or twice: a report of a link that has been replaced, a reconnect when the link
            // is up or the dial is under way.
            _ => (self, Action::Continue),
        }
    }
}

impl Outage {
    fn after_stable(generation: u64) -> Self {
        Self { generation, attempt: 0, retries: 0, is_fresh: true }
    }

    fn redial(self, pace: Pace, limits: &Limits) -> (ActorState, Action) {
        if limits.max_retries.is_some_and(|max| self.retries >= max) {
            return (ActorState::Over, Action::GiveUp);
        }
        let next = Self {
            generation: self.generation,
            attempt: self.attempt.saturating_add(1),
            retries: self.retries.saturating_add(1),
            is_fresh: false,
        };
        (ActorState::Resting(next), Action::Rest(pace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { stable_after: Duration::from_secs(10), max_retries: Some(2), is_first_final: false };
    const SHORT: Duration = Duration::from_secs(9);
    const LONG: Duration = Duration::from_secs(10);

    const fn outage(generation: u64, attempt: u32, retries: u32, is_fresh: bool) -> Outage {
        Outage { generation, attempt, retries, is_fresh }
    }

    const FIRST: Outage = outage(0, 1, 0, true);
    const SECOND: Outage = outage(0, 2, 1, false);
    const UP: ActorState = ActorState::Up { generation: 1, ended: FIRST };

    fn broken(generation: u64, lived: Duration) -> Input {
        Input::Broken { generation, lived, is_last: false }
    }

    fn last_broken(generation: u64) -> Input {
        Input::Broken { generation, lived: SHORT, is_last: true }
    }

    #[test]
    fn each_state_answers_each_input_by_the_table() {
        use ActorState::{Dialing, Over, Resting, Up};
        let again = outage(1, 2, 1, false);
        let afresh = outage(1, 1, 1, false);
        let table = [
            // A dial.
            (Dialing(FIRST), Input::Dialed, UP, Action::HandOver { generation: 1 }),
            (Dialing(again), Input::Dialed, Up { generation: 2, ended: again }, Action::HandOver { generation: 2 }),
            (Dialing(FIRST), Input::DialFailed, Resting(SECOND), Action::Rest(Pace::Backoff)),
            (Dialing(FIRST), Input::Reconnect, Dialing(FIRST), Action::Continue),
            (Dialing(again), broken(1, LONG), Dialing(again), Action::Continue),
            (Dialing(FIRST), Input::Close, Over, Action::Stop),
            // A delay.
            (Resting(SECOND), Input::Rested, Dialing(SECOND), Action::Dial),
            (Resting(SECOND), Input::Reconnect, Dialing(SECOND), Action::Dial),
            (Resting(again), broken(1, LONG), Resting(again), Action::Continue),
            (Resting(SECOND), Input::Close, Over, Action::Stop),
            // A link.
            (UP, broken(1, LONG), Resting(afresh), Action::Rest(Pace::Jitter)),
            (UP, broken(1, SHORT), Resting(again), Action::Rest(Pace::Jitter)),
            (UP, broken(0, LONG), UP, Action::Continue),
            (UP, broken(2, LONG), UP, Action::Continue),
            (UP, Input::Reconnect, UP, Action::Continue),
            (UP, last_broken(1), Over, Action::Stop),
            (UP, last_broken(0), UP, Action::Continue),
            (UP, Input::Close, Over, Action::Stop),
            // The end.
            (Over, Input::Close, Over, Action::Continue),
            (Over, Input::Reconnect, Over, Action::Continue),
            (Over, Input::Dialed, Over, Action::Continue),
            (Over, Input::Rested, Over, Action::Continue),
            (Over, broken(1, LONG), Over, Action::Continue),
        ];
        for (state, input, next, action) in table {
            assert_eq!(state.step(input, &LIMITS), (next, action), "{state:?} with {input:?}");
        }
    }

    #[test]
    fn an_unstable_link_goes_on_with_the_backoff_where_it_was() {
        let flapping = ActorState::Up { generation: 2, ended: SECOND };
        let next = ActorState::Resting(outage(2, 3, 2, false));
        assert_eq!(flapping.step(broken(2, SHORT), &LIMITS), (next, Action::Rest(Pace::Backoff)));
    }

    #[test]
    fn retries_are_used_up_by_failed_dials_and_by_short_links_alike() {
        let spent = outage(0, 3, 2, false);
        assert_eq!(ActorState::Dialing(spent).step(Input::DialFailed, &LIMITS), (ActorState::Over, Action::GiveUp));
        let flapping = ActorState::Up { generation: 1, ended: spent };
        assert_eq!(flapping.step(broken(1, SHORT), &LIMITS), (ActorState::Over, Action::GiveUp));
        let (next, _) = flapping.step(broken(1, LONG), &LIMITS);
        assert_eq!(next, ActorState::Resting(outage(1, 1, 1, false)), "a stable link gives the retries back");
    }

    #[test]
    fn no_retries_means_that_the_first_failure_is_the_last() {
        let limits = Limits { max_retries: Some(0), ..LIMITS };
        assert_eq!(ActorState::new().step(Input::DialFailed, &limits), (ActorState::Over, Action::GiveUp));
        assert_eq!(UP.step(broken(1, LONG), &limits), (ActorState::Over, Action::GiveUp));
    }

    #[test]
    fn first_dial_can_be_made_final_and_no_later_one() {
        let limits = Limits { is_first_final: true, ..LIMITS };
        assert_eq!(ActorState::new().step(Input::DialFailed, &limits), (ActorState::Over, Action::Fail));
        let later = ActorState::Dialing(outage(1, 1, 1, false));
        assert!(matches!(
            later.step(Input::DialFailed, &limits),
            (ActorState::Resting(_), Action::Rest(Pace::Backoff))
        ));
    }

    #[test]
    fn an_outage_of_any_length_keeps_counting_without_overflow() {
        let limits = Limits { max_retries: None, ..LIMITS };
        let old = outage(7, u32::MAX, u32::MAX, false);
        let (next, action) = ActorState::Dialing(old).step(Input::DialFailed, &limits);
        assert_eq!((next, action), (ActorState::Resting(old), Action::Rest(Pace::Backoff)));
    }
}
