//! The record of one break.
//!
//! Each handle, the logger and the event hook report a break from this one record. [`Fault::seen_as`] is the only place
//! that decides which of two causes of the same break a handle reports.
//!
//! Next: [`conn_state`](crate::conn_state), which keeps the records of the newest breaks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::byte_count::ByteCount;
use crate::io_error::SharedIoError;
use crate::{Error, Op};

/// Why and when a link stopped being usable.
#[derive(Debug)]
pub(crate) struct Fault {
    /// The number of the link that broke.
    pub(crate) generation: u64,
    /// The operation that noticed the break.
    pub(crate) op: Op,
    /// Why it broke.
    pub(crate) cause: Cause,
    /// How long the link had been up.
    pub(crate) lived: Duration,
    /// The bytes that had passed over the link. A call still running on another thread adds its bytes when it returns.
    pub(crate) byte_count: Arc<ByteCount>,
    /// How many written bytes the peer's kernel had not acknowledged, where that is known.
    pub(crate) unacknowledged: Option<u64>,
    /// The program had shut the connection down: no further link follows.
    pub(crate) is_last: bool,
    /// The link was not stable yet, and the program has not broken it.
    pub(crate) is_short: bool,
}

impl Fault {
    /// A substitute for a break whose record is gone: a [`ConnectionAborted`](io::ErrorKind::ConnectionAborted).
    pub(crate) fn forgotten(generation: u64, op: Op, is_short: bool) -> Self {
        let cause = io::Error::from(io::ErrorKind::ConnectionAborted).into();
        let (lived, byte_count) = (Duration::ZERO, Arc::default());
        Self { generation, op, cause, lived, byte_count, unacknowledged: None, is_last: false, is_short }
    }

    /// The same break as one handle reports it, whose own stream has shown the cause `seen`.
    ///
    /// The first operation that notices a break records its cause. A handle that then meets another cause on its stream
    /// reports the more precise of the two. The recorded break does not change.
    ///
    /// | recorded | seen | reported | reason |
    /// |---|---|---|---|
    /// | `Requested`, `IdleTimeout` | anything | recorded | what the stream shows after our own break is its echo |
    /// | `Failed` by the stream | `Failed` by the kernel | recorded | a session's error says more than the reset that follows it |
    /// | `Failed` | `BrokenPipe` | recorded | a broken pipe says only that the peer has gone |
    /// | any other | `Failed` | seen | the stream knows best why it failed |
    /// | `DialerSaysClosed` | `PeerClosed` | seen | the dialer knows that the stream is closed, the read that it ended cleanly |
    /// | any other | any other | recorded | an error says more than the end of the stream that follows it |
    pub(crate) fn seen_as(self: &Arc<Self>, seen: Cause) -> Arc<Self> {
        let is_better = match (&self.cause, &seen) {
            (Cause::Requested | Cause::IdleTimeout(_), _) => false, // rule: requested-break-keeps-its-cause
            (Cause::Failed(_), Cause::Failed(seen)) if seen.is_broken_pipe() => false,
            (Cause::Failed(recorded), Cause::Failed(seen)) => recorded.is_from_kernel() || !seen.is_from_kernel(),
            (_, Cause::Failed(_)) => true,
            (Cause::DialerSaysClosed, Cause::PeerClosed) => true,
            _ => false,
        };
        if is_better {
            Arc::new(Self { cause: seen, byte_count: Arc::clone(&self.byte_count), ..**self })
        } else {
            Arc::clone(self)
        }
    }

    /// The error of this break for a handle that reports it from the operation `op`.
    pub(crate) fn error(&self, op: Op, address: &str) -> Error {
        let (generation, unacknowledged) = (self.generation, self.unacknowledged);
        Error::IoError { op, generation, unacknowledged, address: address.to_owned(), source: self.source(op) }
    }

    /// The error of this short link for the next job of a clone whose last one was written on it.
    pub(crate) fn error_of_next_job(&self, address: &str) -> Error {
        Error::ShortLink { generation: self.generation, address: address.to_owned(), source: self.source(Op::Write) }
    }

    /// Why the link broke, as the operation `op` reports it.
    fn source(&self, op: Op) -> io::Error {
        match &self.cause {
            // What the kernel says to a write after the peer has gone.
            Cause::PeerClosed | Cause::DialerSaysClosed if op != Op::Read => {
                io::Error::new(io::ErrorKind::BrokenPipe, PeerClosedText)
            }
            Cause::PeerClosed | Cause::DialerSaysClosed => io::Error::new(io::ErrorKind::UnexpectedEof, PeerClosedText),
            Cause::Requested => io::Error::new(io::ErrorKind::ConnectionAborted, RequestedText),
            Cause::IdleTimeout(limit) => io::Error::new(io::ErrorKind::TimedOut, IdleTimeoutText(*limit)),
            Cause::Failed(source) => source.to_io(),
        }
    }

    /// What a read returns for this break: the peer's close is the end of the stream, anything else an error.
    ///
    /// With `close_as_error`, that close is an error, too.
    pub(crate) fn read_outcome(&self, address: &str, close_as_error: bool) -> io::Result<()> {
        match self.cause {
            Cause::PeerClosed if !close_as_error => Ok(()), // rule: close-as-error
            _ => Err(self.error(Op::Read, address).into()),
        }
    }
}

