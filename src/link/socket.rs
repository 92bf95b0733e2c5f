//! A kernel socket that several handles use at once.
//!
//! tokio's own `AsyncRead` and `AsyncWrite` need `&mut TcpStream`. The same reads and writes are built here from the
//! methods that take `&TcpStream`: wait for readiness, then try. Like tokio, a read that leaves room in the buffer
//! assumes that the socket is drained. That saves the system call that would confirm it; tokio-rs/tokio issue 5866 says
//! where the assumption holds. Partial writes are too rare for the same step to pay.
//!
//! Next: [`peer_close`](super::peer_close), the check before each write.

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
use super::{WriteBufs, is_type, same_type};
use crate::fault::Cause;

/// A socket of a type that tokio can use through a shared reference.
#[derive(Clone, Debug)]
pub(crate) enum Socket {
    /// Over TCP, where unacknowledged bytes can be counted.
    Tcp(Arc<TcpStream>),
    /// Of the Unix domain.
    #[cfg(unix)]
    Unix(Arc<UnixStream>),
}

/// How a socket is disconnected.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Disconnect {
    /// The kernel still delivers what was written.
    Graceful,
    /// The same, and the end of the stream was sent before.
    AfterShutdown,
    /// The kernel discards what it has not delivered. The peer counts as dead, and old bytes must not reach it after
    /// the bytes of the next link.
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

    /// Whether streams of type `S` are sockets.
    pub(crate) fn is_socket<S: 'static>() -> bool {
        #[cfg(unix)]
        if is_type::<S, UnixStream>() {
            return true;
        }
        is_type::<S, TcpStream>()
    }

    /// The tokio stream inside.
    pub(super) fn as_any(&self) -> &dyn Any {
        with_stream!(self, stream => &**stream)
    }

    /// Reads some bytes. `Ok` with an unchanged buffer is the end of the stream.
    ///
    /// The buffer must have room: with none, the end of the stream would look like a full buffer. The operations of
    /// a handle return before they get here.
    #[inline]
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // This takes from the task's budget itself and checks the readiness only inside `try_io`. Calling tokio's
        // `poll_read_ready` before each attempt would check it twice.
        let budget = ready!(coop::poll_proceed(cx));
        with_stream!(self, stream => loop {
            let mut is_done = false;
            // The outer `try_io` notes the readiness before the read. So an event that arrives after the read survives
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

    /// Writes some bytes. The kernel has what it returns.
    ///
    /// Whether the peer has closed is checked before, by [`check_closed`](super::StreamRef::check_closed): the kernel
    /// accepts the first write after the peer's close without an error.
    #[inline]
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bufs: WriteBufs<'_>) -> Poll<io::Result<usize>> {
        let budget = ready!(coop::poll_proceed(cx));
        with_stream!(self, stream => loop {
            let outcome = match bufs {
                WriteBufs::One(bytes) => stream.try_write(bytes),
                WriteBufs::Many(parts) => stream.try_write_vectored(parts),
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

    /// Reads bytes that have arrived. Asks the kernel and ignores the readiness flags.
    pub(super) fn read_arrived(&self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        let n = with_stream!(self, stream => (&*SockRef::from(&**stream)).read(buf.initialize_unfilled())?);
        buf.advance(n);
        Ok(())
    }

    /// Whether the kernel holds bytes that were not read.
    pub(crate) fn has_unread(&self) -> bool {
        let peek = |socket: SockRef<'_>| socket.peek(&mut [MaybeUninit::uninit()]);
        with_stream!(self, stream => peek(SockRef::from(&**stream))).is_ok_and(|n| n > 0)
    }

    /// Why the peer has closed this socket, which the program may have shut down before. Takes the kernel's pending error,
    /// which the kernel returns only once.
    pub(crate) fn closing_cause(&self, is_shut_down: bool) -> Cause {
        match self.take_error() {
            Ok(Some(error)) | Err(error) => error.into(),
            // Another handle has taken the error and has not recorded the break yet.
            Ok(None) if self.was_reset(is_shut_down) => io::Error::from(io::ErrorKind::ConnectionReset).into(),
            Ok(None) => Cause::PeerClosed,
        }
    }

    /// Takes the kernel's pending error.
    fn take_error(&self) -> io::Result<Option<io::Error>> {
        let taken = with_stream!(self, stream => stream.take_error());
        // Windows has no pending error of a reset: each read returns it.
        #[cfg(not(all(target_os = "linux", not(perconn_portable))))]
        let taken = taken.map(|error| {
            error.or_else(|| with_stream!(self, stream => super::peer_close::pending_error(&SockRef::from(&**stream))))
        });
        taken
    }

    /// Whether the peer has reset this socket, as far as that can be known without its error.
    fn was_reset(&self, is_shut_down: bool) -> bool {
        let has_error_flag = with_stream!(self, stream => stream.try_io(Interest::ERROR, || Ok(())).is_ok());
        // A peer that closes leaves our direction open.
        has_error_flag || cfg!(all(target_os = "linux", not(perconn_portable))) && !is_shut_down && self.has_hung_up()
    }

    /// Shuts the writing side down, as `TcpStream`'s own `shutdown` does.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self.shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            outcome => outcome,
        }
    }

    /// Disconnects from the peer and keeps the descriptor: a handle can still read what had arrived, and nothing is
    /// written any more. Returns how many written bytes the peer had not acknowledged, where that is known.
    pub(crate) fn disconnect(&self, how: Disconnect) -> Option<u64> {
        // On other platforms, shutting down the reading side discards what has arrived and was not read.
        let sides =
            if cfg!(all(target_os = "linux", not(perconn_portable))) { Shutdown::Both } else { Shutdown::Write };
        // It fails if the connection is gone already. Then nothing is left to do.
        let has_ended = self.shutdown(sides).is_ok() || matches!(how, Disconnect::AfterShutdown);
        let count = match self {
            // The end of the stream is acknowledged last and counts as one byte.
            Self::Tcp(stream) => unacknowledged(stream).map(|count| count.saturating_sub(u64::from(has_ended))),
            #[cfg(unix)]
            Self::Unix(_) => None,
        };
        if let Disconnect::Abort = how {
            self.abort();
        }
        count
    }

    /// How many written bytes the peer's kernel has not acknowledged so far, where that is known.
    #[cfg(feature = "outbox")]
    pub(crate) fn unacknowledged(&self) -> Option<u64> {
        match self {
            Self::Tcp(stream) => unacknowledged(stream),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    /// Makes the kernel discard what it has not delivered, even if other handles still hold the socket.
    #[cfg(all(target_os = "linux", not(perconn_portable)))]
    fn abort(&self) {
        if let Self::Tcp(stream) = self {
            // connect(2) with AF_UNSPEC dissolves the association; the peer gets a reset.
            let _ = rustix::net::connect_unspec(&**stream);
        }
    }

    /// The same, as soon as the last handle drops the socket.
    #[cfg(not(all(target_os = "linux", not(perconn_portable))))]
    fn abort(&self) {
        let _ = with_stream!(self, stream => SockRef::from(&**stream).set_linger(Some(std::time::Duration::ZERO)));
    }

    /// shutdown(2), which tokio offers only for `&mut`.
    fn shutdown(&self, sides: Shutdown) -> io::Result<()> {
        with_stream!(self, stream => SockRef::from(&**stream).shutdown(sides))
    }
}

/// Reads bytes that the kernel has received on a stream, past the runtime's readiness flag. `None`: it is not a socket.
///
/// "Would block" if there are none. Then the end of the stream stays for the next read and, on Unix, so does an error.
#[cfg(feature = "tls")]
pub(crate) fn read_queued<S: 'static>(stream: &S, buf: &mut [u8]) -> Option<io::Result<usize>> {
    let stream = stream as &dyn Any;
    let tcp = stream.downcast_ref::<TcpStream>().map(SockRef::from);
    #[cfg(unix)]
    let socket = tcp.or_else(|| stream.downcast_ref::<UnixStream>().map(SockRef::from));
    #[cfg(not(unix))]
    let socket = tcp;
    let socket = socket?;
    Some(if has_queued(&socket) { (&*socket).read(buf) } else { Err(io::ErrorKind::WouldBlock.into()) })
}

/// Whether the kernel has received bytes that were not read. Leaves a pending error alone, as a peek would not.
#[cfg(all(feature = "tls", unix))]
fn has_queued(socket: &SockRef<'_>) -> bool {
    rustix::io::ioctl_fionread(&**socket).is_ok_and(|count| count > 0)
}

/// The same by a peek.
#[cfg(all(feature = "tls", not(unix)))]
fn has_queued(socket: &SockRef<'_>) -> bool {
    socket.peek(&mut [MaybeUninit::uninit()]).is_ok_and(|count| count > 0)
}

/// Returns "would block" after a partial read, which makes `try_io` clear the readiness.
#[inline]
fn clear_if_partial(n: usize, asked: usize) -> io::Result<()> {
    // The events of epoll and kqueue are edge-triggered: after a partial read, the next bytes raise a new event.
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
