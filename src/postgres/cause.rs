//! The cause of a lost connection.
//!
//! Next: [`EndReason`](super::end_reason::EndReason), why a whole listener has ended.

use std::sync::Arc;
use std::time::Duration;

use super::Error;

/// Why a connection was lost. It can be copied, and becomes an [`Error`] for each caller that has to know.
#[derive(Clone)]
pub(super) enum Cause {
    /// The connection failed or ended.
    Failed(Arc<dyn std::error::Error + Send + Sync>),
    /// Nothing arrived for this long after a query.
    Silent(Duration),
}

impl Cause {
    /// The cause for a connection that failed with this error.
    pub(super) fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let error: Box<dyn std::error::Error + Send + Sync> = error.into();
        Self::Failed(error.into())
    }

    /// The error that reports this cause.
    pub(super) fn error(&self) -> Error {
        match self {
            Self::Failed(source) => Error::Lost { source: Arc::clone(source) },
            Self::Silent(limit) => Error::Silent { limit: *limit },
        }
    }
}
