//! The events of a connection, for [`Builder::on_event`](crate::Builder::on_event).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Error;

/// A turn in the life of a connection.
///
/// Events come in order and one at a time. [`Connected`](Event::Connected) or [`Reconnected`](Event::Reconnected)
/// begins a link's life; [`Disconnected`](Event::Disconnected) or [`Closed`](Event::Closed) ends it. After
/// [`GaveUp`](Event::GaveUp) or `Closed` there are no more. (A runtime that shuts down takes the actor with it, without
/// an event.)
///
/// They are told by the actor, in its own time: a handle can have been told of a break before the event of it, or after.
/// A new link is announced before any handle gets it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The first link is up.
    #[non_exhaustive]
    Connected {
        /// The number of the link: 1.
        generation: u64,
        /// How many dials it took.
        attempt: u32,
    },
    /// A link broke.
    #[non_exhaustive]
    Disconnected {
        /// The number of the link.
        generation: u64,
        /// Why: an [`Error::IoError`].
        cause: Arc<Error>,
        /// How long the link had been up.
        lived: Duration,
        /// How many bytes the program had read from it. (What had arrived before the break can still be read after it.)
        bytes_read: u64,
        /// How many bytes the program had written on it. (What a session set-up had read and written is not counted here;
        /// it is in the `unacknowledged` of [`Error::IoError`], so that the two may overlap.)
        bytes_written: u64,
        /// The delay before the next dial; `None` if there will be none.
        retry_in: Option<Duration>,
    },
    /// A link is up again after an outage.
    #[non_exhaustive]
    Reconnected {
        /// The number of the new link.
        generation: u64,
        /// The dial that succeeded, counted from the last stable link.
        attempt: u32,
    },
    /// A dial failed.
    #[non_exhaustive]
    DialFailed {
        /// The number of the dial, counted from the last stable link.
        attempt: u32,
        /// Why: an [`Error::DialFailure`].
        cause: Arc<Error>,
        /// The delay before the next dial; `None` if there will be none.
        retry_in: Option<Duration>,
    },
    /// [`max_retries`](crate::Builder::max_retries) are used up; there will be no more dials.
    #[non_exhaustive]
    GaveUp {
        /// Dials since the last stable link.
        attempts: u32,
    },
    /// The program closed the connection or dropped its last handle.
    Closed,
}

/// One line for a log.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { generation, attempt } => {
                write!(f, "connected: generation {generation}, dial {attempt}")
            }
            Self::Disconnected { generation, lived, retry_in, cause, .. } => {
                let (why, next) = (Reason(cause), Next(*retry_in));
                write!(f, "disconnected: generation {generation} after {lived:.1?}: {why}, {next}")
            }
            Self::Reconnected { generation, attempt } => {
                write!(f, "reconnected: generation {generation}, dial {attempt}")
            }
            Self::DialFailed { attempt, retry_in, cause } => {
                write!(f, "dial {attempt} failed: {}, {}", Reason(cause), Next(*retry_in))
            }
            Self::GaveUp { attempts } => write!(f, "gave up, dials made: {attempts}"),
            Self::Closed => f.write_str("closed"),
        }
    }
}

/// What an event's error does not say itself: its cause.
struct Reason<'a>(&'a Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::error::Error::source(self.0) {
            Some(cause) => fmt::Display::fmt(cause, f),
            None => fmt::Display::fmt(self.0, f),
        }
    }
}

struct Next(Option<Duration>);

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(delay) => write!(f, "next dial in {delay:.1?}"),
            None => f.write_str("no further dial"),
        }
    }
}
