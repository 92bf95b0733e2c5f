//! The port at which the clients dial: open, or closed and kept for the proxy.
//!
//! Next: [`acceptor`](super::acceptor), which opens and closes it.

use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::unix::fs::{FileTypeExt, MetadataExt};
#[cfg(unix)]
use std::path::{Path, PathBuf};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

use super::socket::Socket;

/// How many dials the kernel queues. The acceptor is always quick.
const BACKLOG: u32 = 1024;

/// A port.
#[derive(Debug)]
pub(super) enum Port {
    /// Of TCP.
    Tcp {
        /// Its address.
        address: SocketAddr,
        /// Open or closed.
        state: TcpPort,
    },
    /// A path of the Unix domain.
    #[cfg(unix)]
    Unix {
        /// Where the socket is.
        path: PathBuf,
        /// `None` while it is closed: the file stays, so that dials are refused.
        listener: Option<UnixListener>,
        /// Which file it is.
        file: FileId,
    },
}

/// The state of a TCP port.
#[derive(Debug)]
pub(super) enum TcpPort {
    /// Dials are accepted.
    Open(TcpListener),
    /// Dials are refused: the socket is bound and does not listen, so that nobody else gets the port.
    Closed(TcpSocket),
    /// Dials are refused, and nobody holds the port.
    Unreserved,
}

impl Port {
    /// Opens a TCP port; 0 for any.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = bind_tcp(address)?.listen(BACKLOG)?;
        Ok(Self::Tcp { address: listener.local_addr()?, state: TcpPort::Open(listener) })
    }

    /// Opens a socket of the Unix domain. The path must be free.
    #[cfg(unix)]
    pub(super) fn bind_unix(path: PathBuf) -> io::Result<Self> {
        let listener = Some(UnixListener::bind(&path)?);
        let file = FileId::of(&path);
        Ok(Self::Unix { path, listener, file })
    }

    /// The next client. Pending for ever while the port is closed.
    pub(super) async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp { state: TcpPort::Open(listener), .. } => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            #[cfg(unix)]
            Self::Unix { listener: Some(listener), .. } => Ok(Socket::Unix(listener.accept().await?.0)),
            _ => std::future::pending().await,
        }
    }

    /// A client that waits in the kernel's queue, of which the runtime may not know yet.
    pub(super) fn accept_queued(&self) -> Option<Socket> {
        let (socket, _) = self.sock_ref()?.accept().ok()?;
        socket.set_nonblocking(true).ok()?;
        match self {
            Self::Tcp { .. } => {
                socket.set_tcp_nodelay(true).ok()?;
                Some(Socket::Tcp(TcpStream::from_std(socket.into()).ok()?))
            }
            #[cfg(unix)]
            Self::Unix { .. } => Some(Socket::Unix(UnixStream::from_std(socket.into()).ok()?)),
        }
    }

    /// Closes the port: dials are refused, and those in the kernel's queue are reset.
    pub(super) fn close(&mut self) {
        match self {
            Self::Tcp { address, state } if matches!(state, TcpPort::Open(_)) => {
                // The listener is gone before the port is bound again.
                *state = TcpPort::Unreserved;
                if let Ok(socket) = bind_tcp(*address) {
                    *state = TcpPort::Closed(socket);
                }
            }
            #[cfg(unix)]
            Self::Unix { listener, .. } => *listener = None,
            Self::Tcp { .. } => {}
        }
    }

    /// Opens it again.
    pub(super) fn open(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp { address, state } => match std::mem::replace(state, TcpPort::Unreserved) {
                TcpPort::Closed(socket) => *state = TcpPort::Open(socket.listen(BACKLOG)?),
                TcpPort::Unreserved => *state = TcpPort::Open(bind_tcp(*address)?.listen(BACKLOG)?),
                open => *state = open,
            },
            #[cfg(unix)]
            Self::Unix { path, listener, file } if listener.is_none() => {
                file.remove(path);
                *listener = Some(UnixListener::bind(&*path)?);
                *file = FileId::of(path);
            }
            #[cfg(unix)]
            Self::Unix { .. } => {}
        }
        Ok(())
    }

    /// The listening socket, if it is open.
    pub(super) fn sock_ref(&self) -> Option<SockRef<'_>> {
        match self {
            Self::Tcp { state: TcpPort::Open(listener), .. } => Some(SockRef::from(listener)),
            Self::Tcp { .. } => None,
            #[cfg(unix)]
            Self::Unix { listener, .. } => listener.as_ref().map(SockRef::from),
        }
    }
}

/// The file of a Unix socket goes with the proxy.
#[cfg(unix)]
impl Drop for Port {
    fn drop(&mut self) {
        if let Self::Unix { path, file, .. } = self {
            file.remove(path);
        }
    }
}

/// The device, the number and the time of a socket's file. Somebody else may have replaced it by another at the same path,
/// which may have got the same number.
#[cfg(unix)]
#[derive(Debug, PartialEq)]
pub(super) struct FileId(Option<(u64, u64, i64, i64)>);

#[cfg(unix)]
impl FileId {
    /// Of the file at this path. A link is not followed.
    fn of(path: &Path) -> Self {
        let file = std::fs::symlink_metadata(path).ok().filter(|file| file.file_type().is_socket());
        Self(file.map(|file| (file.dev(), file.ino(), file.mtime(), file.mtime_nsec())))
    }

    /// Removes the file, unless it is another one now.
    fn remove(&self, path: &Path) {
        if self.0.is_some() && Self::of(path) == *self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A bound socket that does not listen.
fn bind_tcp(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // The links still use the port when it is closed. (On Windows this would let others take the port.)
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
