//! One link, from the client's dial to its end.
//!
//! Next: [`pump`](super::pump), one direction of it.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

use super::acceptor::Shared;
use super::black_hole::set_deaf;
use super::ledger::{LinkEnd, Peer};
use super::plan::{Cut, Direction, Entry, Link};
use super::pump::{Pump, PumpEnd};
use super::socket::Socket;

/// What the test asks of a live link. Done when the sender is dropped.
pub(super) enum Order {
    /// Cut it.
    Cut(Cut, Done),
    /// The weather has changed: look whether the sockets are deaf.
    Weather(Done),
}

/// Its drop says that an order has been carried out.
pub(super) type Done = mpsc::Sender<()>;

/// One link.
pub(super) struct LinkTask {
    /// Its number.
    pub(super) number: usize,
    /// What the script says of it.
    pub(super) plan: Link,
    /// The client's socket.
    pub(super) client: Socket,
    /// What all links share.
    pub(super) shared: Arc<Shared>,
    /// What the test asks of it.
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
}

/// A cut, and who waits for it.
struct CutNow {
    /// Which one.
    cut: Cut,
    /// `None` if the plan says so.
    done: Option<Done>,
}

impl From<Cut> for CutNow {
    fn from(cut: Cut) -> Self {
        Self { cut, done: None }
    }
}

/// How a link ended, and who waits for that.
type Ended = (LinkEnd, Option<Done>);

impl LinkTask {
    /// Plays the link to its end, and notes the end. A stalled link ends with the proxy, or by an order.
    pub(super) async fn run(self) {
        let (number, shared) = (self.number, Arc::clone(&self.shared));
        let (end, done) = self.play().await;
        shared.ledger.ended(number, end);
        drop(done);
    }

    /// Plays the link. Its sockets are closed when this is ready.
    async fn play(mut self) -> Ended {
        self.set_deaf(None);
        if let Entry::AcceptAnd(cut) = self.plan.entry {
            return self.cut(None, cut.into()).await;
        }
        let shared = Arc::clone(&self.shared);
        let mut dial = pin!(dial(&shared));
        let mut is_half_closed = false;
        let server = loop {
            tokio::select! {
                biased;
                order = self.next_cut(None) => {
                    if order.cut != Cut::HalfClose {
                        return self.cut(None, order).await;
                    }
                    self.client.shut_down();
                    is_half_closed = true;
                }
                server = &mut dial => break server,
            }
        };
        match server {
            Ok(server) => match self.join(&server, is_half_closed).await {
                JoinEnd::Cut(order) => self.cut(Some(server), order).await,
                JoinEnd::HalfClosed(end) => {
                    self.client.close(end);
                    server.close(end);
                    (LinkEnd::Cut(Cut::HalfClose), None)
                }
                JoinEnd::Closed(peer) => (LinkEnd::ClosedBy(peer), None),
                JoinEnd::Failed(peer) => {
                    let survivor = if peer == Peer::Client { server } else { self.client };
                    survivor.close(Cut::Reset);
                    (LinkEnd::ResetBy(peer), None)
                }
            },
            Err(error) => {
                log::warn!("the server of a fault proxy cannot be dialed: {error}");
                self.client.close(Cut::Reset);
                (LinkEnd::NoServer(Arc::new(error)), None)
            }
        }
    }

