//! The listening socket of either family.
//!
//! Next: [`super::accept_loop`], which owns it.

use std::io;

use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;

use super::Peer;
use super::transport::Socket;
#[cfg(unix)]
use super::unix::SocketFile;

/// A listening socket.
pub(super) enum Listener {
    /// On the network.
    Tcp(TcpListener),
    /// Of the Unix domain. With its file, if the acceptor has made it. The file comes first, as fields are dropped in
    /// their order.
    #[cfg(unix)]
    Unix(#[expect(dead_code, reason = "it acts when it is dropped")] Option<SocketFile>, UnixListener),
}

impl Listener {
    /// Accepts the next connection, and finds out who its peer is.
    ///
    /// Cancel safe: a dropped call accepts nothing.
    pub(super) async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Socket::Tcp(stream), Peer::Tcp(peer)))
            }
            #[cfg(unix)]
            Self::Unix(_, listener) => {
                let (stream, _) = listener.accept().await?;
                let credentials = stream.peer_cred().ok();
                let peer = Peer::Unix {
                    uid: credentials.map(|credentials| credentials.uid()),
                    pid: credentials.and_then(|credentials| credentials.pid()),
                };
                Ok((Socket::Unix(stream), peer))
            }
        }
    }
}
