//! The errors of a connection, also as an [`io::Error`].
//!
//! Each text describes its own level only; the cause is in [`source`](std::error::Error::source). Next: `fault.rs`, the
//! record of a break from which each [`Error::IoError`] is made.

use std::time::Duration;
use std::{fmt, io};

use crate::causes::WithCauses;
use crate::hooks::Logged;

#[cfg(feature = "tls")]
pub use self::refused_certificate::RefusedCertificate;

#[cfg(feature = "tls")]
mod refused_certificate;

/// An error of a [`Conn`](crate::Conn) or of one of its other handles.
///
/// A read or a write returns an [`io::Error`] with the kernel's own [`ErrorKind`](io::ErrorKind) and this type inside.
/// Code written for a `TcpStream` goes on working, and [`Error::of`] gives the details:
///
/// ```
/// use perconn::Error;
///
/// fn report(error: &std::io::Error) {
///     match Error::of(error) {
///         Some(error) if error.is_final() => println!("the connection has ended: {}", error.with_causes()),
///         Some(error) => println!("link {:?} broke: {}", error.generation(), error.with_causes()),
///         None => println!("not an error of the connection: {error}"),
///     }
/// }
/// # report(&Error::ClosedConnection.into());
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A dial failed: the name did not resolve, the peer refused or did not answer in time, or the session set-up
    /// failed.
    ///
    /// The actor dials again, unless this was the last of the first dials of a `connect()`, or it gives up
    /// ([`Error::GaveUp`]).
    #[error("dial {attempt} to {address} failed")]
    #[non_exhaustive]
    DialFailure {
        /// The address as given to the builder; with a [name](crate::Builder::name), `name (address)`.
        address: String,
        /// The number of this dial, from 1. It starts over after a stable link.
        attempt: u32,
        /// The reason. With several [addresses](crate::Builder::addresses), an error that names the address of this
        /// dial and has the reason as its own source.
        source: io::Error,
    },

    /// A link broke. Each handle reports each break once.
    #[error("{op} on link {generation} to {address} failed")]
    #[non_exhaustive]
    IoError {
        /// The operation that returned this error. In the logger and in events: the operation that noticed the break.
        op: Op,
        /// The generation of the broken link.
        generation: u64,
        /// How many of the bytes written on this link the peer's kernel had not acknowledged when it broke.
        ///
        /// This is about the peer's machine, not its program. At most these bytes did not reach the machine; all bytes
        /// before them did. What its *program* had not read is not known, and zero here does not mean that nothing is
        /// lost: a server that is killed loses all that its kernel had received for it. Only an answer from the peer
        /// proves that it has read something.
        ///
        /// The bytes counted here may have arrived with only the acknowledgement lost, so bytes that you send again can
        /// arrive twice. Bytes of the session set-up are counted, too.
        ///
        /// Known for TCP on Linux (x86, ARM, riscv64, s390x). `None` elsewhere, and for streams that are not a
        /// `TcpStream`.
        unacknowledged: Option<u64>,
        /// The address as given to the builder; with a [name](crate::Builder::name), `name (address)`.
        address: String,
        /// The reason. An error of the kernel keeps its kind and number.
        source: io::Error,
    },

    /// Earlier jobs of this clone of a [`SharedConn`](crate::SharedConn) were written on a link that broke before it was
    /// [stable](crate::Builder::stable_after). So they may be lost: nearly always that is the last job, and the ones before
    /// it. The job that returned this error was not sent.
    #[error(
        "link {generation} to {address} broke soon after it came up: \
         the jobs written on it may be lost, and this one was not sent"
    )]
    #[non_exhaustive]
    ShortLink {
        /// The generation of the broken link.
        generation: u64,
        /// The address as given to the builder; with a [name](crate::Builder::name), `name (address)`.
        address: String,
        /// Why the link broke. A [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) if the reason is not remembered,
        /// after more than 16 further links.
        source: io::Error,
    },

    /// This program closed the connection: by `close()`, or by `shutdown()` after which the last link ended.
    #[error("the connection is closed")]
    ClosedConnection,

    /// The actor stopped dialing, for one of these reasons:
    ///
    /// - [`max_retries`](crate::Builder::max_retries) are used up.
    /// - [`retry_if`](crate::Builder::retry_if) said [`Stop`](crate::Retry::Stop).
    /// - A dialer or a session set-up returned a [`fatal`](crate::fatal) error.
    /// - The [`backoff`](crate::Builder::backoff) has no further delay.
    #[error("gave up on {address} after {attempts} dials")]
    #[non_exhaustive]
    GaveUp {
        /// The address as given to the builder; with a [name](crate::Builder::name), `name (address)`.
        address: String,
        /// How many dials were made since the last stable link.
        attempts: u32,
        /// The last failure: an [`Error::DialFailure`], or an [`Error::IoError`] for a link that broke.
        source: std::sync::Arc<Self>,
    },

    /// There is no link at the moment, and [`WhenDown::Fail`](crate::WhenDown::Fail) is set.
    #[error("no link to {address} at the moment")]
    #[non_exhaustive]
    Down {
        /// The address as given to the builder; with a [name](crate::Builder::name), `name (address)`.
        address: String,
    },

    /// No link came up within the limit of [`WhenDown::WaitFor`](crate::WhenDown::WaitFor).
    #[error("no link to {address} within {limit:?}")]
    #[non_exhaustive]
    WaitTimeout {
        /// The address as given to the builder; with a [name](crate::Builder::name), `name (address)`.
        address: String,
        /// The limit.
        limit: Duration,
    },

    /// The files of [`Tls`](crate::Tls) have changed and are not usable. The old certificates stay in use.
    ///
    /// Only the logger gets it, once for each such change.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[error("the new certificates are not usable; the old ones stay in use")]
    #[non_exhaustive]
    CertificatesKept {
        /// The cause: an [`Error::InvalidConfig`].
        source: std::sync::Arc<Self>,
    },

    /// A setting is invalid. The text names the value and what was expected.
    #[error("invalid configuration: {0}")]
    InvalidConfig(String),

    /// A function of the program panicked: its logger, its event hook, its [`retry_if`](crate::Builder::retry_if) or its
    /// [`backoff`](crate::Builder::backoff). The connection goes on unharmed.
    #[error("the {hook} hook panicked: {message}")]
    #[non_exhaustive]
    HookPanicked {
        /// `"logger"`, `"event"`, `"retry_if"` or `"backoff"`.
        hook: &'static str,
        /// The panic's message, if it was text.
        message: String,
    },

    /// The runtime on which the connection was built has shut down, and the actor with it.
    ///
    /// Also the error of a connection on a runtime without timers or I/O, where the actor cannot run.
    #[error(
        "the connection's runtime has shut down, or lacks time or I/O: expected a running runtime with both enabled"
    )]
    RuntimeShutdown,
}

