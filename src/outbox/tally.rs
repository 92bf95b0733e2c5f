//! Where all accepted messages are: how many have met which fate.
//!
//! Next: `store/counts.rs`, the only place that changes it.

use std::fmt;

#[cfg(doc)]
use super::{Outbox, OutboxBuilder, WhenFull};

/// How a message ended; each accepted message has exactly one fate, and it is final.
///
/// | fate | meaning |
/// |---|---|
/// | `Answered` | the peer's program has answered it |
/// | `Rejected` | the peer's program does not want it, or the protocol cannot encode it |
/// | `Written` | the peer's kernel has it; where that is not known, this machine's kernel. No answers are asked for |
/// | `InDoubt` | it was handed to the kernel, its link broke, and it is not sent again: it may have arrived or not |
/// | `Dropped` | the queue was full; it was never handed over whole |
/// | `Expired` | it was too old; it was never handed over whole |
/// | `Unsent` | the outbox ended before; it was never handed over whole |
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fate {
    /// The peer's program has answered it.
    Answered,
    /// The peer's program does not want it, and says why; or the protocol cannot encode it, with its error.
    Rejected(String),
    /// The peer's kernel has acknowledged all of its bytes, or, where that cannot be known, this machine's kernel has
    /// taken them. Without answers, this is the best that a client can know.
    Written,
    /// It was handed to the kernel and its link broke, or the outbox ended, before the peer had acknowledged or
    /// answered it. It may have arrived, and is not sent again.
    InDoubt,
    /// It made room, or found none; see [`WhenFull`].
    Dropped,
    /// It was older than [`expire_after`](OutboxBuilder::expire_after).
    Expired,
    /// The outbox ended before it was sent.
    Unsent,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered => f.write_str("answered"),
            Self::Rejected(reason) => write!(f, "rejected: {reason}"),
            Self::Written => f.write_str("written"),
            Self::InDoubt => f.write_str("in doubt"),
            Self::Dropped => f.write_str("dropped"),
            Self::Expired => f.write_str("expired"),
            Self::Unsent => f.write_str("unsent"),
        }
    }
}

/// How many messages were accepted, and how many of them met which [`Fate`].
///
/// At every moment, `accepted` is the sum of all other fields. All of them but `waiting` only ever grow. It prints as one
/// line for a log, without the fates that no message has met: `5 accepted: 3 written, 2 waiting`.
///
/// ```
/// use perconn::outbox::Tally;
///
/// let tally = Tally { accepted: 5, written: 3, waiting: 2, ..Tally::default() };
/// assert_eq!(tally.to_string(), "5 accepted: 3 written, 2 waiting");
/// assert_eq!(tally.settled(), 3);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tally {
    /// Messages for which a send has returned `Ok`.
    pub accepted: u64,
    /// See [`Fate::Answered`].
    pub answered: u64,
    /// See [`Fate::Rejected`].
    pub rejected: u64,
    /// See [`Fate::Written`].
    pub written: u64,
    /// See [`Fate::InDoubt`].
    pub in_doubt: u64,
    /// See [`Fate::Dropped`].
    pub dropped: u64,
    /// See [`Fate::Expired`].
    pub expired: u64,
    /// See [`Fate::Unsent`].
    pub unsent: u64,
    /// Messages without a fate: in the queue, on their way, or waiting for an acknowledgement or an answer. Zero once
    /// the outbox has ended.
    pub waiting: u64,
}

impl Tally {
    /// How many messages have met their fate: all that do not wait.
    pub fn settled(&self) -> u64 {
        let Self { answered, rejected, written, in_doubt, dropped, expired, unsent, .. } = self;
        answered + rejected + written + in_doubt + dropped + expired + unsent
    }

    /// How many messages the peer may not have: all but those that are answered, written, or still wait.
    pub fn missing(&self) -> u64 {
        self.settled() - self.answered - self.written
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} accepted", self.accepted)?;
        let parts = [
            (self.answered, "answered"),
            (self.rejected, "rejected"),
            (self.written, "written"),
            (self.in_doubt, "in doubt"),
            (self.dropped, "dropped"),
            (self.expired, "expired"),
            (self.unsent, "unsent"),
            (self.waiting, "waiting"),
        ];
        let mut separator = ": ";
        for (count, name) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{separator}{count} {name}")?;
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tally_prints_what_there_is_and_nothing_else() {
        assert_eq!(Tally::default().to_string(), "0 accepted");
        let tally = Tally { accepted: 4, in_doubt: 1, unsent: 3, ..Tally::default() };
        assert_eq!(tally.to_string(), "4 accepted: 1 in doubt, 3 unsent");
        assert_eq!((tally.settled(), tally.missing()), (4, 4));
        let tally = Tally { accepted: 11, answered: 2, written: 3, rejected: 4, waiting: 2, ..Tally::default() };
        assert_eq!((tally.settled(), tally.missing()), (9, 4));
    }

    #[test]
    fn fate_prints_as_the_tally_names_it() {
        let fates = [
            (Fate::Answered, Tally { answered: 1, ..Tally::default() }),
            (Fate::Written, Tally { written: 1, ..Tally::default() }),
            (Fate::InDoubt, Tally { in_doubt: 1, ..Tally::default() }),
            (Fate::Dropped, Tally { dropped: 1, ..Tally::default() }),
            (Fate::Expired, Tally { expired: 1, ..Tally::default() }),
            (Fate::Unsent, Tally { unsent: 1, ..Tally::default() }),
        ];
        for (fate, tally) in fates {
            assert_eq!(format!("0 accepted: 1 {fate}"), tally.to_string());
        }
        assert_eq!(Fate::Rejected("too long".into()).to_string(), "rejected: too long");
    }
}
