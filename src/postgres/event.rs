//! The events of a listener, for [`ListenerBuilder::on_event`](super::ListenerBuilder::on_event).
//!
//! Next: [`Message`](super::Message), which the reader receives instead.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Error;

/// A change of a listener's state. Events are reported in order and immediately, whether or not a task reads.
///
/// [`GaveUp`](Event::GaveUp) and [`Closed`](Event::Closed) are final. A runtime that shuts down drops the listener's
/// task without an event.
///
/// # Examples
///
/// A gauge for the monitoring of a program:
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use perconn::postgres::{Event, Listener};
///
/// let is_listening = Arc::new(AtomicBool::new(false));
/// let gauge = Arc::clone(&is_listening);
/// let builder = Listener::builder("postgres://agent@db.example/orders").on_event(move |event| {
///     gauge.store(matches!(event, Event::Connected { .. } | Event::Reconnected { .. }), Ordering::Relaxed);
/// });
/// # drop(builder);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The first connection is up.
    #[non_exhaustive]
    Connected {
        /// Its number: 1, unless other connections ended before they were used.
        generation: u64,
    },
    /// The connection was lost.
    #[non_exhaustive]
    Disconnected {
        /// Its number.
        generation: u64,
        /// Why: [`Error::Lost`] or [`Error::Silent`].
        cause: Arc<Error>,
    },
    /// A new connection is up and listens to all channels again.
    #[non_exhaustive]
    Reconnected {
        /// Its number.
        generation: u64,
        /// The time since the loss of the last connection.
        outage: Duration,
        /// How many channels the new connection listens to.
        channels: usize,
    },
    /// No connection could be made, or the server refused it.
    #[non_exhaustive]
    AttemptFailed {
        /// The number of the attempt, counted from the last stable connection.
        attempt: u32,
        /// Why: [`Error::Connect`].
        cause: Arc<Error>,
        /// The delay before the next attempt; `None` if there is no next attempt.
        retry_in: Option<Duration>,
        /// How many attempts in a row have failed for a reason that time alone does not mend
        /// ([`is_hopeless`](Error::is_hopeless)), this one included. 0 if this one has another reason. The logger gets the first
        /// of them only.
        hopeless: u32,
    },
    /// A pooler between does not keep the session of the server from one transaction to the next, so that no notification
    /// arrives; see [`Error::SessionNotKept`]. Reported once for each listener.
    #[non_exhaustive]
    SessionNotKept {
        /// The number of the connection. It stays up.
        generation: u64,
    },
    /// [`max_retries`](super::ListenerBuilder::max_retries) are used up. There are no more attempts.
    #[non_exhaustive]
    GaveUp {
        /// Attempts since the last stable connection.
        attempts: u32,
    },
    /// The listener was closed or dropped.
    Closed,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { generation } => write!(f, "connected: generation {generation}"),
            Self::Disconnected { generation, cause } => {
                write!(f, "disconnected: generation {generation}: {}", cause.with_causes())
            }
            Self::Reconnected { generation, outage, channels } => {
                write!(f, "reconnected: generation {generation} after {outage:.1?}, channels: {channels}")
            }
            Self::AttemptFailed { attempt, cause, retry_in, .. } => {
                write!(f, "attempt {attempt} failed: {}, ", cause.with_causes())?;
                match retry_in {
                    Some(delay) => write!(f, "next attempt in {delay:.1?}"),
                    None => f.write_str("no further attempt"),
                }
            }
            Self::SessionNotKept { generation } => {
                write!(f, "session not kept: generation {generation}: {}", Error::SessionNotKept)
            }
            Self::GaveUp { attempts } => write!(f, "gave up after {attempts} attempts"),
            Self::Closed => f.write_str("closed"),
        }
    }
}
