//! Why it is over: with a link, or with the listener.

use std::sync::Arc;
use std::time::Duration;

use super::Error;

/// Why it is over.
#[derive(Clone)]
pub(super) enum End {
    Closed,
    GaveUp {
        attempts: u32,
        trouble: Option<Arc<Error>>,
    },
    /// The one connection is lost.
    Lost(Loss),
    RuntimeShutdown,
}

impl End {
    pub(super) fn error(&self) -> Error {
        match self {
            Self::Closed => Error::Closed,
            Self::GaveUp { attempts, trouble } => Error::GaveUp { attempts: *attempts, source: trouble.clone() },
            Self::Lost(loss) => loss.error(),
            Self::RuntimeShutdown => Error::RuntimeShutdown,
        }
    }
}

/// Why a link was lost.
#[derive(Clone)]
pub(super) enum Loss {
    Failed(Arc<dyn std::error::Error + Send + Sync>),
    Silent(Duration),
}

impl Loss {
    pub(super) fn of(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let error: Box<dyn std::error::Error + Send + Sync> = error.into();
        Self::Failed(error.into())
    }

    pub(super) fn error(&self) -> Error {
        match self {
            Self::Failed(source) => Error::Lost { source: Arc::clone(source) },
            Self::Silent(limit) => Error::Silent { limit: *limit },
        }
    }
}
