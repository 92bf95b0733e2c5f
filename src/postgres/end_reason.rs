//! The reason why a listener has ended.
//!
//! Next: [`ListenerShared`](super::listener_shared::ListenerShared), where it is kept.

use std::sync::Arc;

use super::Error;
use super::cause::Cause;

/// Why a listener has ended. Every later call fails with the [error](EndReason::error) of this reason.
#[derive(Clone)]
pub(super) enum EndReason {
    /// The program closed it.
    Closed,
    /// The retries are used up.
    GaveUp {
        /// Attempts since the last stable connection.
        attempts: u32,
        /// Why the last attempt failed, or why the last connection was lost.
        cause: Option<Arc<Error>>,
    },
    /// A [`ListenerConn`](super::ListenerConn) has lost its only connection.
    Lost(Cause),
    /// The runtime has dropped the task of the listener.
    RuntimeShutdown,
}

impl EndReason {
    /// The error that reports this reason.
    pub(super) fn error(&self) -> Error {
        match self {
            Self::Closed => Error::Closed,
            Self::GaveUp { attempts, cause } => Error::GaveUp { attempts: *attempts, source: cause.clone() },
            Self::Lost(cause) => cause.error(),
            Self::RuntimeShutdown => Error::RuntimeShutdown,
        }
    }
}
