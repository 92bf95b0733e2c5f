//! The accept loop.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::connection;
use super::io_stream::Io;
use super::pause::{Pauses, Verdict};
use super::service::Service;
use super::shared::{Phase, Shared};
use super::socket::{Listener, Socket};
use super::stats::count;
use super::{Error, Event, Overflow, Peer};

/// Accepts until the acceptor is stopped. Nothing that a client does or fails to do is waited for in here.
pub(super) fn serve(listener: Listener, shared: Arc<Shared>, service: Arc<Service>) -> impl Future<Output = ()> + Send {
    // Made at once, as a runtime that shuts down may drop the future before it has begun.
    let open = Open { listener: Some(listener), shared };
    async move {
        let shared = &open.shared;
        let mut phase = shared.phase.subscribe();
        let accept_all = async {
            let mut pauses = Pauses::default();
            while let Some(listener) = &open.listener {
                accept(listener, shared, &service, &mut pauses).await;
            }
        };
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Accepting) => {}
            () = accept_all => {}
        }
    }
}

/// The listener, until the loop ends, by whatever: its runtime may drop it.
struct Open {
    listener: Option<Listener>,
    shared: Arc<Shared>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.listener = None;
        self.shared.phase.send_replace(Phase::Closed);
    }
}

/// The next connection, or a pause.
async fn accept(listener: &Listener, shared: &Arc<Shared>, service: &Arc<Service>, pauses: &mut Pauses) {
    #[cfg(feature = "tls")]
    let permit = match &service.tls {
        Some(sessions) => Some((Arc::clone(sessions), sessions.handshakes.permit().await)),
        None => None,
    };
    #[cfg(feature = "tls")]
    let has_tls = permit.is_some();
    #[cfg(not(feature = "tls"))]
    let has_tls = false;
    if shared.settings.overflow == Overflow::Wait && !has_tls {
        shared.vacancy().await;
    }
    match listener.accept().await {
        Ok((socket, peer)) => {
            if let Some(after) = pauses.succeeded(Instant::now()) {
                shared.settings.hooks.emit(|| Event::Resumed { after });
            }
            set_options(service, &socket);
            #[cfg(feature = "tls")]
            if let Some((sessions, permit)) = permit {
                let (shared, service) = (Arc::clone(shared), Arc::clone(service));
                tokio::spawn(connection::serve_tls(shared, service, sessions, socket, peer, permit));
                return;
            }
            admit(shared, service, socket, peer);
        }
        Err(error) => {
            count(&shared.tally.accepts_failed);
            match pauses.failed(&error, Instant::now()) {
                Verdict::GoOn => {}
                Verdict::Pause { delay, tell } => {
                    if tell {
                        tell_pause(shared, error);
                    }
                    sleep(delay).await;
                }
            }
        }
    }
}

fn tell_pause(shared: &Shared, source: io::Error) {
    // An `io::Error` cannot be cloned, and two are told of it.
    let copy = match source.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::new(source.kind(), source.to_string()),
    };
    shared.settings.hooks.log(&Error::Accept { source });
    shared.settings.hooks.emit(|| Event::Paused { cause: Arc::new(copy) });
}

fn set_options(service: &Service, socket: &Socket) {
    if let (Some(nodelay), Socket::Tcp(stream)) = (service.nodelay, socket) {
        // It fails if the connection is gone already; the handler finds out.
        let _ = stream.set_nodelay(nodelay);
    }
}

fn admit(shared: &Arc<Shared>, service: &Arc<Service>, socket: Socket, peer: Peer) {
    match shared.enter(peer) {
        Ok(place) => drop(tokio::spawn(connection::run(Io::Plain(socket), place, Arc::clone(service)))),
        Err(_) => connection::refuse(shared, service, Io::Plain(socket), peer),
    }
}
