//! The open listener of an acceptor: one listening socket or several, of either family.
//!
//! Several sockets are polled in turn, beginning after the one that accepted last: clients of one socket do not keep those of
//! another waiting.
//!
//! Next: [`super::accept_loop`], which owns it.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;

use super::Peer;
use super::transport::Socket;
#[cfg(unix)]
use super::unix::SocketFile;

/// All sockets that an acceptor listens on.
pub(super) struct Listener {
    /// At least one.
    sockets: Vec<ListeningSocket>,
    /// Where the next accept begins to look.
    next: AtomicUsize,
}

/// A listening socket.
pub(super) enum ListeningSocket {
    /// On the network.
    Tcp(TcpListener),
    /// Of the Unix domain. With its file, if the acceptor has made it. The file comes first, as fields are dropped in
    /// their order.
    #[cfg(unix)]
    Unix(#[expect(dead_code, reason = "it acts when it is dropped")] Option<SocketFile>, UnixListener),
}

impl Listener {
    /// Of these sockets, at least one.
    pub(super) fn new(sockets: Vec<ListeningSocket>) -> Self {
        Self { sockets, next: AtomicUsize::new(0) }
    }

    /// Accepts the next connection, and finds out who its peer is.
    ///
    /// Cancel safe: a dropped call accepts nothing. Only one task may call it.
    pub(super) async fn accept(&self) -> io::Result<(Socket, Peer)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Polls each socket once, until one is ready or fails.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, Peer)>> {
        let first = self.next.load(Ordering::Relaxed);
        for step in 0..self.sockets.len() {
            let at = (first + step) % self.sockets.len();
            if let Poll::Ready(outcome) = self.sockets[at].poll_accept(cx) {
                self.next.store(at + 1, Ordering::Relaxed);
                return Poll::Ready(outcome);
            }
        }
        Poll::Pending
    }
}

impl ListeningSocket {
    /// Accepts from this socket.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, Peer)>> {
        match self {
            Self::Tcp(listener) => {
                listener.poll_accept(cx).map_ok(|(stream, peer)| (Socket::Tcp(stream), Peer::tcp(peer)))
            }
            #[cfg(unix)]
            Self::Unix(_, listener) => listener.poll_accept(cx).map_ok(|(stream, _)| {
                let credentials = stream.peer_cred().ok();
                let peer = Peer::Unix {
                    uid: credentials.map(|credentials| credentials.uid()),
                    pid: credentials.and_then(|credentials| credentials.pid()),
                };
                (Socket::Unix(stream), peer)
            }),
        }
    }
}
