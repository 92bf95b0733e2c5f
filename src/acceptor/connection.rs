//! One connection, from its acceptance to its end.

#[cfg(feature = "tls")]
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
#[cfg(feature = "tls")]
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

#[cfg(feature = "tls")]
use super::Overflow;
use super::guarded::{End, Guarded};
use super::io_stream::Io;
use super::service::Service;
#[cfg(feature = "tls")]
use super::shared::Phase;
use super::shared::{Place, Shared};
#[cfg(feature = "tls")]
use super::socket::Socket;
use super::stats::count;
#[cfg(feature = "tls")]
use super::tls::{Entrant, Sessions};
use super::{EndReason, Error, Event, Peer, Stream};

/// How long a client that gets no further service is waited for.
const FAREWELL: Duration = Duration::from_secs(1);

/// Runs the handler of a connection.
pub(super) async fn run(io: Io, place: Arc<Place>, service: Arc<Service>) {
    let (shared, seat) = (&place.shared, &place.seat);
    let handler = &service.handler;
    let stream = Stream::new(io, &place, handler.writes_are_answers);
    let reason = match Guarded::new(|| (handler.start)(stream, seat.peer), seat).await {
        End::Returned(Ok(())) => EndReason::Finished,
        End::Returned(Err(error)) => EndReason::Failed(Arc::new(error)),
        End::Panicked(message) => {
            shared.settings.hooks.log(&Error::HandlerPanicked { peer: seat.peer, message });
            EndReason::Panicked
        }
        End::Cut => EndReason::Cut,
    };
    seat.ended(reason);
}

/// Sends away a client for whom there is no acceptor, without waiting for it here.
pub(super) fn refuse(shared: &Shared, service: &Arc<Service>, mut io: Io, peer: Peer) {
    count(&shared.tally.refused);
    shared.settings.hooks.emit(|| Event::Refused { peer });
    match Arc::clone(&service.refusing).try_acquire_owned() {
        Ok(permit) => {
            let service = Arc::clone(service);
            tokio::spawn(async move {
                let _permit = permit;
                see_off(&mut io, &service.refusal).await;
            });
        }
        // Too many at once. It is told, but whether it hears it, is not waited for.
        Err(_) => io.say_at_once(&service.refusal),
    }
}

/// Sends the last words, ends the sending side, and waits for the peer to do the same: were the socket closed with something
/// unread in it, the kernel would send a reset, which makes the peer forget what it has not read.
pub(super) async fn see_off(io: &mut (impl AsyncRead + AsyncWrite + Unpin), last_words: &[u8]) {
    let farewell = async {
        io.write_all(last_words).await?;
        io.shutdown().await?;
        let mut rest = [0; 1024];
        while io.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Whatever happens, it is over then.
    let _ = timeout(FAREWELL, farewell).await;
}

/// A connection from its acceptance on. Until it has an acceptor, it has the permit.
#[cfg(feature = "tls")]
pub(super) fn serve_tls(
    shared: Arc<Shared>,
    service: Arc<Service>,
    sessions: Arc<Sessions>,
    socket: Socket,
    peer: Peer,
    permit: OwnedSemaphorePermit,
) -> impl Future<Output = ()> + Send {
    let entrant = Entrant::new(&sessions, &shared.tally, permit);
    async move {
        let mut phase = shared.phase.subscribe();
        let (io, place) = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Accepting) => return,
            ready = get_ready(&shared, &sessions, socket, peer, &entrant) => match ready {
                Some(ready) => ready,
                None => return,
            },
        };
        drop(entrant);
        match place {
            Some(place) => run(io, place, service).await,
            None => refuse(&shared, &service, io, peer),
        }
    }
}

/// The session, and the place of it, if there is one.
#[cfg(feature = "tls")]
async fn get_ready(
    shared: &Arc<Shared>,
    sessions: &Sessions,
    socket: Socket,
    peer: Peer,
    entrant: &Entrant,
) -> Option<(Io, Option<Arc<Place>>)> {
    match sessions.handshake(socket, entrant).await {
        Ok(io) if shared.settings.overflow == Overflow::Wait => Some((io, Some(shared.enter_when_free(peer).await))),
        Ok(io) => Some((io, shared.enter(peer).ok())),
        Err(error) => {
            count(&shared.tally.handshakes_failed);
            shared.settings.hooks.emit(|| Event::HandshakeFailed { peer, cause: Arc::new(error) });
            None
        }
    }
}
