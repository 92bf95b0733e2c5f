//! One live stream with the peer, and how a handle reaches it.
//!
//! A `TcpStream` or a `UnixStream` can be read, written and watched through a shared reference, so every handle and
//! the actor hold the same [`Socket`] and nobody needs a lock. Any other stream needs `&mut` for everything: a whole
//! `Conn` owns it, and the halves of `into_split` share it behind a lock.

use std::any::Any;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use self::peer_close::{LastLook, is_closed_now};
pub(crate) use self::socket::{Parting, Socket};
use crate::sync::Mutex;

use crate::byte_count::ByteCount;
use crate::poll_once::poll_once;

mod peer_close;
mod socket;
mod unacknowledged;

/// A stream and the number of its link.
pub(crate) struct Link<S> {
    pub(crate) generation: u64,
    pub(crate) stream: StreamRef<S>,
    pub(crate) byte_count: Arc<ByteCount>,
}

impl<S> Link<S> {
    /// Two links on one stream.
    pub(crate) fn share(self) -> (Self, Self) {
        let Self { generation, stream, byte_count } = self;
        let (one, other) = stream.share();
        (
            Self { generation, stream: one, byte_count: Arc::clone(&byte_count) },
            Self { generation, stream: other, byte_count },
        )
    }

    /// The only link on its stream, if nobody else holds it.
    pub(crate) fn unshare(self) -> Self {
        Self { stream: self.stream.unshare(), ..self }
    }
}

/// How a handle holds the stream of a link.
pub(crate) enum StreamRef<S> {
    Socket(Socket),
    Owned(S),
    Locked(Arc<Mutex<S>>),
}

impl<S> StreamRef<S> {
    pub(crate) fn socket(&self) -> Option<&Socket> {
        match self {
            Self::Socket(socket) => Some(socket),
            Self::Owned(_) | Self::Locked(_) => None,
        }
    }

    /// Whether bytes that have arrived on a broken link wait to be read. Of a stream that is no socket this is not known.
    pub(crate) fn has_unread(&self) -> bool {
        self.socket().is_none_or(Socket::has_unread)
    }

    /// Two grips on one stream.
    fn share(self) -> (Self, Self) {
        match self {
            Self::Socket(socket) => (Self::Socket(socket.clone()), Self::Socket(socket)),
            Self::Owned(stream) => Self::Locked(Arc::new(Mutex::new(stream))).share(),
            Self::Locked(stream) => (Self::Locked(Arc::clone(&stream)), Self::Locked(stream)),
        }
    }

    /// Takes the stream out of its lock if nobody else holds it.
    fn unshare(self) -> Self {
        match self {
            Self::Locked(stream) => match Arc::try_unwrap(stream) {
                Ok(stream) => Self::Owned(stream.into_inner()),
                Err(stream) => Self::Locked(stream),
            },
            other => other,
        }
    }
}

impl<S> StreamRef<S> {
    /// Whether the peer is known to have closed. `of_other` tells it of a stream that is no socket.
    #[inline]
    pub(crate) fn is_closed_by_peer(&self, last: &mut LastLook, of_other: impl FnOnce(&S) -> bool) -> bool {
        match self {
            Self::Socket(socket) => socket.is_closed_by_peer(last),
            Self::Owned(stream) => of_other(stream),
            Self::Locked(stream) => of_other(&lock(stream)),
        }
    }
}

impl<S: 'static> StreamRef<S> {
    pub(crate) fn new(stream: S) -> Self {
        match Socket::from_stream(stream) {
            Ok(socket) => Self::Socket(socket),
            Err(stream) => Self::Owned(stream),
        }
    }

    /// The stream itself, where it can be seen without a lock.
    pub(crate) fn get_ref(&self) -> Option<&S> {
        match self {
            Self::Socket(socket) => socket.as_any().downcast_ref(),
            Self::Owned(stream) => Some(stream),
            Self::Locked(_) => None,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> StreamRef<S> {
    #[inline]
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(socket) => socket.poll_read(cx, buf),
            Self::Owned(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Locked(stream) => Pin::new(&mut *lock(stream)).poll_read(cx, buf),
        }
    }

    #[inline]
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: Bytes<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => socket.poll_write(cx, bytes),
            Self::Owned(stream) => bytes.poll_write(Pin::new(stream), cx),
            Self::Locked(stream) => bytes.poll_write(Pin::new(&mut *lock(stream)), cx),
        }
    }

    pub(crate) fn is_write_vectored(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::Owned(stream) => stream.is_write_vectored(),
            Self::Locked(stream) => lock(stream).is_write_vectored(),
        }
    }

    #[inline]
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            // A socket has no buffer of its own outside the kernel.
            Self::Socket(_) => Poll::Ready(Ok(())),
            Self::Owned(stream) => Pin::new(stream).poll_flush(cx),
            Self::Locked(stream) => Pin::new(&mut *lock(stream)).poll_flush(cx),
        }
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(socket) => Poll::Ready(socket.shutdown_write()),
            Self::Owned(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Locked(stream) => Pin::new(&mut *lock(stream)).poll_shutdown(cx),
        }
    }

    /// Reads what has already arrived, without waiting. `None`: nothing has, as far as the stream knows.
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

/// What a write has to send.
#[derive(Clone, Copy)]
pub(crate) enum Bytes<'a> {
    One(&'a [u8]),
    Many(&'a [IoSlice<'a>]),
}

impl Bytes<'_> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::One(bytes) => bytes.len(),
            Self::Many(parts) => parts.iter().map(|part| part.len()).sum(),
        }
    }

    fn poll_write<S: AsyncWrite>(self, stream: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::One(bytes) => stream.poll_write(cx, bytes),
            Self::Many(parts) => stream.poll_write_vectored(cx, parts),
        }
    }
}

fn lock<S>(stream: &Mutex<S>) -> MutexGuard<'_, S> {
    stream.lock()
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
