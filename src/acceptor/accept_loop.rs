//! The accept loop: one task that accepts connections and does nothing else.
//!
//! Nothing that a client does or fails to do is waited for here. However the loop ends, its end is reported: by a
//! stop, by a panic, or because the runtime shuts down and drops it.
//!
//! Next: [`super::connection`], the task of one connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, sleep};

use super::accept_backoff::{AcceptBackoff, AfterFailure};
use super::accept_rate::AcceptRate;
use super::admission::Admitted;
use super::alive::Alive;
use super::alive::hold;
use super::connection;
use super::handshake::Arrival;
use super::listener::Listener;
use super::registry::Registry;
use super::service::Service;
use super::stats::count;
use super::transport::{Socket, Transport};
use super::{Error, Event, Overflow};
use crate::io_error::SharedIoError;
use crate::panics::{catch, ignore};

/// Accepts until the acceptor is stopped.
///
/// Nothing may abort the task of this future: its drop counts as the shutdown of the runtime.
pub(super) fn run(
    listener: Listener,
    registry: Arc<Registry>,
    service: Arc<Service>,
    alive: Arc<Alive>,
) -> impl Future<Output = ()> + Send {
    // Made before the first poll, as a runtime that shuts down may drop a future that it has never polled.
    let accepting = accept_until_stopped(listener, Arc::clone(&registry), service, Arc::clone(&alive));
    ReportedLoop::new(accepting, registry, alive)
}

/// The loop, and the duty to report its end.
struct ReportedLoop<F> {
    /// `None` once its end is reported. It owns the listener.
    accepting: Option<Pin<Box<F>>>,
    /// Where the end is reported.
    registry: Arc<Registry>,
    /// The last field, as it is dropped last: `closed` returns then, unless connections are open.
    _alive: Arc<Alive>,
}

impl<F> ReportedLoop<F> {
    /// `accepting` is the loop itself.
    fn new(accepting: F, registry: Arc<Registry>, alive: Arc<Alive>) -> Self {
        Self { accepting: Some(Box::pin(accepting)), registry, _alive: alive }
    }

    /// Closes the listener, and then reports the end.
    fn end(&mut self, cause: Option<Error>) {
        if let Some(accepting) = self.accepting.take() {
            ignore(|| drop(accepting));
            self.registry.accept_loop_ended(cause);
        }
    }
}

impl<F: Future<Output = ()>> Future for ReportedLoop<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(accepting) = &mut self.accepting else { return Poll::Ready(()) };
        let cause = match catch(|| accepting.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => None,
            Err(message) => Some(Error::AcceptPanicked { message }),
        };
        self.end(cause);
        Poll::Ready(())
    }
}

impl<F> Drop for ReportedLoop<F> {
    fn drop(&mut self) {
        // Only a runtime that shuts down drops the task before its end.
        self.end(Some(Error::RuntimeShutdown));
    }
}

/// The loop. It returns when the program stops the acceptor, also in the middle of an accept.
async fn accept_until_stopped(listener: Listener, registry: Arc<Registry>, service: Arc<Service>, alive: Arc<Alive>) {
    let mut phase = registry.phase.subscribe();
    let accept_all = async {
        let mut pace = Pace { backoff: AcceptBackoff::default(), rate: service.accept_rate.map(AcceptRate::new) };
        while registry.phase.borrow().is_accepting() {
            accept(&listener, &registry, &service, &alive, &mut pace).await;
        }
    };
    tokio::select! {
        biased;
        _ = phase.wait_for(|phase| !phase.is_accepting()) => {}
        () = accept_all => {}
    }
}

/// How fast the loop goes.
struct Pace {
    /// The pauses after failures.
    backoff: AcceptBackoff,
    /// `None`: no limit.
    rate: Option<AcceptRate>,
}

/// Accepts the next connection and starts its task, or pauses after a failure.
///
/// Before that, it waits for the rate, and for a permit if there are handshakes, else for a free slot with [`Overflow::Wait`].
/// Until then, clients wait in the kernel's queue.
async fn accept(
    listener: &Listener,
    registry: &Arc<Registry>,
    service: &Arc<Service>,
    alive: &Arc<Alive>,
    pace: &mut Pace,
) {
    if let Some(rate) = &pace.rate {
        rate.ready().await;
    }
    let permit = match &service.handshaker {
        Some(handshaker) => Some((Arc::clone(handshaker), handshaker.permit().await)),
        None => None,
    };
    if registry.settings.overflow == Overflow::Wait && permit.is_none() {
        registry.slot().await;
    }
    match listener.accept().await {
        Ok((socket, peer)) => {
            if let Some(after) = pace.backoff.on_success(Instant::now()) {
                registry.settings.hooks.emit(|| Event::Resumed { after });
            }
            if let Some(rate) = &mut pace.rate {
                rate.note_accepted();
            }
            set_options(service, &socket);
            let is_proxy = permit.as_ref().is_some_and(|(handshaker, _)| handshaker.is_proxy(&peer));
            // A proxy speaks for a client, which is asked about when its header is here.
            let admitted = if is_proxy { None } else { service.admission.admit(peer, registry) };
            match (permit, admitted) {
                (None, Some(admitted)) => serve_or_refuse(registry, service, socket, &admitted),
                (Some((handshaker, permit)), admitted) if is_proxy || admitted.is_some() => {
                    let client = handshaker.begin(registry, permit);
                    let (registry, service) = (Arc::clone(registry), Arc::clone(service));
                    let arrival = Arrival { socket, peer, admitted };
                    let serve = connection::run_handshake(registry, service, handshaker, arrival, client);
                    tokio::spawn(hold(Arc::clone(alive), serve));
                }
                // It was rejected.
                (_, _) => {}
            }
        }
        Err(error) => {
            count(&registry.counters.accepts_failed);
            match pace.backoff.on_failure(&error, Instant::now()) {
                AfterFailure::Retry => {}
                AfterFailure::Pause { delay, report } => {
                    if report {
                        report_pause(registry, error);
                    }
                    sleep(delay).await;
                }
            }
        }
    }
}

