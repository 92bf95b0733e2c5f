//! What carries the bytes of a connection: a socket, or a TLS session over one.
//!
//! Both enums implement tokio's traits by one macro, `delegate_io`, at the end of this file.
//!
//! Next: [`super::stream`], which adds time limits and the stop.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// A socket, or a TLS session over one.
#[derive(Debug)]
pub(super) enum Transport {
    /// Without TLS.
    Plain(Socket),
    /// A session after its handshake.
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::server::TlsStream<Socket>>),
}

/// A connected socket of either family.
#[derive(Debug)]
pub(super) enum Socket {
    /// On the network.
    Tcp(TcpStream),
    /// Of the Unix domain.
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Transport {
    /// Ends a TLS session before its socket is closed, as far as the kernel takes the message at once. Without it, a
    /// client must treat the end as a truncation.
    pub(super) fn send_close_notify(&mut self) {
        match self {
            Self::Plain(_) => {}
            #[cfg(feature = "tls")]
            Self::Tls(stream) => {
                let (socket, session) = stream.get_mut();
                session.send_close_notify();
                while session.wants_write() && matches!(session.write_tls(&mut TryWrite(socket)), Ok(1..)) {}
            }
        }
    }

    /// Sends as much as the kernel takes at once, and then ends a TLS session.
    pub(super) fn try_send_final(&mut self, bytes: &[u8]) {
        match self {
            Self::Plain(socket) => drop(socket.try_write(bytes)),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => {
                // The session buffers a limited number of bytes. The others are lost.
                let _ = io::Write::write(&mut stream.get_mut().1.writer(), bytes);
            }
        }
        self.send_close_notify();
    }

    /// Whether a write may complete before the kernel has all of its bytes.
    pub(super) fn buffers_writes(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            #[cfg(feature = "tls")]
            Self::Tls(_) => true,
        }
    }

    /// Whether bytes of a completed write are not with the kernel yet.
    pub(super) fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.get_ref().1.wants_write(),
        }
    }

    /// Whether the kernel has bytes of the peer that were not read yet.
    pub(super) fn has_arrived(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = match self.socket() {
            Socket::Tcp(stream) => SockRef::from(stream).peek(&mut byte),
            #[cfg(unix)]
            Socket::Unix(stream) => SockRef::from(stream).peek(&mut byte),
        };
        // An error, or 0 at the end of the stream: a read will say so.
        matches!(peeked, Ok(1..))
    }

    /// The socket, also under TLS.
    pub(super) fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl Socket {
    /// Writes as much as the kernel takes at once.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }
}

/// [`Socket::try_write`] as a writer for rustls.
#[cfg(feature = "tls")]
struct TryWrite<'a>(&'a Socket);

#[cfg(feature = "tls")]
impl io::Write for TryWrite<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Implements tokio's I/O traits for an enum of streams: each method calls the same method of the variant's stream.
macro_rules! delegate_io {
    ($name:ident { $($(#[$attribute:meta])* $variant:ident),+ $(,)? }) => {
        impl AsyncRead for $name {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $($(#[$attribute])* Self::$variant(stream) => Pin::new(stream).poll_read(cx, buf),)+
                }
            }
        }

        impl AsyncWrite for $name {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $($(#[$attribute])* Self::$variant(stream) => Pin::new(stream).poll_write(cx, buf),)+
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $($(#[$attribute])* Self::$variant(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),)+
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $($(#[$attribute])* Self::$variant(stream) => stream.is_write_vectored(),)+
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $($(#[$attribute])* Self::$variant(stream) => Pin::new(stream).poll_flush(cx),)+
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $($(#[$attribute])* Self::$variant(stream) => Pin::new(stream).poll_shutdown(cx),)+
                }
            }
        }
    };
}

delegate_io!(Socket {
    Tcp,
    #[cfg(unix)]
    Unix,
});

delegate_io!(Transport {
    Plain,
    #[cfg(feature = "tls")]
    Tls,
});
