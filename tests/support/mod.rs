//! What the tests share: a server whose every move is the test's, and a recorder of events.

#![allow(dead_code, unreachable_pub, missing_docs)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perconn::acceptor::{Acceptor, Stream};
use perconn::{Builder, Conn, Error, Event, TcpDialer, dial_fn};
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// No wait in a test is meant to take long; this one says that something hangs.
pub const HANG: Duration = Duration::from_secs(20);

/// Fails the test, instead of hanging it, if `future` takes for ever.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(HANG, future).await {
        Ok(value) => value,
        Err(_) => panic!("hangs: {what}"),
    }
}

/// A server on the loopback that accepts when the test says so.
pub struct Server {
    listener: Option<TcpListener>,
    pub address: SocketAddr,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener: Some(listener), address }
    }

    pub async fn accept(&self) -> TcpStream {
        let listener = self.listener.as_ref().expect("the server is stopped");
        soon("accept", listener.accept()).await.unwrap().0
    }

    /// From now on, dials are refused.
    pub fn stop(&mut self) {
        self.listener = None;
    }

    pub async fn restart(&mut self) {
        self.listener = Some(TcpListener::bind(self.address).await.unwrap());
    }

    /// A connection to this server with delays fit for a test.
    pub fn client(&self) -> Builder<TcpDialer> {
        quick(Conn::builder(self.address))
    }

    /// A connection and the server's end of its first link.
    pub async fn pair(&self) -> (Conn, TcpStream) {
        let (conn, peer) = tokio::join!(self.client().connect(), self.accept());
        (conn.unwrap(), peer)
    }

    /// Asserts that nobody has dialed.
    pub async fn expect_silence(&self, time: Duration) {
        let listener = self.listener.as_ref().expect("the server is stopped");
        let accepted = tokio::time::timeout(time, listener.accept()).await;
        assert!(accepted.is_err(), "somebody dialed");
    }
}

/// A server of one acceptor: it serves one link after the other, in the test's own task, where a failed assertion is seen.
pub struct Links {
    acceptor: Acceptor,
    streams: mpsc::Receiver<Stream>,
}

impl Links {
    pub fn start() -> Self {
        let (sender, streams) = mpsc::channel(1);
        let hand_over = move |stream, _| {
            let sender = sender.clone();
            async move { sender.send(stream).await.map_err(std::io::Error::other) }
        };
        Self { acceptor: Acceptor::builder("127.0.0.1:0").acceptors(1).handler(hand_over).build().unwrap(), streams }
    }

    pub fn address(&self) -> SocketAddr {
        self.acceptor.local_addr().unwrap()
    }

    /// The next link. It is accepted when the one before has been dropped.
    pub async fn next(&mut self) -> Stream {
        soon("the next link", self.streams.recv()).await.unwrap()
    }
}

/// An address at which nobody listens, nor will as long as the test runs: a socket is bound to it.
pub async fn refused_address() -> SocketAddr {
    let socket = std::mem::ManuallyDrop::new(tokio::net::TcpSocket::new_v4().unwrap());
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.local_addr().unwrap()
}

/// An address at which nobody listens, for one who will.
pub async fn free_address() -> SocketAddr {
    let mut server = Server::start().await;
    server.stop();
    server.address
}

/// A connection over pipes in memory, and their far ends.
pub async fn pipes() -> (Conn<DuplexStream>, mpsc::UnboundedReceiver<DuplexStream>) {
    let (sender, peers) = mpsc::unbounded_channel();
    let dialer = dial_fn(move || {
        let (near, far) = tokio::io::duplex(64);
        sender.send(far).unwrap();
        std::future::ready(Ok(near))
    });
    (soon("connect", quick(Conn::builder("memory").dialer(dialer)).connect()).await.unwrap(), peers)
}

/// Short delays, and no log.
pub fn quick<D>(builder: Builder<D>) -> Builder<D> {
    builder
        .retry_min(Duration::from_millis(5))
        .retry_max(Duration::from_millis(20))
        .stable_after(Duration::ZERO)
        .logger(|_| {})
}

/// Ends a link with a reset.
pub fn reset(stream: TcpStream) {
    crash(&stream);
}

/// The same for a stream of [`Links`].
pub fn reset_link(stream: Stream) {
    crash(stream.tcp().unwrap());
}

/// When it is dropped, its peer gets a reset.
fn crash(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Waits until the connection knows that its link is gone, without touching it.
pub async fn break_noticed<S>(conn: &Conn<S>) {
    let mut status = conn.watch_status();
    soon("the break is noticed", status.wait_for(|status| !status.is_connected())).await.unwrap();
}

/// Waits until a link of at least this generation is up.
pub async fn generation_up<S>(conn: &Conn<S>, generation: u64) {
    while conn.generation() < generation {
        let mut status = conn.watch_status();
        if conn.generation() >= generation {
            break;
        }
        soon("the next link comes up", status.changed()).await.unwrap();
    }
    soon("the link is up", conn.connected()).await.unwrap();
}

/// The crate's own error in an I/O error.
pub fn inside(error: &std::io::Error) -> &Error {
    error.get_ref().and_then(|inner| inner.downcast_ref()).unwrap_or_else(|| panic!("no perconn::Error in {error:?}"))
}

/// The generation whose break an I/O error tells.
pub fn told_generation(error: &std::io::Error) -> u64 {
    match inside(error) {
        Error::IoError { generation, .. } => *generation,
        other => panic!("not a break: {other:?}"),
    }
}

/// Hooks that write down what they are told.
#[derive(Clone)]
pub struct Recorder {
    events: Arc<Mutex<Vec<Event>>>,
    sender: mpsc::UnboundedSender<Event>,
}

impl Recorder {
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { events: Arc::default(), sender }, receiver)
    }

    pub fn hook(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let recorder = self.clone();
        move |event| {
            recorder.events.lock().unwrap().push(event.clone());
            let _ = recorder.sender.send(event.clone());
        }
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }
}

/// The next event that `pick` takes.
pub async fn event<T>(events: &mut mpsc::UnboundedReceiver<Event>, pick: impl Fn(&Event) -> Option<T>) -> T {
    loop {
        let event = soon("an event", events.recv()).await.expect("the hook is gone");
        if let Some(picked) = pick(&event) {
            return picked;
        }
    }
}
