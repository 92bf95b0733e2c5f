//! What can go wrong.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use crate::causes::{WithCauses, causes};

/// Everything that a [`Listener`](super::Listener) and a [`ListenerConn`](super::ListenerConn) report.
///
/// Its text says its own level only; the cause is in [`source`](StdError::source), and all of it in
/// [`with_causes`](Error::with_causes).
///
/// ```
/// use perconn::postgres::Error;
///
/// /// Whether somebody has to look at the settings.
/// fn is_hopeless(error: &Error) -> bool {
///     let code = error.code().map(|code| code.code());
///     matches!(error, Error::InvalidConfig(_)) || matches!(code, Some("28P01" | "28000" | "3D000"))
/// }
/// # assert!(!is_hopeless(&Error::Closed));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot work. The text names the value and what was expected.
    #[error("invalid configuration: {0}")]
    InvalidConfig(String),

    /// A name that cannot be a channel's.
    #[error("channel name {channel:?}: {reason}")]
    #[non_exhaustive]
    InvalidChannel {
        /// The name as it was given.
        channel: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// The channel is listened to already, or another call is about to.
    #[error("channel {channel:?} is listened to already")]
    #[non_exhaustive]
    AlreadyListening {
        /// The channel.
        channel: String,
    },

    /// The channel is not listened to; or it was unlistened while `listen` waited for the server's answer.
    #[error("channel {channel:?} is not listened to")]
    #[non_exhaustive]
    NotListening {
        /// The channel.
        channel: String,
    },

    /// The server answered one statement with an error. The connection goes on.
    #[error("the server refused {statement}")]
    #[non_exhaustive]
    Refused {
        /// The statement.
        statement: String,
        /// The server's words.
        source: tokio_postgres::Error,
    },

    /// No connection could be made, or the server refused it: a wrong password, an unknown database, a channel that cannot be
    /// listened to again. It is [`Event::AttemptFailed`](super::Event::AttemptFailed)'s cause, and what `connect()` returns.
    #[error("connecting to {host} failed")]
    #[non_exhaustive]
    Connect {
        /// The host and port, the socket's path, or all of several.
        host: String,
        /// Why.
        source: Arc<dyn StdError + Send + Sync>,
    },

    /// The connection was lost.
    #[error("the connection was lost")]
    #[non_exhaustive]
    Lost {
        /// Why.
        source: Arc<dyn StdError + Send + Sync>,
    },

    /// The connection was given up, as nothing came from the server for so long after it was asked whether it is there.
    #[error("the server was asked and nothing came from it for {limit:?}")]
    #[non_exhaustive]
    Silent {
        /// The [`ping_timeout`](super::ListenerBuilder::ping_timeout).
        limit: Duration,
    },

    /// There is no connection at the moment, and the call is not one that waits for the next.
    #[error("no connection at the moment")]
    Down,

    /// The server has not answered a ping in time.
    #[error("no answer within {limit:?}")]
    #[non_exhaustive]
    PingTimeout {
        /// The [`ping_timeout`](super::ListenerBuilder::ping_timeout).
        limit: Duration,
    },

    /// The queue of notifications is full and nobody takes any, so that the server's answer cannot be read, either
    /// ([`WhenFull::Wait`](super::WhenFull::Wait)); or nobody takes the markers of 32 losses, so that no attempt is made.
    #[error("the reader's queue has been full for {limit:?}: expected a reader")]
    #[non_exhaustive]
    Backlog {
        /// The [`ping_timeout`](super::ListenerBuilder::ping_timeout).
        limit: Duration,
    },

    /// The [`max_retries`](super::ListenerBuilder::max_retries) are used up. Final.
    #[error("gave up, attempts made: {attempts}")]
    #[non_exhaustive]
    GaveUp {
        /// Attempts since the last stable connection.
        attempts: u32,
        /// Why the last one failed, or why the last connection was lost.
        source: Option<Arc<Self>>,
    },

    /// The program's own logger or event hook panicked. The listener goes on.
    #[error("the {hook} hook panicked: {message}")]
    #[non_exhaustive]
    HookPanicked {
        /// `"logger"` or `"event"`.
        hook: &'static str,
        /// The message of the panic, if it was text.
        message: String,
    },

    /// It was closed by this program. Final.
    #[error("the listener is closed")]
    Closed,

    /// The runtime on which it was built has shut down. Final.
    #[error("the listener's runtime has shut down")]
    RuntimeShutdown,
}

impl Error {
    /// The server's code (SQLSTATE), if the server said one; of several hosts, the last one's.
    pub fn code(&self) -> Option<&SqlState> {
        causes(self).find_map(|cause| cause.downcast_ref::<DbError>()).map(DbError::code)
    }

    /// This error and its causes in one line, for a log.
    ///
    /// ```
    /// # use perconn::postgres::{Error, Listener};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let error = Listener::connect("postgres://agent@127.0.0.1:1/orders").await.unwrap_err();
    /// eprintln!("{}", error.with_causes()); // connecting to 127.0.0.1:1 failed: Connection refused (os error 111)
    /// # assert!(error.with_causes().to_string().starts_with("connecting to 127.0.0.1:1 failed: "));
    /// # }
    /// ```
    pub fn with_causes(&self) -> impl fmt::Display + '_ {
        WithCauses(self)
    }

    /// A dial that failed without a word of ours: the user's dialer panicked.
    pub(super) fn of_dial(error: &crate::Error) -> Self {
        let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        let source: Box<dyn StdError + Send + Sync> = why.into();
        Self::Connect { host: "the server".into(), source: source.into() }
    }

    /// One more of the same, of those that say why an attempt failed.
    pub(super) fn of_attempt(error: &Self) -> Self {
        match error {
            Self::Connect { host, source } => Self::Connect { host: host.clone(), source: Arc::clone(source) },
            other => Self::InvalidConfig(other.to_string()),
        }
    }

    pub(super) fn from_core(error: crate::Error) -> Self {
        match error {
            crate::Error::InvalidConfig(text) => Self::InvalidConfig(text),
            other => Self::InvalidConfig(other.to_string()),
        }
    }

    /// Whether a [`Listener`](super::Listener) is over: no later call can succeed. (Of a
    /// [`ListenerConn`](super::ListenerConn), which does not come back, [`Lost`](Error::Lost) and [`Silent`](Error::Silent) are the end, too.)
    pub fn is_final(&self) -> bool {
        matches!(self, Self::GaveUp { .. } | Self::Closed | Self::RuntimeShutdown)
    }
}
