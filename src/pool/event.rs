//! What happens in a pool, as told to its hook.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::GetError;

/// A turn in the life of a pooled connection, as told to [`PoolBuilder::on_event`](super::PoolBuilder::on_event).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection was opened.
    #[non_exhaustive]
    Opened {
        /// The resource's address, or its name.
        name: Arc<str>,
        /// How long the dial took.
        took: Duration,
    },
    /// A dial failed.
    #[non_exhaustive]
    DialFailed {
        /// The resource's address, or its name.
        name: Arc<str>,
        /// Why: a [`GetError::Dial`].
        cause: GetError,
    },
    /// A connection was closed.
    #[non_exhaustive]
    Closed {
        /// The resource's address, or its name.
        name: Arc<str>,
        /// Why.
        reason: CloseReason,
        /// How long the connection was open.
        lived: Duration,
    },
}

/// Why a pooled connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// Its slot was needed for another resource.
    Evicted,
    /// It was idle for longer than [`idle_timeout`](super::PoolBuilder::idle_timeout).
    Idle,
    /// It was older than [`max_age`](super::PoolBuilder::max_age).
    Aged,
    /// When it was to be handed out again, its peer had closed it, or had sent something that nobody asked for.
    Dead,
    /// An operation on it had failed, or had come to its end.
    Failed,
    /// Its user wanted it: [`Guard::close`](super::Guard::close), [`Guard::close_on_drop`](super::Guard::close_on_drop).
    Requested,
    /// [`Resource::schedule_close`](super::Resource::schedule_close).
    Scheduled,
    /// Its user panicked.
    Panicked,
    /// The last handle of its resource was dropped, or the pool was closed.
    Gone,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Evicted => "its slot was needed",
            Self::Idle => "idle for too long",
            Self::Aged => "too old",
            Self::Dead => "found dead",
            Self::Failed => "failed in use",
            Self::Requested => "closed by its user",
            Self::Scheduled => "scheduled to be closed",
            Self::Panicked => "its user panicked",
            Self::Gone => "its resource or its pool is gone",
        })
    }
}

/// One line for a log.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened { name, took } => write!(f, "{name}: opened in {took:.1?}"),
            Self::DialFailed { name, cause } => match std::error::Error::source(cause) {
                Some(reason) => write!(f, "{name}: dial failed: {reason}"),
                None => write!(f, "{name}: {cause}"),
            },
            Self::Closed { name, reason, lived } => write!(f, "{name}: closed after {lived:.1?}: {reason}"),
        }
    }
}
