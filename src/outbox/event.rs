//! The events of an outbox, as its event hook receives them.
//!
//! Next: `task.rs`, which emits them.

use std::fmt;

use super::Tally;
#[cfg(doc)]
use super::{Fate, OutboxBuilder};

/// Something that has happened to messages of an outbox; for the hook of [`OutboxBuilder::on_event`].
///
/// Breaks, failed dials, errors of the protocol and an answer that took too long are events of the connection: they go to
/// [`Builder::logger`](crate::Builder::logger) and [`Builder::on_event`](crate::Builder::on_event). An event prints as one
/// line for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A message was rejected; see [`Fate::Rejected`].
    #[non_exhaustive]
    Rejected {
        /// The number of the message.
        number: u64,
        /// Why.
        reason: String,
    },
    /// Messages were lost, or may be lost, since the last event of this kind: in doubt, dropped or expired.
    ///
    /// At most once a second, and once at the end.
    #[non_exhaustive]
    Lost {
        /// How many are in doubt; see [`Fate::InDoubt`].
        in_doubt: u64,
        /// How many were dropped; see [`Fate::Dropped`].
        dropped: u64,
        /// How many have expired; see [`Fate::Expired`].
        expired: u64,
    },
    /// The outbox has ended. No event follows.
    #[non_exhaustive]
    Ended {
        /// The fates of all messages.
        tally: Tally,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected { number, reason } => write!(f, "message {number} was rejected: {reason}"),
            Self::Lost { in_doubt, dropped, expired } => {
                let parts = [(in_doubt, "in doubt"), (dropped, "dropped"), (expired, "expired")];
                let mut separator = "messages lost: ";
                for (count, name) in parts.into_iter().filter(|(count, _)| **count > 0) {
                    write!(f, "{separator}{count} {name}")?;
                    separator = ", ";
                }
                Ok(())
            }
            Self::Ended { tally } => write!(f, "the outbox has ended: {tally}"),
        }
    }
}
