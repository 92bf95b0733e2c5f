//! What can go wrong with an acceptor itself.

use std::io;

use super::Peer;

/// Why an acceptor could not be made, and what its logger is told.
///
/// Every message says its own level only; the cause is in [`source`](std::error::Error::source). What goes wrong on one
/// connection is not here but in [`Event::Closed`](super::Event::Closed): it is the rule, not an exception.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot work. The text names the value and what was expected.
    #[error("invalid configuration: {0}")]
    InvalidConfig(String),

    /// The address cannot be listened on: it is in use, not ours, or not permitted.
    #[error("cannot listen on {address}")]
    #[non_exhaustive]
    Listen {
        /// The address as given to the builder.
        address: String,
        /// Why, with the kernel's error kind and number.
        source: io::Error,
    },

    /// The kernel gives out no connections at the moment, mostly as the process or the machine has no descriptor left. The
    /// acceptor tries again, at least ten times a second. This is told once per outage, and at most once in ten seconds.
    #[error("cannot accept connections at the moment")]
    #[non_exhaustive]
    Accept {
        /// Why.
        source: io::Error,
    },

    /// A handler panicked. Its connection is closed; the others do not notice.
    #[error("the handler of {peer} panicked: {message}")]
    #[non_exhaustive]
    HandlerPanicked {
        /// Whose connection it was.
        peer: Peer,
        /// The panic's message, if it was text.
        message: String,
    },

    /// New certificates were not taken, as something is wrong with them. The old ones stay in use.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[error("the new certificates are not taken, and the old ones stay")]
    #[non_exhaustive]
    CertificatesKept {
        /// Why: an [`Error::InvalidConfig`].
        source: std::sync::Arc<Self>,
    },

    /// The program's own logger or event hook panicked. The acceptor goes on without harm.
    #[error("the {hook} hook panicked: {message}")]
    #[non_exhaustive]
    HookPanicked {
        /// `"logger"` or `"event"`.
        hook: &'static str,
        /// The panic's message, if it was text.
        message: String,
    },
}

impl Error {
    /// The kind that this error has as an [`io::Error`]: that of its cause, if it has one;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a bad setting.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::InvalidConfig(_) => io::ErrorKind::InvalidInput,
            Self::Listen { source, .. } | Self::Accept { source } => source.kind(),
            #[cfg(feature = "tls")]
            Self::CertificatesKept { source } => source.kind(),
            Self::HandlerPanicked { .. } | Self::HookPanicked { .. } => io::ErrorKind::Other,
        }
    }

    pub(super) fn invalid<T>(text: impl Into<String>) -> Result<T, Self> {
        Err(Self::InvalidConfig(text.into()))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}
