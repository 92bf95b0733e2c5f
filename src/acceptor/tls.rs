//! TLS: sessions, and their handshakes, off the accept loop.

use std::future::{Future, pending};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use self::handshakes::{Entrant, Handshakes};
pub use self::settings::ServerTls;
use super::io_stream::Io;
use super::shared::{Phase, Shared};
use super::socket::Socket;
use super::stats::count;
use super::{Error, Event, Overflow, Peer, connection};

mod handshakes;
pub(super) mod reload;
mod settings;

/// TLS at work.
pub(super) struct Sessions {
    settings: ServerTls,
    current: Mutex<Arc<ServerConfig>>,
    pub(super) handshakes: Handshakes,
    timeout: Option<Duration>,
}

impl Sessions {
    pub(super) fn new(settings: ServerTls, max: usize, timeout: Option<Duration>) -> Result<Self, Error> {
        let current = Mutex::new(settings.load()?);
        Ok(Self { settings, current, handshakes: Handshakes::new(max), timeout })
    }

    /// Takes what is in the files now, if it is good.
    fn reload(&self) -> Result<(), Error> {
        let config = self.settings.load()?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    async fn handshake(&self, socket: Socket, entrant: &Entrant) -> io::Result<Io> {
        let config = Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner));
        let deadline = async {
            match self.timeout {
                Some(limit) => sleep(limit).await,
                None => pending().await,
            }
        };
        let late = |text: String| Err(io::Error::new(io::ErrorKind::TimedOut, text));
        let outcome = tokio::select! {
            biased;
            outcome = TlsAcceptor::from(config).accept(socket) => outcome,
            () = deadline => late(format!("not done within {:?}", self.timeout.unwrap_or_default())),
            () = entrant.given_up() => late("given up for others, which could not begin".into()),
        };
        entrant.is_done();
        Ok(Io::Tls(Box::new(outcome?)))
    }
}

/// A connection from its acceptance on. Until it has an acceptor, it has the permit.
pub(super) fn serve(
    shared: Arc<Shared>,
    socket: Socket,
    peer: Peer,
    permit: OwnedSemaphorePermit,
) -> impl Future<Output = ()> + Send {
    let entrant = Entrant::new(&shared, permit);
    async move {
        let mut phase = shared.phase.subscribe();
        let (io, seat) = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Accepting) => return,
            ready = get_ready(&shared, socket, peer, &entrant) => match ready {
                Some(ready) => ready,
                None => return,
            },
        };
        drop(entrant);
        match seat {
            Some(seat) => connection::run(io, seat).await,
            None => connection::refuse(&shared, io, peer),
        }
    }
}

/// The session, and the place of it, if there is one.
async fn get_ready(
    shared: &Arc<Shared>,
    socket: Socket,
    peer: Peer,
    entrant: &Entrant,
) -> Option<(Io, Option<Arc<super::seat::Seat>>)> {
    let sessions = shared.settings.tls.as_ref()?;
    match sessions.handshake(socket, entrant).await {
        Ok(io) if shared.settings.overflow == Overflow::Wait => Some((io, Some(shared.enter_when_free(peer).await))),
        Ok(io) => Some((io, shared.enter(peer).ok())),
        Err(error) => {
            count(&shared.tally.handshakes_failed);
            shared.settings.hooks.tell(|| Event::HandshakeFailed { peer, cause: Arc::new(error) });
            None
        }
    }
}
