//! TLS: sessions, and their handshakes, off the accept loop.

use std::future::Future;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

pub use self::settings::ServerTls;
use super::io_stream::Io;
use super::shared::{Phase, Shared};
use super::socket::Socket;
use super::stats::count;
use super::{Error, Event, Overflow, Peer, connection};

pub(super) mod reload;
mod settings;

/// TLS at work.
pub(super) struct Sessions {
    settings: ServerTls,
    current: Mutex<Arc<ServerConfig>>,
    handshakes: Arc<Semaphore>,
    timeout: Option<Duration>,
}

impl Sessions {
    pub(super) fn new(settings: ServerTls, max: usize, timeout: Option<Duration>) -> Result<Self, Error> {
        let current = Mutex::new(settings.load()?);
        let handshakes = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
        Ok(Self { settings, current, handshakes, timeout })
    }

    /// Takes what is in the files now, if it is good.
    fn reload(&self) -> Result<(), Error> {
        let config = self.settings.load()?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Waits for the right to a handshake.
    pub(super) async fn permit(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.handshakes).acquire_owned().await {
            Ok(permit) => permit,
            Err(_) => unreachable!("it is never closed"),
        }
    }

    async fn handshake(&self, socket: Socket) -> io::Result<Io> {
        let config = Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner));
        let handshake = TlsAcceptor::from(config).accept(socket);
        let stream = match self.timeout {
            Some(limit) => timeout(limit, handshake)
                .await
                .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("not done within {limit:?}")))),
            None => handshake.await,
        };
        Ok(Io::Tls(Box::new(stream?)))
    }
}

/// A connection from its acceptance on. Until it has an acceptor, it has the permit.
pub(super) fn serve(
    shared: Arc<Shared>,
    socket: Socket,
    peer: Peer,
    permit: OwnedSemaphorePermit,
) -> impl Future<Output = ()> + Send {
    let underway = Underway::new(&shared, permit);
    async move {
        let mut phase = shared.phase.subscribe();
        let (io, seat) = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Accepting) => return,
            ready = get_ready(&shared, socket, peer) => match ready {
                Some(ready) => ready,
                None => return,
            },
        };
        drop(underway);
        match seat {
            Some(seat) => connection::run(io, seat).await,
            None => connection::refuse(&shared, io, peer),
        }
    }
}

/// The session, and the place of it, if there is one.
async fn get_ready(shared: &Arc<Shared>, socket: Socket, peer: Peer) -> Option<(Io, Option<Arc<super::seat::Seat>>)> {
    let sessions = shared.settings.tls.as_ref()?;
    match sessions.handshake(socket).await {
        Ok(io) if shared.settings.overflow == Overflow::Wait => Some((io, Some(shared.enter_when_free(peer).await))),
        Ok(io) => Some((io, shared.enter(peer).ok())),
        Err(error) => {
            count(&shared.tally.handshakes_failed);
            shared.settings.hooks.tell(|| Event::HandshakeFailed { peer, cause: Arc::new(error) });
            None
        }
    }
}

/// A handshake, as long as it counts as one.
struct Underway {
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Underway {
    fn new(shared: &Arc<Shared>, permit: OwnedSemaphorePermit) -> Self {
        shared.tally.handshaking.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(shared), _permit: permit }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.shared.tally.handshaking.fetch_sub(1, Ordering::Relaxed);
    }
}
