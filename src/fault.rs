//! The record of one break, from which every handle, the logger and the event hook are told.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::byte_count::ByteCount;
use crate::io_error::SharedIoError;
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
    pub(crate) byte_count: Arc<ByteCount>,
    /// How many written bytes the peer's kernel had not acknowledged, where that is known.
    pub(crate) unacknowledged: Option<u64>,
    /// The program had ended the conversation: there will not be another link.
    pub(crate) is_last: bool,
}

impl Fault {
    /// A break whose record is gone.
    pub(crate) fn forgotten(generation: u64, op: Op) -> Self {
        let cause = io::Error::from(io::ErrorKind::ConnectionAborted).into();
        let (lived, byte_count) = (Duration::ZERO, Arc::default());
        Self { generation, op, cause, lived, byte_count, unacknowledged: None, is_last: false }
    }

    /// The same break as a handle has seen it: of two causes, the one that says more.
    pub(crate) fn seen_as(self: &Arc<Self>, seen: Cause) -> Arc<Self> {
        let says_more = match (&self.cause, &seen) {
            // What comes after a break of our own making is its echo.
            (Cause::Requested | Cause::Silent(_), _) => false,
            // The stream knows better than the first report why it failed.
            (_, Cause::Failed(_)) => true,
            // The dialer knew only that it was closed.
            (Cause::SaidClosed, Cause::PeerClosed) => true,
            _ => false,
        };
        if says_more {
            Arc::new(Self { cause: seen, byte_count: Arc::clone(&self.byte_count), ..**self })
        } else {
            Arc::clone(self)
        }
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
    /// Whether the kernel has told of it: then a stream that is built on a socket is about to come to its end.
    pub(crate) fn is_of_the_kernel(&self) -> bool {
        match self {
            Self::SaidClosed => true,
            Self::Failed(error) => error.is_from_kernel(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orderly_close_is_a_broken_pipe_to_a_writer() {
        let fault = Fault { cause: Cause::PeerClosed, ..Fault::forgotten(1, Op::Read) };
        assert_eq!(fault.error(Op::Write, "a:1").kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(fault.error(Op::Read, "a:1").kind(), io::ErrorKind::UnexpectedEof);
    }
}
