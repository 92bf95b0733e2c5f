//! A kernel socket that several handles use at once.
//!
//! tokio's own `AsyncRead` and `AsyncWrite` want `&mut TcpStream`. The same reads and writes are built here from the
//! parts that work through `&TcpStream`: wait for readiness, then try. Like tokio's, a read that leaves room in the
//! buffer is taken to mean that the socket is drained, which saves the system call that would say so (tokio-rs/tokio
//! issue 5866 on where that holds). Partial writes are too rare to be worth the same.

use std::any::Any;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::task::coop;

use super::unacknowledged::unacknowledged;
use super::{Bytes, is_type, same_type};
use crate::fault::Cause;

/// A shared socket of one of the kinds that tokio can use through a shared reference.
#[derive(Clone, Debug)]
pub(crate) enum Socket {
    Tcp(Arc<TcpStream>),
    #[cfg(unix)]
    Unix(Arc<UnixStream>),
}

/// How a link is ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Parting {
    /// The kernel goes on delivering what was written.
    InOrder,
    /// The same, and the end of the stream has been sent already.
    AfterShutdown,
    /// What was not delivered never shall be: the peer counts as dead, and the next link's bytes must not be followed by
    /// the old one's.
    Abort,
}

/// Runs the same code for each kind of socket.
macro_rules! with_stream {
    ($socket:expr, $stream:ident => $body:expr) => {
        match $socket {
            Socket::Tcp($stream) => $body,
            #[cfg(unix)]
            Socket::Unix($stream) => $body,
        }
    };
}
pub(super) use with_stream;

impl Socket {
    /// Wraps `stream` if it is a socket, and gives it back if it is not.
    pub(super) fn from_stream<S: 'static>(stream: S) -> Result<Self, S> {
        let stream = match same_type::<S, TcpStream>(stream) {
            Ok(tcp) => return Ok(Self::Tcp(Arc::new(tcp))),
            Err(stream) => stream,
        };
        #[cfg(unix)]
        let stream = match same_type::<S, UnixStream>(stream) {
            Ok(unix) => return Ok(Self::Unix(Arc::new(unix))),
            Err(stream) => stream,
        };
        Err(stream)
    }

    /// Whether streams of this type are sockets.
    pub(crate) fn is_one<S: 'static>() -> bool {
        #[cfg(unix)]
        if is_type::<S, UnixStream>() {
            return true;
        }
        is_type::<S, TcpStream>()
    }

    pub(super) fn as_any(&self) -> &dyn Any {
        with_stream!(self, stream => &**stream)
    }

    #[inline]
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // The task's budget is seen to here, and the readiness is looked at where it is used: once less than tokio's own
        // `poll_read_ready` before each attempt would.
        let budget = ready!(coop::poll_proceed(cx));
        with_stream!(self, stream => loop {
            let mut is_done = false;
            // The outer `try_io` notes the readiness before the read: an event that comes in after the read survives
            // the clearing below.
            let outcome = stream.try_io(Interest::READABLE, || {
                let room = buf.remaining();
                let n = stream.try_read_buf(buf)?;
                is_done = true;
                clear_if_partial(n, room)
            });
            match outcome {
                Err(error) if !is_done && error.kind() == io::ErrorKind::WouldBlock => ready!(stream.poll_read_ready(cx))?,
                outcome => {
                    budget.made_progress();
                    return Poll::Ready(if is_done { Ok(()) } else { outcome });
                }
            }
        })
    }

    #[inline]
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: Bytes<'_>) -> Poll<io::Result<usize>> {
        let budget = ready!(coop::poll_proceed(cx));
        with_stream!(self, stream => loop {
            let outcome = match bytes {
                Bytes::One(bytes) => stream.try_write(bytes),
                Bytes::Many(parts) => stream.try_write_vectored(parts),
            };
            match outcome {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(stream.poll_write_ready(cx))?,
                outcome => {
                    budget.made_progress();
                    return Poll::Ready(outcome);
                }
            }
        })
    }

    /// Asks the kernel, and not the readiness flags, for bytes that have arrived.
    pub(super) fn read_arrived(&self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        let n = with_stream!(self, stream => (&*SockRef::from(&**stream)).read(buf.initialize_unfilled())?);
        buf.advance(n);
        Ok(())
    }

    /// Whether the kernel has bytes to be read.
    pub(crate) fn has_unread(&self) -> bool {
        let peek = |socket: SockRef<'_>| socket.peek(&mut [MaybeUninit::uninit()]);
        with_stream!(self, stream => peek(SockRef::from(&**stream))).is_ok_and(|n| n > 0)
    }

    /// Why a socket is closed whose close is known. Takes the kernel's pending error.
    pub(crate) fn closing_cause(&self) -> Cause {
        let (pending, failed) = with_stream!(self, stream => {
            (stream.take_error(), stream.try_io(Interest::ERROR, || Ok(())).is_ok())
        });
        match pending {
            Ok(Some(error)) | Err(error) => error.into(),
            // Another handle took the error, and has not come to report it.
            Ok(None) if failed => io::Error::from(io::ErrorKind::ConnectionReset).into(),
            Ok(None) => Cause::PeerClosed,
        }
    }

    /// Ends the writing side, as `TcpStream`'s own `shutdown` does.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self.shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            outcome => outcome,
        }
    }

    /// Tells the peer that a link is over, while a handle may still be reading what had arrived. From here on nothing is
    /// written. Returns how many written bytes the peer had not acknowledged, where that is known.
    pub(crate) fn hang_up(&self, parting: Parting) -> Option<u64> {
        // Elsewhere, ending the reading side throws away what has arrived and was not read.
        let how = if cfg!(target_os = "linux") { Shutdown::Both } else { Shutdown::Write };
        // It fails if the connection is gone already, which is as good.
        let has_ended = self.shutdown(how).is_ok() || matches!(parting, Parting::AfterShutdown);
        let count = match self {
            // The end of the stream is the last to be acknowledged, and counts as a byte.
            Self::Tcp(stream) => unacknowledged(stream).map(|count| count.saturating_sub(u64::from(has_ended))),
            #[cfg(unix)]
            Self::Unix(_) => None,
        };
        if let Parting::Abort = parting {
            self.abort();
        }
        count
    }

    /// The kernel throws away what it has not delivered, though other handles may still hold the socket.
    #[cfg(target_os = "linux")]
    fn abort(&self) {
        if let Self::Tcp(stream) = self {
            // "Disconnects" (connect(2) with AF_UNSPEC): the peer gets a reset.
            let _ = rustix::net::connect_unspec(&**stream);
        }
    }

    /// The same when the last handle lets go of the socket.
    #[cfg(not(target_os = "linux"))]
    fn abort(&self) {
        let _ = with_stream!(self, stream => SockRef::from(&**stream).set_linger(Some(std::time::Duration::ZERO)));
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        with_stream!(self, stream => SockRef::from(&**stream).shutdown(how))
    }
}

/// Says "would block" after a partial read, which makes `try_io` clear the readiness.
#[inline]
fn clear_if_partial(n: usize, asked: usize) -> io::Result<()> {
    // With epoll and kqueue, whose events are edge-triggered, a partial read means that no more is to be had.
    const PARTIAL_IS_DRAINED: bool = cfg!(any(
        target_os = "android",
        target_os = "freebsd",
        target_os = "ios",
        target_os = "linux",
        target_os = "macos",
        target_os = "netbsd",
        target_os = "openbsd",
    ));
    if PARTIAL_IS_DRAINED && 0 < n && n < asked { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
}
