//! The events of a connection, for [`Builder::on_event`](crate::Builder::on_event).
//!
//! The actor emits them. Next: [`Error`], the causes that they carry.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Error;

/// A change in the state of a connection.
///
/// Events come in order and one at a time. A link begins with [`Connected`](Event::Connected) or
/// [`Reconnected`](Event::Reconnected) and ends with [`Disconnected`](Event::Disconnected) or
/// [`Closed`](Event::Closed). After [`GaveUp`](Event::GaveUp) or `Closed` there are no more events. A runtime that
/// shuts down ends the actor without an event.
///
/// The actor emits them: a handle can report a break before its event or after it. A new link has its event before any
/// handle gets the link, except on a `blocking::Conn`, whose hook runs on a thread of its own.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[doc(alias("hook", "callback", "metrics", "on_reconnect", "on_disconnect"))]
pub enum Event {
    /// The first link is up.
    #[non_exhaustive]
    Connected {
        /// The number of the link: always 1.
        generation: u64,
        /// How many dials were needed.
        attempt: u32,
    },
    /// A link broke.
    #[non_exhaustive]
    Disconnected {
        /// The number of the link.
        generation: u64,
        /// The reason: an [`Error::IoError`].
        cause: Arc<Error>,
        /// How long the link had been up.
        lived: Duration,
        /// How many bytes the program had read from it. Bytes that arrived before the break can still be read after it.
        bytes_read: u64,
        /// How many bytes the program had written on it.
        ///
        /// Bytes of a session set-up are not counted here. The `unacknowledged` of [`Error::IoError`] does count
        /// them, so it can be the larger number.
        bytes_written: u64,
        /// The delay before the next dial; `None` if there is no next dial.
        retry_in: Option<Duration>,
    },
    /// A link is up again after an outage.
    #[non_exhaustive]
    Reconnected {
        /// The number of the new link.
        generation: u64,
        /// The number of the dial that succeeded, counted from the last stable link.
        attempt: u32,
    },
    /// A dial failed.
    #[non_exhaustive]
    DialFailed {
        /// The number of the dial, counted from the last stable link.
        attempt: u32,
        /// The reason: an [`Error::DialFailure`].
        cause: Arc<Error>,
        /// The delay before the next dial; `None` if there is no next dial. Zero between the first dials of a
        /// [`connect`](crate::Builder::connect) to several addresses.
        retry_in: Option<Duration>,
    },
    /// There are no more dials; [`Error::GaveUp`] says for which reasons.
    #[non_exhaustive]
    GaveUp {
        /// How many dials were made since the last stable link.
        attempts: u32,
        /// The last failure: an [`Error::DialFailure`], or an [`Error::IoError`] for a link that broke.
        cause: Arc<Error>,
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
                let (reason, next) = (Reason(cause), Next(*retry_in));
                write!(f, "disconnected: generation {generation} after {lived:.1?}: {reason}, {next}")
            }
            Self::Reconnected { generation, attempt } => {
                write!(f, "reconnected: generation {generation}, dial {attempt}")
            }
            Self::DialFailed { attempt, retry_in, cause } => {
                write!(f, "dial {attempt} failed: {}, {}", Reason(cause), Next(*retry_in))
            }
            Self::GaveUp { attempts, cause } => write!(f, "gave up after {attempts} dials: {}", Reason(cause)),
            Self::Closed => f.write_str("closed"),
        }
    }
}

/// Displays the cause of an event's error, as the event's own text says the rest.
struct Reason<'a>(&'a Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::error::Error::source(self.0) {
            Some(cause) => fmt::Display::fmt(cause, f),
            None => fmt::Display::fmt(self.0, f),
        }
    }
}

/// Displays when the next dial is.
struct Next(Option<Duration>);

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(delay) => write!(f, "next dial in {delay:.1?}"),
            None => f.write_str("no further dial"),
        }
    }
}
