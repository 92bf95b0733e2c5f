//! The events of a pool, as its hook receives them.
//!
//! Next: [`PoolInner::emit_closed`](super::state::PoolInner::emit_closed), which reports the most frequent one.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::GetError;

/// What happened to a pooled connection, as [`PoolBuilder::on_event`](super::PoolBuilder::on_event) reports it.
///
/// Its `Display` is one line for a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection was opened.
    #[non_exhaustive]
    Opened {
        /// The address of the resource, or its name.
        name: Arc<str>,
        /// How long the dial took.
        took: Duration,
    },
    /// A dial failed.
    #[non_exhaustive]
    DialFailed {
        /// The address of the resource, or its name.
        name: Arc<str>,
        /// The reason: a [`GetError::Dial`].
        cause: GetError,
    },
    /// A connection was closed.
    #[non_exhaustive]
    Closed {
        /// The address of the resource, or its name.
        name: Arc<str>,
        /// The reason.
        reason: CloseReason,
        /// How long the connection was open.
        lived: Duration,
    },
    /// The [release action](super::Resource::release) of a connection failed, panicked or took too long. The connection
    /// is closed all the same, which another event reports.
    #[non_exhaustive]
    ReleaseFailed {
        /// The address of the resource, or its name.
        name: Arc<str>,
        /// The reason.
        cause: Arc<io::Error>,
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
    /// Its peer had closed it or had sent something that nobody asked for, or a [check](super::Resource::check) or
    /// [hook](super::Resource::before_reuse) of the program refused it.
    Dead,
    /// An operation on it had failed, or had reached the end of the stream.
    Failed,
    /// Its user asked for it: [`Guard::close`](super::Guard::close),
    /// [`Guard::close_on_drop`](super::Guard::close_on_drop).
    Requested,
    /// [`Resource::schedule_close`](super::Resource::schedule_close) was called.
    Scheduled,
    /// Its user panicked.
    Panicked,
    /// Its user has taken it out of the pool, with [`Guard::detach`](super::Guard::detach). It is still open.
    Detached,
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
            Self::Detached => "taken out of the pool",
            Self::Gone => "its resource or its pool is gone",
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened { name, took } => write!(f, "{name}: opened in {took:.1?}"),
            Self::DialFailed { name, cause } => match std::error::Error::source(cause) {
                Some(reason) => write!(f, "{name}: dial failed: {reason}"),
                None => write!(f, "{name}: {cause}"),
            },
            Self::ReleaseFailed { name, cause } => write!(f, "{name}: release failed: {cause}"),
            Self::Closed { name, reason, lived } => write!(f, "{name}: closed after {lived:.1?}: {reason}"),
        }
    }
}
