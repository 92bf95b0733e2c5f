//! Why there is no connection for one who asked.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Why [`Resource::get`](super::Resource::get) has no connection to give.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum GetError {
    /// The dial has failed. Everyone who was waiting for this resource gets the same error.
    #[non_exhaustive]
    Dial {
        /// The resource's address, or its name.
        name: Arc<str>,
        /// Why.
        source: Arc<io::Error>,
    },
    /// It took longer than the time given to [`get_timeout`](super::Resource::get_timeout).
    #[non_exhaustive]
    Timeout {
        /// The resource's address, or its name.
        name: Arc<str>,
        /// That time.
        limit: Duration,
    },
    /// [`try_get`](super::Resource::try_get) would have to wait: the resource is in use or being closed, or all slots are.
    #[non_exhaustive]
    Busy {
        /// The resource's address, or its name.
        name: Arc<str>,
    },
    /// The pool has been closed.
    Closed,
}

impl GetError {
    /// The kind that the `io::Error` made of this has: that of the dial's error, `TimedOut`, `WouldBlock`, `NotConnected`.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Dial { source, .. } => source.kind(),
            Self::Timeout { .. } => io::ErrorKind::TimedOut,
            Self::Busy { .. } => io::ErrorKind::WouldBlock,
            Self::Closed => io::ErrorKind::NotConnected,
        }
    }
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial { name, .. } => write!(f, "dial to {name} failed"),
            Self::Timeout { name, limit } => write!(f, "no connection to {name} within {limit:?}"),
            Self::Busy { name } => write!(f, "{name} cannot be had without waiting"),
            Self::Closed => f.write_str("the pool is closed"),
        }
    }
}

impl std::error::Error for GetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Dial { source, .. } => Some(&**source),
            Self::Timeout { .. } | Self::Busy { .. } | Self::Closed => None,
        }
    }
}

impl From<GetError> for io::Error {
    fn from(error: GetError) -> Self {
        Self::new(error.kind(), error)
    }
}
