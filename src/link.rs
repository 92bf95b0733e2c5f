//! One live stream with the peer, and how a handle reaches it.
//!
//! A `TcpStream` or `UnixStream` can be read, written and watched through a shared reference. So every handle and the
//! actor hold the same [`Socket`], and no lock is needed. Any other stream needs `&mut` for everything: a whole `Conn`
//! owns it, and the halves of `into_split` share it behind a lock.
//!
//! Next: [`Socket`], which reads and writes the kernel's sockets.

use std::any::Any;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use self::peer_close::{LastCheck, is_closed_now};
#[cfg(feature = "tls")]
pub(crate) use self::socket::read_queued;
pub(crate) use self::socket::{Disconnect, Socket};
#[cfg(feature = "outbox")]
pub(crate) use self::unacknowledged::COUNTS_UNACKNOWLEDGED;
use crate::byte_count::ByteCount;
use crate::io_error::check_written;
use crate::panics::QuietDrop;
use crate::poll_once::poll_once;
use crate::sync::modelled::Mutex;

mod peer_close;
mod socket;
mod unacknowledged;

/// One reference to the stream of a link.
pub(crate) struct Link<S> {
    /// The number of the link.
    pub(crate) generation: u64,
    /// Its stream.
    pub(crate) stream: StreamRef<S>,
    /// The bytes that have passed over it, counted by the handles.
    pub(crate) byte_count: Arc<ByteCount>,
}

impl<S> Link<S> {
    /// Makes a second reference to the same stream.
    pub(crate) fn share(self) -> (Self, Self) {
        let Self { generation, stream, byte_count } = self;
        let (one, other) = stream.share();
        (
            Self { generation, stream: one, byte_count: Arc::clone(&byte_count) },
            Self { generation, stream: other, byte_count },
        )
    }

    /// Takes the stream out of its lock if this is the only reference.
    pub(crate) fn unshare(self) -> Self {
        Self { stream: self.stream.unshare(), ..self }
    }
}

/// A reference to the stream of a link.
pub(crate) enum StreamRef<S> {
    /// A kernel socket, which needs no lock.
    Socket(Socket),
    /// Any other stream, with one handle. On the heap, so that a reference to a socket is small.
    Owned(Box<QuietDrop<S>>),
    /// Any other stream, shared by the halves of a connection.
    Locked(Arc<Mutex<QuietDrop<S>>>),
}

impl<S> StreamRef<S> {
    /// The socket, if the stream is one.
    pub(crate) fn socket(&self) -> Option<&Socket> {
        match self {
            Self::Socket(socket) => Some(socket),
            Self::Owned(_) | Self::Locked(_) => None,
        }
    }

    /// Whether bytes may have arrived that were not read. For a stream that is not a socket this is not known, so true.
    pub(crate) fn has_unread(&self) -> bool {
        self.socket().is_none_or(Socket::has_unread)
    }

    /// Makes a second reference to the same stream.
    fn share(self) -> (Self, Self) {
        match self {
            Self::Socket(socket) => (Self::Socket(socket.clone()), Self::Socket(socket)),
            Self::Owned(stream) => Self::Locked(Arc::new(Mutex::new(*stream))).share(),
            Self::Locked(stream) => (Self::Locked(Arc::clone(&stream)), Self::Locked(stream)),
        }
    }

    /// Takes the stream out of its lock if this is the only reference.
    fn unshare(self) -> Self {
        match self {
            Self::Locked(stream) => match Arc::try_unwrap(stream) {
                Ok(stream) => Self::Owned(Box::new(stream.into_inner())),
                Err(stream) => Self::Locked(stream),
            },
            other => other,
        }
    }
}

impl<S> StreamRef<S> {
    /// Checks whether the peer is known to have closed. `is_closed` answers for a stream that is not a socket.
    #[inline]
    pub(crate) fn check_closed(&self, last: &mut LastCheck, is_closed: impl FnOnce(&S) -> bool) -> bool {
        match self {
            Self::Socket(socket) => socket.check_closed(last),
            Self::Owned(stream) => is_closed(stream),
            Self::Locked(stream) => is_closed(&stream.lock()),
        }
    }

    /// Why the peer has closed, if the stream is not a socket and `closing_error` knows.
    pub(crate) fn closing_error(
        &mut self,
        closing_error: impl FnOnce(&mut S) -> Option<io::Error>,
    ) -> Option<io::Error> {
        match self {
            Self::Socket(_) => None,
            Self::Owned(stream) => closing_error(stream),
            Self::Locked(stream) => closing_error(&mut stream.lock()),
        }
    }
}