/// Reports the beginning of an outage, to the logger and to the event hook.
fn report_pause(registry: &Registry, error: io::Error) {
    let error = SharedIoError::new(error);
    registry.settings.hooks.log(&Arc::new(Error::Accept { source: error.to_io() }));
    registry.settings.hooks.emit(|| Event::Paused { cause: Arc::new(error.to_io()) });
}

/// Sets the options of an accepted socket.
fn set_options(service: &Service, socket: &Socket) {
    if let (Some(nodelay), Socket::Tcp(stream)) = (service.nodelay, socket) {
        // It fails only if the connection is gone already, which the handler sees as well.
        let _ = stream.set_nodelay(nodelay);
    }
}

/// Takes a slot for a connection without a handshake and starts its task, or refuses it.
fn serve_or_refuse(registry: &Arc<Registry>, service: &Arc<Service>, socket: Socket, admitted: &Admitted) {
    let transport = Transport::Plain(socket);
    match registry.register(admitted) {
        Ok(registration) => drop(tokio::spawn(connection::run(transport, registration, Arc::clone(service)))),
        Err(_) => connection::refuse(registry, service, transport, admitted.peer),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::acceptor::hooks::Hooks;
    use crate::acceptor::settings::Settings;

    fn registry(reports: &Arc<Mutex<Vec<String>>>) -> (Arc<Registry>, Arc<Alive>) {
        let alive = Alive::new();
        let (logged, emitted) = (Arc::clone(reports), Arc::clone(reports));
        let settings = Settings {
            acceptors: 2,
            overflow: Overflow::Wait,
            first_byte_timeout: None,
            idle_timeout: None,
            min_rate: None,
            hooks: Hooks {
                logger: Some(Box::new(move |error| logged.lock().unwrap().push(format!("log: {error}")))),
                on_event: Some(Box::new(move |event| emitted.lock().unwrap().push(format!("event: {event}")))),
            },
        };
        (Registry::new(settings, &alive), alive)
    }

    #[tokio::test]
    async fn panic_of_the_loop_is_reported_and_its_connections_go_on() {
        let reports = Arc::default();
        let (registry, alive) = registry(&reports);
        let open = registry.register(&Admitted::local()).unwrap();
        let panics = async { panic!("out of luck") };
        tokio::spawn(ReportedLoop::new(panics, Arc::clone(&registry), alive)).await.unwrap();
        // The open connection is waited for.
        assert!(timeout(Duration::from_millis(20), registry.closed()).await.is_err());
        drop(open);
        let cause = registry.closed().await.unwrap_err();
        assert!(matches!(&*cause, Error::AcceptPanicked { message } if message == "out of luck"), "{cause:?}");
        let reports = reports.lock().unwrap();
        let ended: Vec<_> = reports.iter().filter(|report| report.contains("out of luck")).collect();
        let expected =
            ["log: the accept loop panicked: out of luck", "event: ended: the accept loop panicked: out of luck"];
        assert_eq!(ended, expected);
    }

    #[tokio::test]
    async fn loop_that_is_never_polled_is_reported() {
        let reports = Arc::default();
        let (registry, alive) = registry(&reports);
        drop(ReportedLoop::new(std::future::pending::<()>(), Arc::clone(&registry), alive));
        assert!(matches!(*registry.closed().await.unwrap_err(), Error::RuntimeShutdown));
        assert_eq!(reports.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn end_after_a_stop_is_the_stop_however_the_loop_ends() {
        for panics in [false, true] {
            let reports = Arc::default();
            let (registry, alive) = registry(&reports);
            registry.drain(Duration::ZERO);
            let accepting = ReportedLoop::new(async { panic!("too late") }, Arc::clone(&registry), alive);
            match panics {
                true => accepting.await,
                false => drop(accepting),
            }
            registry.closed().await.unwrap();
            assert_eq!(*reports.lock().unwrap(), ["event: stopping"]);
        }
    }

    #[tokio::test]
    async fn connection_that_comes_too_late_is_cut_or_rejected() {
        let reports = Arc::default();
        let (registry, alive) = registry(&reports);
        registry.drain(Duration::ZERO);
        registry.cut();
        // It was accepted while the acceptor was dropped. Nothing else would ever end it.
        assert!(registry.register(&Admitted::local()).unwrap().record.is_over());
        registry.accept_loop_ended(None);
        assert!(registry.register(&Admitted::local()).is_err());
        drop(alive);
        assert!(registry.register(&Admitted::local()).is_err());
    }
}