/// Why a link broke.
#[derive(Debug)]
pub(crate) enum Cause {
    /// The peer ended the stream cleanly; a read returns `Ok(0)`.
    PeerClosed,
    /// The dialer's `is_closed` says that the peer has closed. Whether it closed cleanly is not known.
    DialerSaysClosed,
    /// The program broke the link on purpose, with `break_link` or `abandon`.
    Requested,
    /// A read received nothing for this long.
    IdleTimeout(Duration),
    /// An I/O error.
    Failed(SharedIoError),
}

impl Cause {
    /// Whether the kernel has reported it. Then a stream built on a socket will soon return its end or an error.
    pub(crate) fn is_from_kernel(&self) -> bool {
        match self {
            Self::DialerSaysClosed => true,
            Self::Failed(error) => error.is_from_kernel(),
            Self::PeerClosed | Self::Requested | Self::IdleTimeout(_) => false,
        }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Failed(SharedIoError::new(error))
    }
}

/// The text of a peer's close, where it has to be an error.
#[derive(Debug, thiserror::Error)]
#[error("the peer closed the connection")]
struct PeerClosedText;

/// The text of a break that the program requested.
#[derive(Debug, thiserror::Error)]
#[error("the program broke the link")]
struct RequestedText;

/// The text of an idle timeout.
#[derive(Debug, thiserror::Error)]
#[error("nothing was received for {0:?}")]
struct IdleTimeoutText(Duration);

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(3);

    fn fault(cause: Cause) -> Arc<Fault> {
        Arc::new(Fault { cause, ..Fault::forgotten(1, Op::Read, false) })
    }

    fn failed(kind: io::ErrorKind) -> Cause {
        io::Error::from(kind).into()
    }

    #[test]
    fn peer_close_is_the_end_of_the_stream_to_a_reader_and_a_broken_pipe_to_a_writer() {
        let fault = fault(Cause::PeerClosed);
        assert_eq!(fault.error(Op::Write, "a:1").kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(fault.error(Op::Read, "a:1").kind(), io::ErrorKind::UnexpectedEof);
        assert!(fault.read_outcome("a:1", false).is_ok());
    }

    #[test]
    fn peer_close_is_an_error_where_the_program_wants_one() {
        let closed = fault(Cause::PeerClosed);
        let error = closed.read_outcome("a:1", true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(Error::of(&error).and_then(Error::generation), Some(1));
    }

    #[test]
    fn seen_as_reports_the_cause_that_its_table_names() {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, InvalidData};
        type Make = fn() -> Cause;
        const CLOSED: (&str, Make) = ("PeerClosed", || Cause::PeerClosed);
        const DIALER: (&str, Make) = ("DialerSaysClosed", || Cause::DialerSaysClosed);
        const REQUESTED: (&str, Make) = ("Requested", || Cause::Requested);
        const IDLE: (&str, Make) = ("IdleTimeout(3s)", || Cause::IdleTimeout(LIMIT));
        const RESET: (&str, Make) = ("ConnectionReset", || failed(ConnectionReset));
        const PIPE: (&str, Make) = ("BrokenPipe", || failed(BrokenPipe));
        const ALERT: (&str, Make) = ("InvalidData", || failed(InvalidData));
        const KERNEL: (&str, Make) = ("from the kernel", || io::Error::from_raw_os_error(104).into());
        // (recorded, seen, reported)
        let table = [
            // A break of our own keeps its cause.
            (REQUESTED, CLOSED, REQUESTED),
            (REQUESTED, DIALER, REQUESTED),
            (REQUESTED, REQUESTED, REQUESTED),
            (REQUESTED, IDLE, REQUESTED),
            (REQUESTED, PIPE, REQUESTED),
            (IDLE, CLOSED, IDLE),
            (IDLE, DIALER, IDLE),
            (IDLE, REQUESTED, IDLE),
            (IDLE, IDLE, IDLE),
            (IDLE, PIPE, IDLE),
            // An error on the handle's own stream replaces every other cause.
            (CLOSED, PIPE, PIPE),
            (DIALER, PIPE, PIPE),
            // But a broken pipe tells no reason.
            (RESET, PIPE, RESET),
            (KERNEL, PIPE, KERNEL),
            (PIPE, RESET, RESET),
            // An error of the kernel does not replace that of a session above it.
            (ALERT, KERNEL, ALERT),
            (KERNEL, ALERT, ALERT),
            (KERNEL, KERNEL, KERNEL),
            // The end of the stream replaces only what the dialer said.
            (DIALER, CLOSED, CLOSED),
            (RESET, CLOSED, RESET),
            (CLOSED, CLOSED, CLOSED),
            // Nothing else replaces a recorded cause.
            (DIALER, DIALER, DIALER),
            (DIALER, REQUESTED, DIALER),
            (DIALER, IDLE, DIALER),
            (CLOSED, DIALER, CLOSED),
            (CLOSED, REQUESTED, CLOSED),
            (CLOSED, IDLE, CLOSED),
            (RESET, DIALER, RESET),
            (RESET, REQUESTED, RESET),
            (RESET, IDLE, RESET),
        ];
        for (recorded, seen, reported) in table {
            let found = match &fault(recorded.1()).seen_as(seen.1()).cause {
                Cause::Failed(error) if error.is_from_kernel() => KERNEL.0.to_owned(),
                Cause::Failed(error) => format!("{:?}", error.to_io().kind()),
                cause => format!("{cause:?}"),
            };
            assert_eq!(found, reported.0, "recorded {}, seen {}", recorded.0, seen.0);
        }
    }
}