impl<S: 'static> StreamRef<S> {
    /// The first reference to a new stream.
    pub(crate) fn new(stream: S) -> Self {
        match Socket::from_stream(stream) {
            Ok(socket) => Self::Socket(socket),
            Err(stream) => Self::Owned(Box::new(QuietDrop::new(stream))),
        }
    }

    /// The stream itself, if it is not behind a lock.
    pub(crate) fn get_ref(&self) -> Option<&S> {
        match self {
            Self::Socket(socket) => socket.as_any().downcast_ref(),
            Self::Owned(stream) => Some(stream),
            Self::Locked(_) => None,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> StreamRef<S> {
    /// Reads some bytes.
    #[inline]
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(socket) => socket.poll_read(cx, buf),
            Self::Owned(stream) => Pin::new(&mut ***stream).poll_read(cx, buf),
            Self::Locked(stream) => Pin::new(&mut **stream.lock()).poll_read(cx, buf),
        }
    }

    /// Writes some of these bytes.
    #[inline]
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bufs: WriteBufs<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => socket.poll_write(cx, bufs),
            other => other.poll_write_on_program_stream(cx, bufs),
        }
    }

    /// Writes on a stream of the program. Not inlined: it would lengthen the write on a socket, which needs none of it.
    #[inline(never)]
    fn poll_write_on_program_stream(&mut self, cx: &mut Context<'_>, bufs: WriteBufs<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(_) => unreachable!("a socket is the kernel's"),
            Self::Owned(stream) => bufs.poll_write(&mut ***stream, cx),
            Self::Locked(stream) => bufs.poll_write(&mut **stream.lock(), cx),
        }
    }

    /// Whether a vectored write takes more than the first buffer.
    pub(crate) fn is_write_vectored(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::Owned(stream) => stream.is_write_vectored(),
            Self::Locked(stream) => stream.lock().is_write_vectored(),
        }
    }

    /// Hands everything that the stream has accepted to the kernel.
    #[inline]
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            // Every byte that a socket has accepted is with the kernel.
            Self::Socket(_) => Poll::Ready(Ok(())),
            Self::Owned(stream) => Pin::new(&mut ***stream).poll_flush(cx),
            Self::Locked(stream) => Pin::new(&mut **stream.lock()).poll_flush(cx),
        }
    }

    /// Shuts the writing side down.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(socket) => Poll::Ready(socket.shutdown_write()),
            Self::Owned(stream) => Pin::new(&mut ***stream).poll_shutdown(cx),
            Self::Locked(stream) => Pin::new(&mut **stream.lock()).poll_shutdown(cx),
        }
    }

    /// Reads what has arrived, without waiting. `None`: nothing has, as far as the stream knows.
    pub(crate) fn read_arrived(&mut self, buf: &mut ReadBuf<'_>) -> Option<io::Result<()>> {
        if let Self::Socket(socket) = self {
            return match socket.read_arrived(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                outcome => Some(outcome),
            };
        }
        poll_once(poll_fn(|cx| self.poll_read(cx, buf)))
    }
}

/// The bytes of one write.
#[derive(Clone, Copy)]
pub(crate) enum WriteBufs<'a> {
    /// A single buffer.
    One(&'a [u8]),
    /// The buffers of a vectored write.
    Many(&'a [IoSlice<'a>]),
}

impl WriteBufs<'_> {
    /// How many bytes they have together.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::One(bytes) => bytes.len(),
            Self::Many(parts) => parts.iter().map(|part| part.len()).sum(),
        }
    }

    /// Writes them on a stream of the program. It is an error if the stream says that it has taken more than it was given.
    fn poll_write<S: AsyncWrite + Unpin>(self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let outcome = ready!(match self {
            Self::One(bytes) => Pin::new(stream).poll_write(cx, bytes),
            Self::Many(parts) => Pin::new(stream).poll_write_vectored(cx, parts),
        });
        Poll::Ready(check_written(outcome, self.len()))
    }
}

/// Whether `S` is the type `T`.
pub(crate) fn is_type<S: 'static, T: 'static>() -> bool {
    std::any::TypeId::of::<S>() == std::any::TypeId::of::<T>()
}

/// `value` as a `T`, if its type `S` is `T`.
fn same_type<S: 'static, T: 'static>(value: S) -> Result<T, S> {
    let mut value = Some(value);
    let taken = (&mut value as &mut dyn Any).downcast_mut::<Option<T>>().and_then(Option::take);
    match (taken, value) {
        (Some(taken), _) => Ok(taken),
        (None, Some(value)) => Err(value),
        (None, None) => unreachable!("the value is either taken or still there"),
    }
}
