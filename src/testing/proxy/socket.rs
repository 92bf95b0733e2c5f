//! A socket of either kind, shared by the pumps of both directions.
//!
//! Next: [`black_hole`](super::black_hole), a socket that hears nothing.

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
#[cfg(unix)]
use std::path::PathBuf;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use super::plan::Cut;

/// One side of a link.
#[derive(Debug)]
pub(super) enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A socket of the Unix domain.
    #[cfg(unix)]
    Unix(UnixStream),
}

/// Runs the same code for both kinds.
macro_rules! with_stream {
    ($socket:expr, $stream:ident => $code:expr) => {
        match $socket {
            Socket::Tcp($stream) => $code,
            #[cfg(unix)]
            Socket::Unix($stream) => $code,
        }
    };
}

impl Socket {
    /// The other end. `None` on a Unix socket, and if it has gone already.
    pub(super) fn peer_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    /// Reads some bytes; 0 at the end of the stream.
    pub(super) async fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        with_stream!(self, stream => loop {
            stream.readable().await?;
            match stream.try_read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
        })
    }

    /// Writes some bytes.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        with_stream!(self, stream => loop {
            stream.writable().await?;
            match stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
        })
    }

    /// Ends the direction to the peer.
    pub(super) fn shut_down(&self) {
        // It fails if the peer has reset the socket, which the pump notices.
        let _ = self.sock_ref().shutdown(Shutdown::Write);
    }

    /// Closes the socket with or without a reset.
    pub(super) fn close(self, cut: Cut) {
        match cut {
            Cut::Reset => {
                let _ = self.sock_ref().set_linger(Some(Duration::ZERO));
            }
            _ => {
                self.shut_down();
                self.discard_arrived();
            }
        }
    }

    /// Throws away what has arrived: to close a socket with unread bytes would reset it.
    fn discard_arrived(&self) {
        let mut buf = [0; 16 << 10];
        let _ = self.sock_ref().set_nonblocking(true);
        // No more than can have arrived, as a peer that writes on would keep it busy. (Twice: the kernel may overdraw.)
        let mut left = 2 * self.sock_ref().recv_buffer_size().unwrap_or(buf.len());
        while left > 0 {
            // Past the runtime, which may not have looked at the socket yet.
            match io::Read::read(&mut &*self.sock_ref(), &mut buf) {
                Ok(n @ 1..) => left = left.saturating_sub(n),
                _ => return,
            }
        }
    }

    /// The socket, for what tokio does not offer.
    pub(super) fn sock_ref(&self) -> SockRef<'_> {
        with_stream!(self, stream => SockRef::from(stream))
    }
}

/// Where the server listens.
#[derive(Clone, Debug)]
pub(super) enum Upstream {
    /// The addresses of its name, tried in order.
    Tcp(Vec<SocketAddr>),
    /// A socket of the Unix domain.
    #[cfg(unix)]
    Unix(PathBuf),
}

impl Upstream {
    /// Dials the server. The error names it.
    pub(super) async fn dial(&self) -> io::Result<Socket> {
        self.try_dial().await.map_err(|error| io::Error::new(error.kind(), format!("{self}: {error}")))
    }

    /// Dials the server.
    async fn try_dial(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(addresses) => {
                let stream = TcpStream::connect(&addresses[..]).await?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            #[cfg(unix)]
            Self::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
        }
    }
}

/// The address that is tried first.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addresses) => addresses.first().map_or(Ok(()), |address| address.fmt(f)),
            #[cfg(unix)]
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}
