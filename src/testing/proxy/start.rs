//! The thread of a proxy: it opens the port, and then runs the acceptor until the handle is dropped.
//!
//! Next: [`acceptor`](super::acceptor), which runs on it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, ToSocketAddrs};
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, watch};

use super::acceptor::{Acceptor, Request, Shared};
use super::conditions::Conditions;
use super::ledger::Ledger;
use super::port::Port;
use super::socket::Upstream;
use crate::Address;

/// A proxy that has started. It ends when the sender is dropped.
pub(super) struct Started<A> {
    /// Where the clients dial.
    pub(super) listens_at: A,
    /// To the acceptor.
    pub(super) requests: mpsc::UnboundedSender<Request>,
    /// What the thread shares.
    pub(super) shared: Arc<Shared>,
    /// The thread.
    pub(super) thread: JoinHandle<()>,
}

/// A free port of the loopback.
pub(super) const ANY_PORT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// What a thread begins with.
pub(super) type Opened<A> = (A, Port, Upstream);

/// Opens the port, and resolves the server's name.
pub(super) fn open_tcp(listen: SocketAddr, server: &Address) -> io::Result<Opened<SocketAddr>> {
    let (host, port) = server.parse()?;
    let about = |error: io::Error, what: &str| io::Error::new(error.kind(), format!("{what}: {error}"));
    let addresses: Vec<_> = (host.as_str(), port)
        .to_socket_addrs()
        .map_err(|error| about(error, &format!("the server's address {server} cannot be resolved")))?
        .collect();
    let port = Port::bind(listen).map_err(|error| about(error, &format!("a fault proxy cannot listen at {listen}")))?;
    #[cfg_attr(not(unix), expect(irrefutable_let_patterns, reason = "only Unix has ports of another kind"))]
    let Port::Tcp { address, .. } = &port else { unreachable!("it is a TCP port") };
    Ok((*address, port, Upstream::Tcp(addresses)))
}

/// Opens the port.
#[cfg(unix)]
pub(super) fn open_unix(listen: PathBuf, server: PathBuf) -> io::Result<Opened<PathBuf>> {
    let port = Port::bind_unix(listen.clone()).map_err(|error| {
        io::Error::new(error.kind(), format!("a fault proxy cannot listen at {}: {error}", listen.display()))
    })?;
    Ok((listen, port, Upstream::Unix(server)))
}

/// Starts the thread of a proxy. It reports the proxy, or why there is none.
pub(super) fn spawn<A: Send + 'static>(
    open: impl FnOnce() -> io::Result<Opened<A>> + Send + 'static,
    report: impl FnOnce(io::Result<Started<A>>) + Send + 'static,
) -> io::Result<()> {
    let (sender, handle) = std_mpsc::channel();
    let thread = thread::Builder::new().name("perconn-proxy".into()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return report(Err(error)),
        };
        runtime.block_on(async {
            let (listens_at, port, upstream) = match open() {
                Ok(opened) => opened,
                Err(error) => return report(Err(error)),
            };
            // The thread that has started this one sends it at once.
            let Ok(thread) = handle.recv() else { return };
            let (conditions, seed) = (watch::Sender::new(Conditions::default()), 0);
            let shared = Arc::new(Shared { conditions, ledger: Ledger::new(), upstream, seed });
            let (requests, received) = mpsc::unbounded_channel();
            let acceptor = Acceptor::new(port, received, Arc::clone(&shared));
            report(Ok(Started { listens_at, requests, shared, thread }));
            acceptor.run().await;
        });
    })?;
    // It fails only if the thread has ended with an error.
    let _ = sender.send(thread);
    Ok(())
}

/// The error if the thread has panicked.
pub(super) fn ended() -> io::Error {
    io::Error::other("the thread of the fault proxy has panicked")
}
