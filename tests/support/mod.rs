//! What the tests share: servers that the test controls, connections with short delays, and a recorder of events.

#![allow(dead_code, unreachable_pub, missing_docs)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use perconn::acceptor::{Acceptor, Stream};
use perconn::{Builder, Conn, Error, Event, StatusWatch, TcpDialer, dial_fn};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;

mod slowness;

pub use self::slowness::SLOWNESS;

/// How long a close of a `SharedConn` may go on sending queued jobs.
pub const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// A wait that takes this long hangs: no wait in a test is meant to take nearly as long.
pub const HANG_LIMIT: Duration = Duration::from_secs(20 * SLOWNESS as u64);

/// Awaits `future`, and panics instead of hanging when it takes longer than [`HANG_LIMIT`].
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(HANG_LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("hangs: {what}"),
    }
}

/// Polls a future once.
pub async fn look<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    let mut future = std::pin::Pin::new(future);
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await
}

/// A server on the loopback that accepts when the test says so.
pub struct Server {
    listener: Option<TcpListener>,
    /// Holds the port while the server is stopped, so that no other test gets it.
    reserved: Option<TcpSocket>,
    pub address: SocketAddr,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener: Some(listener), reserved: None, address }
    }

    pub async fn accept(&self) -> TcpStream {
        let listener = self.listener.as_ref().expect("the server is stopped");
        in_time("accept", listener.accept()).await.unwrap().0
    }

    /// The same, without a limit: for a server in the background.
    pub async fn accept_for_ever(&self) -> TcpStream {
        self.listener.as_ref().expect("the server is stopped").accept().await.unwrap().0
    }

    /// From now on, dials are refused.
    pub fn stop(&mut self) {
        self.listener = None;
        let socket = TcpSocket::new_v4().unwrap();
        // The links of this server still use the port.
        #[cfg(unix)]
        socket.set_reuseaddr(true).unwrap();
        // Wine closes a listener a moment after the program has.
        let start = Instant::now();
        while let Err(error) = socket.bind(self.address) {
            assert!(cfg!(windows) && start.elapsed() < HANG_LIMIT, "{error}");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.reserved = Some(socket);
    }

    pub async fn restart(&mut self) {
        let socket = self.reserved.take().expect("the server is not stopped");
        self.listener = Some(socket.listen(128).unwrap());
    }

    /// A builder of connections to this server, with short delays.
    pub fn client(&self) -> Builder<TcpDialer> {
        quick(Conn::builder(self.address))
    }

    /// A connection, and the server's end of its first link.
    pub async fn pair(&self) -> (Conn, TcpStream) {
        let (conn, peer) = tokio::join!(self.client().connect(), self.accept());
        (conn.unwrap(), peer)
    }

    /// Asserts that no dial arrives within `time`.
    pub async fn expect_no_dial(&self, time: Duration) {
        let listener = self.listener.as_ref().expect("the server is stopped");
        let accepted = tokio::time::timeout(time, listener.accept()).await;
        assert!(accepted.is_err(), "a client dialed");
    }
}

/// The address of a server that echoes lines. On its first link it stops answering at the first line that ends with a 3,
/// and keeps the link open.
pub async fn server_that_hangs_once() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for link in 1.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(echo_lines(stream, link == 1));
        }
    });
    address
}

async fn echo_lines(stream: TcpStream, hangs: bool) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if hangs && line.ends_with('3') {
            std::future::pending::<()>().await;
        }
        if write.write_all(format!("{line}\n").as_bytes()).await.is_err() {
            break;
        }
    }
}

/// A server of one acceptor. It hands one link after the other to the test's own task, where a failed assertion fails
/// the test.
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

    /// The next link. It is accepted once the one before has been dropped.
    pub async fn next(&mut self) -> Stream {
        in_time("the next link", self.streams.recv()).await.unwrap()
    }
}

/// A port of the loopback that no other socket can take, and at which every dial is refused until it listens.
pub struct ReservedPort {
    socket: TcpSocket,
    pub address: SocketAddr,
}

impl ReservedPort {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        Self { socket, address }
    }

    pub fn listen(self) -> TcpListener {
        self.socket.listen(128).unwrap()
    }
}

/// An address at which every dial is refused for as long as the test process runs.
pub async fn refused_address() -> SocketAddr {
    let port = std::mem::ManuallyDrop::new(ReservedPort::new());
    port.address
}

/// A connection over pipes in memory, and the far ends of its links.
pub async fn pipes() -> (Conn<DuplexStream>, mpsc::UnboundedReceiver<DuplexStream>) {
    let (sender, peers) = mpsc::unbounded_channel();
    let dialer = dial_fn(move || {
        let (near, far) = tokio::io::duplex(64);
        sender.send(far).unwrap();
        std::future::ready(Ok(near))
    });
    (in_time("connect", quick(Conn::builder("memory").dialer(dialer)).connect()).await.unwrap(), peers)
}

/// Sets short delays, and no log.
pub fn quick<D>(builder: Builder<D>) -> Builder<D> {
    builder
        .retry_min(Duration::from_millis(5))
        .retry_max(Duration::from_millis(20))
        .stable_after(Duration::ZERO)
        .logger(|_| {})
}

/// Ends a link with a reset.
pub fn reset(stream: TcpStream) {
    set_reset_on_drop(&stream);
}

/// Ends a link of [`Links`] with a reset.
pub fn reset_link(stream: Stream) {
    set_reset_on_drop(stream.tcp().unwrap());
}

fn set_reset_on_drop(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Waits until the connection has noticed that its link is gone, without a read or write of its own.
pub async fn wait_for_break<S>(conn: &Conn<S>) {
    wait_for_disconnect(conn.watch_status()).await;
}

/// The same, with the status of any kind of handle.
pub async fn wait_for_disconnect(mut status: StatusWatch) {
    in_time("the break is noticed", status.wait_for(|status| !status.is_connected())).await.unwrap();
}

/// Waits until a link of at least this generation is up.
pub async fn wait_for_generation<S>(conn: &Conn<S>, generation: u64) {
    while conn.generation() < generation {
        let mut status = conn.watch_status();
        if conn.generation() >= generation {
            break;
        }
        in_time("the next link comes up", status.changed()).await.unwrap();
    }
    in_time("the link is up", conn.connected()).await.unwrap();
}

/// The crate's own error inside of an I/O error.
pub fn perconn_error(error: &std::io::Error) -> &Error {
    Error::of(error).unwrap_or_else(|| panic!("no perconn::Error in {error:?}"))
}

/// The generation whose break an I/O error reports.
pub fn reported_generation(error: &std::io::Error) -> u64 {
    match perconn_error(error) {
        Error::IoError { generation, .. } => *generation,
        other => panic!("expected IoError, got {other:?}"),
    }
}

/// Records events, and sends each to the test.
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

/// Waits for the next event for which `pick` returns a value.
pub async fn next_event<T>(events: &mut mpsc::UnboundedReceiver<Event>, pick: impl Fn(&Event) -> Option<T>) -> T {
    loop {
        let event = in_time("an event", events.recv()).await.expect("the hook is gone");
        if let Some(picked) = pick(&event) {
            return picked;
        }
    }
}
