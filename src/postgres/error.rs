//! The errors of a listener.
//!
//! Next: [`Event`](super::Event), which reports the ones that no caller gets.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use super::login_dialer::HostErrors;
use crate::causes::{WithCauses, causes};

/// An error of a [`Listener`](super::Listener) or a [`ListenerConn`](super::ListenerConn).
///
/// Its text describes its own level only. The cause is in [`source`](StdError::source), and the whole chain in
/// [`with_causes`](Error::with_causes).
///
/// ```
/// use perconn::postgres::Error;
///
/// /// Whether somebody has to change the settings.
/// fn is_misconfigured(error: &Error) -> bool {
///     let code = error.code().map(|code| code.code());
///     matches!(error, Error::InvalidConfig(_)) || error.is_hopeless() || matches!(code, Some("42501"))
/// }
/// # assert!(!is_misconfigured(&Error::Closed));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is invalid. The text names the value and what was expected.
    #[error("invalid configuration: {0}")]
    InvalidConfig(String),

    /// A name is not valid for a channel.
    #[error("channel name {channel:?}: {reason}")]
    #[non_exhaustive]
    InvalidChannel {
        /// The given name.
        channel: String,
        /// What is wrong with the name.
        reason: &'static str,
    },

    /// The channel is listened to already, or another call is about to listen to it.
    #[error("channel {channel:?} is listened to already")]
    #[non_exhaustive]
    AlreadyListening {
        /// The channel.
        channel: String,
    },

    /// The channel is not listened to, or it was unlistened while `listen` waited for the server's answer.
    #[error("channel {channel:?} is not listened to")]
    #[non_exhaustive]
    NotListening {
        /// The channel.
        channel: String,
    },

    /// The server answered one statement with an error. The connection stays up.
    #[error("the server refused {statement}")]
    #[non_exhaustive]
    Refused {
        /// The statement.
        statement: String,
        /// The server's error.
        source: tokio_postgres::Error,
    },

    /// No connection could be made, or the server refused it: a wrong password, an unknown database, a channel that
    /// cannot be listened to again.
    ///
    /// It is the cause of [`Event::AttemptFailed`](super::Event::AttemptFailed), and `connect()` returns it.
    #[error("connecting to {host} failed")]
    #[non_exhaustive]
    Connect {
        /// The host and port, or the path of the socket; of several hosts, all of them.
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

    /// The connection was dropped, because nothing arrived from the server for this long after a query.
    #[error("the server sent nothing for {limit:?} after a query")]
    #[non_exhaustive]
    Silent {
        /// The [`ping_timeout`](super::ListenerBuilder::ping_timeout).
        limit: Duration,
    },

    /// There is no connection at the moment, and the call does not wait for the next one.
    #[error("no connection to the server at the moment")]
    Down,

    /// The server did not answer a ping in time.
    #[error("the server did not answer a ping within {limit:?}")]
    #[non_exhaustive]
    PingTimeout {
        /// The [`ping_timeout`](super::ListenerBuilder::ping_timeout).
        limit: Duration,
    },

    /// The reader is behind: its queue became full, and not everything that has arrived could be read since.
    ///
    /// Either no task reads, or notifications keep arriving faster than the task takes them, so that the server's answer
    /// waits behind them ([`WhenFull::Wait`](super::WhenFull::Wait)); or the queue holds the markers of 32 losses, so that no
    /// attempt is made.
    #[error(
        "the reader has been behind for {limit:?}, and the server's answer with it: expected a reader that keeps up"
    )]
    #[non_exhaustive]
    Backlog {
        /// The [`ping_timeout`](super::ListenerBuilder::ping_timeout).
        limit: Duration,
    },

    /// A pooler between gives each transaction to any session of the server, as PgBouncer does with `pool_mode=transaction`
    /// or `statement`. The server's session forgets the `LISTEN`, or notifies another client: no notification arrives.
    ///
    /// Only the logger gets it, once for each listener, together with
    /// [`Event::SessionNotKept`](super::Event::SessionNotKept). Connect to the server itself, or to a pool in session mode.
    #[error("a pooler does not keep the session, so that no notification arrives: expected session mode, or no pooler")]
    SessionNotKept,

    /// The files of [`Tls`](crate::Tls) have changed and are not usable. The old certificates stay in use.
    ///
    /// Only the logger gets it, once for each such change.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[error("the new certificates are not usable; the old ones stay in use")]
    #[non_exhaustive]
    CertificatesKept {
        /// The cause.
        source: Arc<crate::Error>,
    },

    /// The [`max_retries`](super::ListenerBuilder::max_retries) are used up. Final.
    #[error("gave up after {attempts} attempts")]
    #[non_exhaustive]
    GaveUp {
        /// Attempts since the last stable connection.
        attempts: u32,
        /// Why the last attempt failed, or why the last connection was lost.
        source: Option<Arc<Self>>,
    },

    /// The program's own logger or event hook panicked. The listener continues.
    #[error("the {hook} hook panicked: {message}")]
    #[non_exhaustive]
    HookPanicked {
        /// `"logger"` or `"event"`.
        hook: &'static str,
        /// The message of the panic, if it was text.
        message: String,
    },

    /// The program closed the listener. Final.
    #[error("the listener is closed")]
    Closed,

    /// The runtime on which the listener was built has shut down. Final.
    #[error("the listener's runtime has shut down")]
    RuntimeShutdown,
}

