//! Why a message was not accepted.
//!
//! Next: [`Outbox::send`], which returns it.

use std::io;
use std::sync::Arc;

#[cfg(doc)]
use super::{Outbox, OutboxBuilder, WhenFull};
use crate::Error;

/// Why [`Outbox::send`] has not accepted a message.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The outbox has ended or is being closed.
    #[error("the outbox takes no more messages")]
    #[non_exhaustive]
    Ended {
        /// Why: [`Error::ClosedConnection`] if the program has closed the outbox, otherwise the end of its connection
        /// ([`Error::GaveUp`], [`Error::RuntimeShutdown`]).
        #[source]
        cause: Arc<Error>,
    },
    /// The message is longer than [`max_message`](OutboxBuilder::max_message).
    #[error("a message of {len} bytes: expected at most {limit}")]
    #[non_exhaustive]
    TooLong {
        /// Its length, in bytes.
        len: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The message is empty: no peer could tell whether it has arrived.
    #[error("an empty message: expected at least one byte")]
    Empty,
}

impl SendError {
    /// Whether no later message can be accepted either.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }
}

/// Of the kind [`NotConnected`](io::ErrorKind::NotConnected) if the outbox has ended, else
/// [`InvalidInput`](io::ErrorKind::InvalidInput).
impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        let kind = if error.is_final() { io::ErrorKind::NotConnected } else { io::ErrorKind::InvalidInput };
        Self::new(kind, error)
    }
}

/// Why [`Outbox::try_send`] has not accepted a message.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError {
    /// There is no room at the moment, and [`WhenFull::Wait`] is set. Also while other senders wait for room.
    #[error("the outbox is full")]
    Full,
    /// The message was refused, as a [`send`](Outbox::send) would have refused it.
    #[error(transparent)]
    Refused(#[from] SendError),
}

impl TrySendError {
    /// Whether no later message can be accepted either.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused(error) if error.is_final())
    }
}

/// Of the kind [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room, else as for a [`SendError`].
impl From<TrySendError> for io::Error {
    fn from(error: TrySendError) -> Self {
        match error {
            TrySendError::Full => Self::new(io::ErrorKind::WouldBlock, error),
            TrySendError::Refused(error) => error.into(),
        }
    }
}
