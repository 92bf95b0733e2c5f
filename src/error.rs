//! What can go wrong, and how it looks as an [`io::Error`].
//!
//! Every message says its own level only; the cause is in [`source`](std::error::Error::source).

use std::time::Duration;
use std::{fmt, io};

use crate::causes::WithCauses;
use crate::hooks::Logged;

/// Everything that a [`Conn`](crate::Conn) and its relatives report.
///
/// A read or a write returns an [`io::Error`] of the kernel's own [`ErrorKind`](io::ErrorKind) with this type inside,
/// so that code written for a `TcpStream` goes on working and code that wants to know more can ask:
///
/// ```
/// use perconn::Error;
///
/// fn generation_that_broke(error: &std::io::Error) -> Option<u64> {
///     match Error::of(error)? {
///         Error::IoError { generation, .. } => Some(*generation),
///         _ => None,
///     }
/// }
/// # assert_eq!(generation_that_broke(&Error::ClosedConnection.into()), None);
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A dial failed: the name did not resolve, the peer refused or did not answer in time, or the session set-up
    /// failed. The actor dials again, unless this was the first dial of a `connect()` or the last of
    /// [`max_retries`](crate::Builder::max_retries).
    #[error("dial {attempt} to {address} failed")]
    #[non_exhaustive]
    DialFailure {
        /// The address as given to the builder.
        address: String,
        /// The number of this dial, from 1; it starts over after a link has been stable.
        attempt: u32,
        /// Why.
        source: io::Error,
    },

    /// A link broke. Each handle is told once for each broken link.
    #[error("{op} on link {generation} to {address} failed")]
    #[non_exhaustive]
    IoError {
        /// The operation that was told; in the logger and in events, the one that noticed.
        op: Op,
        /// The generation of the link that is gone.
        generation: u64,
        /// How many of the bytes that were written on this link the peer's kernel had not acknowledged when it broke:
        /// at most these did not reach the peer's machine. (They may have, and only the acknowledgement was lost; so
        /// what is sent again can arrive twice.) All bytes before them did, which does not mean that the peer's program
        /// has read them. What the session set-up wrote is counted, too.
        ///
        /// Known for TCP on Linux; `None` elsewhere, and for streams that are not a `TcpStream`.
        unacknowledged: Option<u64>,
        /// The address as given to the builder.
        address: String,
        /// Why, with the kernel's error kind and number where it came from the kernel.
        source: io::Error,
    },

    /// The connection was closed by this program: by `close()`, or by `shutdown()` once the conversation had ended.
    #[error("the connection is closed")]
    ClosedConnection,

    /// The actor has stopped dialing because [`max_retries`](crate::Builder::max_retries) are used up.
    #[error("gave up on {address}, dials made: {attempts}")]
    #[non_exhaustive]
    GaveUp {
        /// The address as given to the builder.
        address: String,
        /// Dials since the last stable link.
        attempts: u32,
    },

    /// There is no link at the moment, and [`WhenDown::Fail`](crate::WhenDown::Fail) asks not to wait for one.
    #[error("no link to {address} at the moment")]
    #[non_exhaustive]
    Down {
        /// The address as given to the builder.
        address: String,
    },

    /// No link came up in the time that [`WhenDown::WaitFor`](crate::WhenDown::WaitFor) allows.
    #[error("no link to {address} within {limit:?}")]
    #[non_exhaustive]
    WaitTimeout {
        /// The address as given to the builder.
        address: String,
        /// The time that was allowed.
        limit: Duration,
    },

    /// A setting that cannot work. The text names the value and what was expected.
    #[error("invalid configuration: {0}")]
    InvalidConfig(String),

    /// The program's own logger or event hook panicked. The connection goes on without harm.
    #[error("the {hook} hook panicked: {message}")]
    #[non_exhaustive]
    HookPanicked {
        /// `"logger"` or `"event"`.
        hook: &'static str,
        /// The panic's message, if it was text.
        message: String,
    },

    /// The runtime on which the connection was built has shut down, and its actor with it. (A runtime that was built
    /// without timers or I/O cannot keep an actor alive, either.)
    #[error("the connection's runtime has shut down, or lacks timers or I/O")]
    RuntimeShutdown,
}

impl Error {
    /// The kind that this error has as an [`io::Error`].
    ///
    /// A failed dial and a broken link have the kind of their cause; a wait that was too long is
    /// [`TimedOut`](io::ErrorKind::TimedOut); a bad setting is [`InvalidInput`](io::ErrorKind::InvalidInput); what
    /// says that there is no link, now or for ever, is [`NotConnected`](io::ErrorKind::NotConnected). (Only a write after
    /// the program's own `shutdown()` is a [`BrokenPipe`](io::ErrorKind::BrokenPipe), as on a `TcpStream`.)
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::DialFailure { source, .. } | Self::IoError { source, .. } => source.kind(),
            Self::WaitTimeout { .. } => io::ErrorKind::TimedOut,
            Self::InvalidConfig(_) => io::ErrorKind::InvalidInput,
            Self::HookPanicked { .. } => io::ErrorKind::Other,
            Self::ClosedConnection | Self::GaveUp { .. } | Self::Down { .. } | Self::RuntimeShutdown => {
                io::ErrorKind::NotConnected
            }
        }
    }
}

impl Error {
    /// The error of this crate that an [`io::Error`] carries, if it does.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// This error and its causes in one line, for a log.
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

    /// Whether it is over: no later operation on the same connection can succeed.
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
    /// A read, or the actor's own look at an idle link.
    Read,
    /// A write.
    Write,
    /// A flush.
    Flush,
    /// A shutdown of the writing side.
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
    fn text_says_its_own_level_and_the_cause_is_in_source() {
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
