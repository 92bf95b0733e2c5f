//! The record of one break, from which every handle, the logger and the event hook are told.

use std::sync::Arc;
use std::time::Duration;
use std::{error, fmt, io};

use crate::meter::Meter;
use crate::{Error, Op};

/// Why and when a link stopped being usable.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) generation: u64,
    /// The operation that noticed.
    pub(crate) op: Op,
    pub(crate) cause: Cause,
    /// How long the link had been up.
    pub(crate) lived: Duration,
    /// What had passed over it. (A call that is still under way on another thread adds its bytes when it returns.)
    pub(crate) meter: Arc<Meter>,
    /// How many written bytes the peer's kernel had not acknowledged, where that is known.
    pub(crate) unacknowledged: Option<u64>,
    /// The program had ended the conversation: there will not be another link.
    pub(crate) is_last: bool,
}

impl Fault {
    /// A break whose record is gone.
    pub(crate) fn forgotten(generation: u64, op: Op) -> Self {
        let cause = io::Error::from(io::ErrorKind::ConnectionAborted).into();
        let (lived, meter) = (Duration::ZERO, Arc::default());
        Self { generation, op, cause, lived, meter, unacknowledged: None, is_last: false }
    }

    /// The same break as one handle has seen it.
    pub(crate) fn with_cause(&self, cause: Cause) -> Self {
        Self { cause, meter: Arc::clone(&self.meter), ..*self }
    }

    /// The error for a handle that learns of this break through `op`.
    pub(crate) fn error(&self, op: Op, address: &str) -> Error {
        let source = match &self.cause {
            // What the kernel says to a write after the peer has gone.
            Cause::PeerClosed | Cause::SaidClosed if op != Op::Read => {
                io::Error::new(io::ErrorKind::BrokenPipe, PeerClosed)
            }
            Cause::PeerClosed | Cause::SaidClosed => io::Error::new(io::ErrorKind::UnexpectedEof, PeerClosed),
            Cause::Requested => io::Error::new(io::ErrorKind::ConnectionAborted, ReconnectRequested),
            Cause::Silent(limit) => io::Error::new(io::ErrorKind::TimedOut, Silent(*limit)),
            Cause::Failed(source) => source.to_io(),
        };
        let (generation, unacknowledged) = (self.generation, self.unacknowledged);
        Error::IoError { op, generation, unacknowledged, address: address.to_owned(), source }
    }
}

/// The causes of a break.
#[derive(Debug)]
pub(crate) enum Cause {
    /// The peer ended the stream in an orderly way; a reader sees the end of the file.
    PeerClosed,
    /// The dialer says that the peer has closed; whether in an orderly way is not known.
    SaidClosed,
    /// The program called `reconnect()`.
    Requested,
    /// Nothing was received for this long.
    Silent(Duration),
    /// An I/O error.
    Failed(SharedIoError),
}

impl Cause {
    /// Whether this side has decided on the break. Errors that come after it are its echo.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Self::Requested | Self::Silent(_))
    }

    /// Whether the kernel has told of it: then a stream that is built on a socket is about to come to its end.
    pub(crate) fn is_of_the_kernel(&self) -> bool {
        match self {
            Self::SaidClosed => true,
            Self::Failed(error) => error.0.raw_os_error().is_some(),
            Self::PeerClosed | Self::Requested | Self::Silent(_) => false,
        }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Failed(SharedIoError::new(error))
    }
}

/// The text of an orderly end, where it has to be an error.
#[derive(Debug, thiserror::Error)]
#[error("the peer closed the connection")]
struct PeerClosed;

/// The text of a break on purpose.
#[derive(Debug, thiserror::Error)]
#[error("a reconnect was requested")]
struct ReconnectRequested;

/// The text of an idle timeout.
#[derive(Debug, thiserror::Error)]
#[error("nothing was received for {0:?}")]
struct Silent(Duration);

/// An [`io::Error`] that several parties are told of; `io::Error` itself cannot be cloned.
#[derive(Clone, Debug)]
pub(crate) struct SharedIoError(Arc<io::Error>);

impl SharedIoError {
    pub(crate) fn new(error: io::Error) -> Self {
        Self(Arc::new(error))
    }

    /// One more error of the same kind, operating-system code and text.
    pub(crate) fn to_io(&self) -> io::Error {
        match self.0.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.0.kind(), self.clone()),
        }
    }
}

impl fmt::Display for SharedIoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl error::Error for SharedIoError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn copies_of_an_error_keep_its_kind_code_text_and_cause() {
        let kernel = SharedIoError::new(io::Error::from_raw_os_error(104));
        assert_eq!(kernel.to_io().raw_os_error(), Some(104));

        let bad_number = "x".parse::<u8>().unwrap_err();
        let inner = Error::DialFailure {
            address: "a:1".into(),
            attempt: 1,
            source: io::Error::new(io::ErrorKind::InvalidData, bad_number),
        };
        let custom = SharedIoError::new(io::Error::new(io::ErrorKind::InvalidData, inner)).to_io();
        assert_eq!(custom.kind(), io::ErrorKind::InvalidData);
        assert_eq!(custom.to_string(), "dial 1 to a:1 failed");
        assert_eq!(custom.source().unwrap().to_string(), "invalid digit found in string");
    }

    #[test]
    fn an_orderly_close_is_a_broken_pipe_to_a_writer() {
        let fault = Fault { cause: Cause::PeerClosed, ..Fault::forgotten(1, Op::Read) };
        assert_eq!(fault.error(Op::Write, "a:1").kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(fault.error(Op::Read, "a:1").kind(), io::ErrorKind::UnexpectedEof);
    }
}