/// Whether the server has named a reason that time alone does not mend.
fn is_hopeless(error: &(dyn StdError + 'static)) -> bool {
    let code = causes(error).find_map(|cause| cause.downcast_ref::<DbError>()).map(DbError::code);
    code.is_some_and(|code| {
        [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION, SqlState::INVALID_CATALOG_NAME]
            .contains(code)
    })
}

impl Error {
    /// The server's error code (SQLSTATE), if the server sent one; of several hosts, the code of the last one.
    pub fn code(&self) -> Option<&SqlState> {
        causes(self).find_map(|cause| cause.downcast_ref::<DbError>()).map(DbError::code)
    }

    /// Whether time alone will not mend it: the server refuses the password (SQLSTATE 28P01), lets the user in from nowhere or
    /// not like this (28000), or does not know the database (3D000). Somebody has to change something.
    ///
    /// Of several hosts, all have to say so. The listener goes on trying, at
    /// [longer intervals](super::ListenerBuilder::hopeless_retry_max).
    ///
    /// ```
    /// # use perconn::postgres::{Error, Event};
    /// fn on_event(event: &Event) {
    ///     match event {
    ///         Event::AttemptFailed { cause, .. } if cause.is_hopeless() => eprintln!("wake somebody: {}", cause.with_causes()),
    ///         _ => {}
    ///     }
    /// }
    /// # let _ = on_event;
    /// # assert!(!Error::Closed.is_hopeless());
    /// ```
    pub fn is_hopeless(&self) -> bool {
        match causes(self).find_map(|cause| cause.downcast_ref::<HostErrors>()) {
            Some(hosts) => hosts.errors().all(is_hopeless),
            None => is_hopeless(self),
        }
    }

    /// Displays this error and its causes in one line, for a log.
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

    /// The error of a dial that has recorded none itself: a dialer of the program panicked.
    pub(super) fn from_dial(error: &crate::Error) -> Self {
        let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        let source: Box<dyn StdError + Send + Sync> = reason.into();
        Self::Connect { host: "the server".into(), source: source.into() }
    }

    /// A copy of the error of a failed attempt.
    pub(super) fn copy_of_attempt(error: &Self) -> Self {
        match error {
            Self::Connect { host, source } => Self::Connect { host: host.clone(), source: Arc::clone(source) },
            other => Self::InvalidConfig(other.to_string()),
        }
    }

    /// The error of a core connection that could not be built.
    pub(super) fn from_core(error: crate::Error) -> Self {
        match error {
            crate::Error::InvalidConfig(text) => Self::InvalidConfig(text),
            other => Self::InvalidConfig(other.to_string()),
        }
    }

    /// What the logger gets for an error that the core connection has logged. `None` for the errors that an
    /// [`Event`](super::Event) reports; the others are warnings of the dialer.
    pub(super) fn from_logged(error: &crate::Error) -> Option<Self> {
        match error {
            #[cfg(feature = "tls")]
            crate::Error::CertificatesKept { source } => Some(Self::CertificatesKept { source: Arc::clone(source) }),
            crate::Error::InvalidConfig(text) => Some(Self::InvalidConfig(text.clone())),
            _ => None,
        }
    }

    /// Whether a [`Listener`](super::Listener) has ended: no later call can succeed.
    ///
    /// A [`ListenerConn`](super::ListenerConn) does not reconnect, so for it [`Lost`](Error::Lost) and
    /// [`Silent`](Error::Silent) are final too.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::GaveUp { .. } | Self::Closed | Self::RuntimeShutdown)
    }
}