    /// Passes bytes in both directions until the link ends or is to be cut. Behind a half-close, passes on what the client
    /// sends, and throws away what the server sends.
    async fn join(&mut self, server: &Socket, is_half_closed: bool) -> JoinEnd {
        self.set_deaf(Some(server));
        let Self { number, plan, client, shared, orders } = self;
        let half_close = Notify::new();
        let pump = |direction| Pump::new(direction, *number, plan, shared, &half_close);
        let mut to_server = pin!(pump(Direction::ToServer).run(client, server));
        let mut to_client = pin!(pump(Direction::ToClient).run(server, client));
        let (mut is_client_done, mut is_server_done) = (false, false);
        let mut first = None;
        let half_close = loop {
            if is_half_closed {
                break Cut::HalfClose.into();
            }
            let (sender, end) = tokio::select! {
                biased;
                order = next_cut(orders, || set_deaf_of(shared, client, Some(server))) => match order.cut {
                    Cut::HalfClose => break order,
                    _ => return JoinEnd::Cut(order),
                },
                () = half_close.notified() => break Cut::HalfClose.into(),
                end = &mut to_server, if !is_client_done => (Peer::Client, end),
                end = &mut to_client, if !is_server_done => (Peer::Server, end),
            };
            let (receiver, other) = match sender {
                Peer::Client => (server, Peer::Server),
                Peer::Server => (&*client, Peer::Client),
            };
            match end {
                PumpEnd::EndOfStream => {
                    receiver.shut_down();
                    let first = *first.get_or_insert(sender);
                    match sender {
                        Peer::Client => is_client_done = true,
                        Peer::Server => is_server_done = true,
                    }
                    if is_client_done && is_server_done {
                        return JoinEnd::Closed(first);
                    }
                }
                PumpEnd::SenderFailed => return JoinEnd::Failed(sender),
                PumpEnd::ReceiverFailed => return JoinEnd::Failed(other),
                PumpEnd::Cut(Cut::HalfClose) => break Cut::HalfClose.into(),
                PumpEnd::Cut(cut) => return JoinEnd::Cut(cut.into()),
            }
        };
        client.shut_down();
        drop(half_close.done);
        let mut discard = pin!(discard(server));
        while !(is_client_done && is_server_done) {
            tokio::select! {
                biased;
                order = next_cut(orders, || set_deaf_of(shared, client, Some(server))) => {
                    if order.cut != Cut::HalfClose {
                        return JoinEnd::Cut(order);
                    }
                }
                end = &mut to_server, if !is_client_done => match end {
                    PumpEnd::EndOfStream => {
                        server.shut_down();
                        is_client_done = true;
                    }
                    PumpEnd::Cut(cut) => return JoinEnd::Cut(cut.into()),
                    PumpEnd::SenderFailed | PumpEnd::ReceiverFailed => return JoinEnd::HalfClosed(Cut::Reset),
                },
                outcome = &mut discard, if !is_server_done => match outcome {
                    Ok(()) => is_server_done = true,
                    Err(_) => return JoinEnd::HalfClosed(Cut::Reset),
                },
            }
        }
        JoinEnd::HalfClosed(Cut::Close)
    }

    /// Cuts a link on which nothing passes any more. `server` is `None` if the server has not heard of it.
    async fn cut(mut self, server: Option<Socket>, mut order: CutNow) -> Ended {
        while matches!(order.cut, Cut::Stall | Cut::HalfClose) {
            match order.cut {
                Cut::HalfClose => self.client.shut_down(),
                _ => self.shared.ledger.stalled(self.number),
            }
            drop(order);
            order = self.next_cut(server.as_ref()).await;
        }
        self.client.close(order.cut);
        if let Some(server) = server {
            server.close(order.cut);
        }
        (LinkEnd::Cut(order.cut), order.done)
    }

    /// The next cut that the test asks for.
    async fn next_cut(&mut self, server: Option<&Socket>) -> CutNow {
        next_cut(&mut self.orders, || set_deaf_of(&self.shared, &self.client, server)).await
    }

    /// Makes the sockets deaf or not, as the weather is.
    fn set_deaf(&self, server: Option<&Socket>) {
        set_deaf_of(&self.shared, &self.client, server);
    }
}

/// How the time ended in which the link was joined.
enum JoinEnd {
    /// Both sides were closed; this one first.
    Closed(Peer),
    /// The direction to the client was cut, and then the rest ended. How to end the sockets.
    HalfClosed(Cut),
    /// This side failed.
    Failed(Peer),
    /// It is to be cut.
    Cut(CutNow),
}

/// Dials the server, when the weather lets dials through.
async fn dial(shared: &Shared) -> std::io::Result<Socket> {
    let mut conditions = shared.conditions.subscribe();
    // It fails only if the proxy is gone, and this task with it.
    let _ = conditions.wait_for(|conditions| !conditions.holds_dials()).await;
    shared.upstream.dial().await
}

/// Reads to the end of the stream, and throws away what comes.
async fn discard(socket: &Socket) -> std::io::Result<()> {
    let mut buf = vec![0; 16 << 10];
    while socket.read(&mut buf).await? > 0 {}
    Ok(())
}

/// Makes these sockets deaf or not, as the weather is.
fn set_deaf_of(shared: &Shared, client: &Socket, server: Option<&Socket>) {
    let conditions = shared.conditions.borrow();
    set_deaf(&client.sock_ref(), conditions.is_black_hole(Direction::ToServer));
    if let Some(server) = server {
        set_deaf(&server.sock_ref(), conditions.is_black_hole(Direction::ToClient));
    }
}

/// The next cut that the test asks for. Changes of the weather are seen to meanwhile.
async fn next_cut(orders: &mut mpsc::UnboundedReceiver<Order>, on_weather: impl Fn()) -> CutNow {
    loop {
        match orders.recv().await {
            Some(Order::Weather(_done)) => on_weather(),
            Some(Order::Cut(cut, done)) => return CutNow { cut, done: Some(done) },
            // The proxy is gone, and this task is about to be dropped.
            None => std::future::pending().await,
        }
    }
}
