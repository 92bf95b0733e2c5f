//! The task of one connection, from its acceptance to its end.
//!
//! Next: [`super::run_handler`], which runs the handler, and [`super::stream`], which the handler gets.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::handshake::{Arrival, Handshaker, PendingClient};
use super::registry::{Registration, Registry, Rejected};
use super::run_handler::{HandlerEnd, RunHandler};
use super::service::Service;
use super::stats::count;
use super::transport::Transport;
use super::{EndReason, Error, Event, Overflow, Peer, Stream};

/// How long a lingering close waits for the client.
const LINGER: Duration = Duration::from_secs(1);

/// Runs the handler of a connection, and notes how it ended.
///
/// The slot is free when this has returned and the stream is dropped.
pub(super) async fn run(transport: Transport, registration: Arc<Registration>, service: Arc<Service>) {
    let (registry, record) = (&registration.registry, &registration.record);
    let handler = &service.handler;
    let stream = Stream::new(transport, &registration, handler.writes_are_answers);
    let reason = match RunHandler::new(|| (handler.start)(stream, record.peer), record).await {
        HandlerEnd::Returned(outcome) => EndReason::of(outcome),
        HandlerEnd::Panicked(message) => {
            registry.settings.hooks.log(&Arc::new(Error::HandlerPanicked { peer: record.peer, message }));
            EndReason::Panicked
        }
        HandlerEnd::Cut => EndReason::Cut,
    };
    record.handler_ended(reason);
}

/// Refuses a client because all slots are busy.
///
/// The lingering close runs in a task of its own. There are up to 256 such tasks; a client beyond that is closed at
/// once.
pub(super) fn refuse(registry: &Registry, service: &Service, mut transport: Transport, peer: Peer) {
    count(&registry.counters.refused);
    registry.settings.hooks.emit(|| Event::Refused { peer });
    match Arc::clone(&service.refusals).try_acquire_owned() {
        Ok(permit) => {
            // The text only: `closed` does not wait for this task, which must not hold the handler.
            let text = Arc::clone(&service.refusal);
            tokio::spawn(async move {
                let _permit = permit;
                lingering_close(&mut transport, &text).await;
            });
        }
        // There are too many to wait for this one. It is sent the text, which a reset may overtake.
        Err(_) => transport.try_send_final(&service.refusal),
    }
}

/// A lingering close: sends the final bytes, ends the sending side, and waits for the peer to do the same.
///
/// If the socket were closed with unread data in it, the kernel would send a reset, and the peer would lose what it
/// has not read. It gives up after [`LINGER`].
pub(super) async fn lingering_close(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) {
    let close = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        let mut discarded = [0; 1024];
        while stream.read(&mut discarded).await? > 0 {}
        std::io::Result::Ok(())
    };
    // The connection ends here, whether that has worked or not.
    let _ = timeout(LINGER, close).await;
}

/// Serves a connection that needs a handshake from its acceptance on: handshake, slot, handler.
///
/// It has its permit until it gets a slot. While it has none, a stop closes it at once.
pub(super) async fn run_handshake(
    registry: Arc<Registry>,
    service: Arc<Service>,
    handshaker: Arc<Handshaker>,
    arrival: Arrival,
    client: PendingClient,
) {
    let mut phase = registry.phase.subscribe();
    let established = tokio::select! {
        biased;
        _ = phase.wait_for(|phase| !phase.is_accepting()) => return,
        established = establish(&registry, &service, &handshaker, arrival, &client) => established,
    };
    drop(client);
    match established {
        Some((transport, _, Ok(registration))) => run(transport, registration, service).await,
        Some((transport, peer, Err(Rejected::Full))) => refuse(&registry, &service, transport, peer),
        Some((_, _, Err(Rejected::Closed))) | None => {}
    }
}

/// What carries a connection after its handshake, its client, and its slot if it got one.
type Established = (Transport, Peer, Result<Arc<Registration>, Rejected>);

/// Makes the handshake and takes a slot. `None` if the handshake fails or the client is not let in, which is reported here.
async fn establish(
    registry: &Arc<Registry>,
    service: &Service,
    handshaker: &Handshaker,
    arrival: Arrival,
    client: &PendingClient,
) -> Option<Established> {
    match handshaker.handshake(registry, service, arrival, client).await {
        Ok(Some((transport, admitted))) => {
            let slot = match registry.settings.overflow {
                Overflow::Wait => registry.register_when_free(&admitted).await,
                Overflow::Refuse | Overflow::Grow { .. } => registry.register(&admitted),
            };
            Some((transport, admitted.peer, slot))
        }
        Ok(None) => None,
        Err((peer, error)) => {
            count(&registry.counters.handshakes_failed);
            registry.settings.hooks.emit(|| Event::HandshakeFailed { peer, cause: Arc::new(error) });
            None
        }
    }
}
