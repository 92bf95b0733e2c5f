//! The errors of an acceptor itself.
//!
//! Next: [`super::event`], for what goes wrong on one connection.

use std::fmt;
use std::io;

use super::Peer;
use crate::causes::WithCauses;

/// Why an acceptor could not be built, why it ended by itself, and what its logger receives.
///
/// Every message names its own level only; the cause is its [`source`](std::error::Error::source). A failure of one
/// connection is not an error of the acceptor: [`Event::Closed`](super::Event::Closed) reports it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot work. The text names the value and what was expected.
    #[error("invalid configuration: {0}")]
    InvalidConfig(String),

    /// The address cannot be listened on: it is in use, belongs to another machine, or is not permitted.
    #[error("cannot listen on {address}")]
    #[non_exhaustive]
    Listen {
        /// The address as given to the builder.
        address: String,
        /// The cause, with the kernel's error kind and number.
        source: io::Error,
    },

    /// accept(2) fails, usually because the process or the machine is out of file descriptors.
    ///
    /// The acceptor tries again, at least ten times a second. It reports this once per outage, and at most once in
    /// ten seconds.
    #[error("cannot accept connections at the moment")]
    #[non_exhaustive]
    Accept {
        /// The cause.
        source: io::Error,
    },

    /// A handler panicked. Its connection is closed; the others go on.
    #[error("the handler of {peer} panicked: {message}")]
    #[non_exhaustive]
    HandlerPanicked {
        /// The other end of its connection.
        peer: Peer,
        /// The panic's message, if it was text.
        message: String,
    },

    /// The runtime of the acceptor shut down before the program stopped it.
    #[error("the acceptor's runtime shut down")]
    RuntimeShutdown,

    /// The accept loop panicked, so that no more connections are accepted. It runs no code of the program, so this is
    /// a bug of this crate or of the runtime.
    #[error("the accept loop panicked: {message}")]
    #[non_exhaustive]
    AcceptPanicked {
        /// The panic's message, if it was text.
        message: String,
    },

    /// The certificate files have changed and are not usable. The old certificates stay in use.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[error("the new certificates are not usable; the old ones stay in use")]
    #[non_exhaustive]
    CertificatesKept {
        /// The cause: an [`Error::InvalidConfig`].
        source: std::sync::Arc<Self>,
    },

    /// The server's certificate, or one of its issuers in the chain, has expired or expires soon; see
    /// [`ServerTls`](super::ServerTls#certificates-that-expire). Reported once a day.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[error("certificate {certificate} {}", super::event::expires(*left))]
    #[non_exhaustive]
    CertificateExpires {
        /// The path of its file in quotes, or that it was given in memory.
        certificate: String,
        /// The last second in which it is valid.
        not_after: std::time::SystemTime,
        /// How long it is still valid. Zero if it has expired.
        left: std::time::Duration,
    },

    /// The program's own logger, event hook or filter panicked. The acceptor goes on.
    #[error("the {hook} hook panicked: {message}")]
    #[non_exhaustive]
    HookPanicked {
        /// `"logger"`, `"event"` or `"accept_if"`.
        hook: &'static str,
        /// The panic's message, if it was text.
        message: String,
    },
}

impl Error {
    /// The kind of this error as an [`io::Error`]: that of its cause, if it has one;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a bad setting; else [`Other`](io::ErrorKind::Other).
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::InvalidConfig(_) => io::ErrorKind::InvalidInput,
            Self::Listen { source, .. } | Self::Accept { source } => source.kind(),
            #[cfg(feature = "tls")]
            Self::CertificatesKept { source } => source.kind(),
            #[cfg(feature = "tls")]
            Self::CertificateExpires { .. } => io::ErrorKind::Other,
            Self::HandlerPanicked { .. }
            | Self::RuntimeShutdown
            | Self::AcceptPanicked { .. }
            | Self::HookPanicked { .. } => io::ErrorKind::Other,
        }
    }

    /// This error and its causes in one line, for a log.
    ///
    /// ```
    /// use perconn::acceptor::{Acceptor, Error};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// // An address of the documentation, which no machine has.
    /// let error = Acceptor::builder("192.0.2.1:7777").handler(async |_, _| Ok(())).build().unwrap_err();
    /// println!("{}", error.with_causes()); // cannot listen on 192.0.2.1:7777: Cannot assign requested address (os error 99)
    /// # assert!(error.with_causes().to_string().starts_with("cannot listen on 192.0.2.1:7777: "));
    /// # }
    /// ```
    pub fn with_causes(&self) -> impl fmt::Display + '_ {
        WithCauses(self)
    }

    /// The error of a setting that cannot work, ready to be returned from a check with any `Ok` type.
    pub(super) fn invalid<T>(text: impl Into<String>) -> Result<T, Self> {
        Err(Self::InvalidConfig(text.into()))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}