impl Error {
    /// The kind of this error as an [`io::Error`].
    ///
    /// - A failed dial, a broken link and a short one: the kind of their cause.
    /// - A wait that took too long: [`TimedOut`](io::ErrorKind::TimedOut).
    /// - An invalid setting: [`InvalidInput`](io::ErrorKind::InvalidInput).
    /// - No link, now or ever again: [`NotConnected`](io::ErrorKind::NotConnected). One exception: a write after the
    ///   program's own `shutdown()` returns a [`BrokenPipe`](io::ErrorKind::BrokenPipe), as on a `TcpStream`.
    /// - Certificates that were kept: the kind of their cause.
    /// - A panic of a hook: [`Other`](io::ErrorKind::Other).
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::DialFailure { source, .. } | Self::IoError { source, .. } | Self::ShortLink { source, .. } => {
                source.kind()
            }
            Self::WaitTimeout { .. } => io::ErrorKind::TimedOut,
            Self::InvalidConfig(_) => io::ErrorKind::InvalidInput,
            #[cfg(feature = "tls")]
            Self::CertificatesKept { source } => source.kind(),
            Self::HookPanicked { .. } => io::ErrorKind::Other,
            Self::ClosedConnection | Self::GaveUp { .. } | Self::Down { .. } | Self::RuntimeShutdown => {
                io::ErrorKind::NotConnected
            }
        }
    }
}

impl Error {
    /// The error of this crate inside an [`io::Error`]. `None` if it carries no such error.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// The number of the link that broke, if this error reports a break ([`Error::IoError`] or [`Error::ShortLink`]).
    ///
    /// Two errors with the same generation report the same break. A handle reports it once, unless the future of an
    /// operation on a whole [`Conn`](crate::Conn#timeouts-and-select) was dropped.
    ///
    /// ```
    /// use perconn::Error;
    ///
    /// fn broken_link(error: &std::io::Error) -> Option<u64> {
    ///     Error::of(error)?.generation()
    /// }
    /// # assert_eq!(broken_link(&Error::ClosedConnection.into()), None);
    /// ```
    pub fn generation(&self) -> Option<u64> {
        match self {
            Self::IoError { generation, .. } | Self::ShortLink { generation, .. } => Some(*generation),
            _ => None,
        }
    }

    /// Displays this error and its causes in one line, for a log.
    ///
    /// ```
    /// use perconn::Conn;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let error = Conn::connect("127.0.0.1:1").await.unwrap_err();
    /// println!("{}", error.with_causes()); // dial 1 to 127.0.0.1:1 failed: Connection refused (os error 111)
    /// # assert!(error.with_causes().to_string().starts_with("dial 1 to 127.0.0.1:1 failed: "));
    /// # }
    /// ```
    pub fn with_causes(&self) -> impl fmt::Display + '_ {
        WithCauses(self)
    }

    /// Whether the connection has ended: no later operation on it can succeed.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::ClosedConnection | Self::GaveUp { .. } | Self::RuntimeShutdown)
    }
}

impl Logged for Error {
    fn hook_panicked(hook: &'static str, message: String) -> Self {
        Self::HookPanicked { hook, message }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

/// The operation that failed, in [`Error::IoError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Op {
    /// A read. Also the actor's watch of an idle link.
    Read,
    /// A write.
    Write,
    /// A flush.
    Flush,
    /// A shutdown of the write side.
    Shutdown,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Shutdown => "shutdown",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn text_describes_its_own_level_and_the_cause_is_in_source() {
        let error = Error::IoError {
            op: Op::Write,
            generation: 3,
            unacknowledged: None,
            address: "db:5432".into(),
            source: io::Error::from(io::ErrorKind::BrokenPipe),
        };
        assert_eq!(error.to_string(), "write on link 3 to db:5432 failed");
        assert_eq!(error.source().unwrap().to_string(), "broken pipe");
    }

    #[test]
    fn io_error_keeps_the_kind_and_carries_the_error() {
        let refused = Error::DialFailure {
            address: "db:5432".into(),
            attempt: 1,
            source: io::ErrorKind::ConnectionRefused.into(),
        };
        let error = io::Error::from(refused);
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let inside = error.get_ref().unwrap().downcast_ref::<Error>();
        assert!(matches!(inside, Some(Error::DialFailure { attempt: 1, .. })));
    }
}
