//! A proxy between a client and a real server that plays faults.
//!
//! Everything runs on a thread of its own, with a runtime of its own: the proxy works while the test's runtime is blocked,
//! has its time paused, or does not exist. A method sends its command to that thread and returns when it has been
//! carried out.
//!
//! ```text
//! FaultProxy -> Command -> Acceptor -> LinkTask -> Pump (to the server), Pump (to the client)
//!                 Script, Conditions: what is to happen        Ledger: what has happened
//! ```
//!
//! Next: [`plan`], the entries of a script.

use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use self::acceptor::{Command, Request, Shared};
use self::conditions::Conditions;
pub use self::ledger::{LinkEnd, LinkRecord, Peer};
use self::plan::checked_bandwidth;
pub use self::plan::{Cut, Direction, Link};
use self::script::Script;
#[cfg(unix)]
use self::start::open_unix;
use self::start::{ANY_PORT, Started, open_tcp, spawn};
pub use self::wait::Wait;
use crate::Address;
#[cfg(doc)]
use crate::Error;

mod acceptor;
mod black_hole;
mod conditions;
mod ledger;
mod link_task;
mod plan;
mod port;
mod pump;
mod script;
mod socket;
mod start;
mod trigger;
mod wait;
mod weather;

/// A proxy between a client and a real server that plays faults: cuts in the middle of a frame, refused dials, a load
/// balancer without a backend, black holes, slow links.
///
/// The client is any program: let it dial [`addr`](FaultProxy::addr) in place of the server. Without a script, in fair
/// weather, everything passes.
///
/// - **The script** says what happens to each link, in the order in which the clients' dials are accepted:
///   [`script`](Self::script), with [`Link`]s of your choice or [random ones](Link::random_weather).
/// - **The conditions** hold for all links, from the call on: [`latency`](Self::latency), [`bandwidth`](Self::bandwidth),
///   [`stall`](Self::stall), [`black_hole`](Self::black_hole), [`refuse`](Self::refuse), until [`heal`](Self::heal).
/// - **At once**: [`cut`](Self::cut), [`cut_link`](Self::cut_link).
/// - **What has happened**: [`ledger`](Self::ledger), and the waits for it.
///
/// Each of these calls returns when it has taken effect. That takes well under a millisecond; an async test may make
/// them. A call finds every client whose dial has succeeded.
///
/// The proxy has a thread of its own, so it needs no runtime of the test, and works in real time while the test's clock
/// is paused (`tokio::time::pause`). To drop it closes all its sockets, ends the thread and frees the port.
///
/// # Limits
///
/// - A client's dial succeeds as soon as the proxy's kernel has it, even if the server is down: then the link is reset,
///   and the ledger says [`NoServer`](LinkEnd::NoServer).
/// - The proxy acknowledges what it has received, so a client does not see how far the server's kernel is.
/// - The ledger is written by the proxy's thread. A client can know of its dial, of a byte or of its end a moment before
///   the ledger does: use the waits.
/// - The proxy cannot see that a client has left a stalled link. Such a link ends by [`cut`](Self::cut) or with the proxy.
/// - [`black_hole`](Self::black_hole) says what it is on which platform.
///
/// # Examples
///
/// A client of your own, which has to survive a reset in the middle of a request:
///
/// ```
/// use perconn::testing::{Cut, FaultProxy, Link};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tokio::net::TcpStream;
///
/// /// Asks until there is an answer.
/// async fn ask(address: std::net::SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
///     loop {
///         let mut stream = TcpStream::connect(address).await?;
///         let mut answer = vec![0; request.len()];
///         if stream.write_all(request).await.is_ok() && stream.read_exact(&mut answer).await.is_ok() {
///             return Ok(answer);
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let echo = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let server = echo.local_addr()?;
/// # tokio::spawn(async move {
/// #     loop {
/// #         let (mut stream, _) = echo.accept().await.unwrap();
/// #         tokio::spawn(async move { let (mut r, mut w) = stream.split(); tokio::io::copy(&mut r, &mut w).await });
/// #     }
/// # });
/// let proxy = FaultProxy::start(server).await?;
/// proxy.script([Link::pass().cut_after(3, Cut::Reset), Link::accept_and_close()]);
/// assert_eq!(ask(proxy.addr(), b"hello").await?, b"hello");
///
/// let ledger = proxy.ledger();
/// assert_eq!(ledger.len(), 3);
/// assert_eq!(ledger[0].to_server, 3);
/// # Ok(())
/// # }
/// ```
pub struct FaultProxy<A = SocketAddr> {
    /// Where the clients dial.
    listens_at: A,
    /// To the proxy's thread. `None` once it is to end.
    requests: Option<mpsc::UnboundedSender<Request>>,
    /// What the thread shares.
    shared: Arc<Shared>,
    /// The proxy's thread.
    thread: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Whether a [`black_hole`](Self::black_hole) over TCP swallows packets on this platform, and does not only stop
    /// reading.
    pub const IS_BLACK_HOLE_REAL: bool = black_hole::IS_REAL;

    /// Starts a proxy in front of this server, on a free port of `127.0.0.1`.
    ///
    /// The server need not be up: it is dialed for each link. Its name is resolved now, once.
    ///
    /// # Errors
    ///
    /// If the address is no address, with an [`Error::InvalidConfig`] inside, if its name does not resolve, or if there
    /// is no port, thread or descriptor.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a proxy that nobody gets ends.
    pub async fn start(server: impl Into<Address>) -> io::Result<Self> {
        Self::start_at(ANY_PORT, server).await
    }

    /// Starts a proxy that listens at an address of your choice; port 0 is any free port.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    ///
    /// # Cancel safety
    ///
    /// As for `start`.
    pub async fn start_at(listen: SocketAddr, server: impl Into<Address>) -> io::Result<Self> {
        let server = server.into();
        let (report, started) = oneshot::channel();
        spawn(move || open_tcp(listen, &server), move |outcome| drop(report.send(outcome)))?;
        started.await.map_err(|_| start::ended())?.map(Self::of)
    }

    /// [`start`](Self::start) for tests without a runtime.
    ///
    /// # Errors
    ///
    /// As for `start`.
    pub fn start_blocking(server: impl Into<Address>) -> io::Result<Self> {
        let server = server.into();
        let (report, started) = std_mpsc::channel();
        spawn(move || open_tcp(ANY_PORT, &server), move |outcome| drop(report.send(outcome)))?;
        started.recv().map_err(|_| start::ended())?.map(Self::of)
    }

    /// Where the clients dial.
    pub fn addr(&self) -> SocketAddr {
        self.listens_at
    }
}

#[cfg(unix)]
impl FaultProxy<PathBuf> {
    /// Starts a proxy between sockets of the Unix domain: it listens at one path, and the server at the other.
    ///
    /// The file at `listen` must not exist. It is removed when the proxy is dropped.
    ///
    /// # Errors
    ///
    /// If it cannot listen there, or there is no thread or descriptor.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a proxy that nobody gets ends.
    pub async fn start_unix(listen: impl AsRef<Path>, server: impl AsRef<Path>) -> io::Result<Self> {
        let (listen, server) = (listen.as_ref().to_owned(), server.as_ref().to_owned());
        let (report, started) = oneshot::channel();
        spawn(move || open_unix(listen, server), move |outcome| drop(report.send(outcome)))?;
        started.await.map_err(|_| start::ended())?.map(Self::of)
    }

    /// Where the clients dial.
    pub fn path(&self) -> &Path {
        &self.listens_at
    }
}

impl<A> FaultProxy<A> {
    // ===== what is to happen =====

    /// Plays this script from the next link on, in place of the one before. When it is at its end, every link passes.
    ///
    /// The entries may be endless, such as `std::iter::repeat(Link::accept_and_close())`. The iterator runs on the
    /// proxy's thread, so it must not block. If it panics, that is its end; it does if it calls its own proxy, which could
    /// not answer.
    pub fn script(&self, entries: impl IntoIterator<Item = Link, IntoIter: Send + 'static>) {
        self.command(Command::Script(Script::new(entries.into_iter())));
    }

    /// Cuts all live links, and those that were stalled. [`cut_link`](Self::cut_link) cuts one.
    pub fn cut(&self, cut: Cut) {
        self.command(Command::Cut(None, cut));
    }

    /// Cuts the link of this [number](LinkRecord::number). Does nothing if it has ended, or there is none.
    pub fn cut_link(&self, number: usize, cut: Cut) {
        self.command(Command::Cut(Some(number), cut));
    }

    /// Delays every byte by `delay`, and by up to `jitter` more. The order of the bytes stays. Zero and zero: no delay.
    ///
    /// Up to 16 MiB are under way in each direction; a sender that is faster has to wait. A delay of more than a day counts
    /// as a day.
    pub fn latency(&self, delay: Duration, jitter: Duration) {
        let latency = (!delay.is_zero() || !jitter.is_zero()).then_some((delay, jitter));
        self.change_weather(move |conditions| conditions.latency = latency);
    }

    /// Lets this many bytes a second pass, on each link and in each direction. After a pause, those of 50 ms pass at once.
    ///
    /// # Panics
    ///
    /// If it is 0: with [`stall`](Self::stall), nothing passes.
    #[track_caller]
    pub fn bandwidth(&self, bytes_per_second: u64) {
        let bandwidth = Some(checked_bandwidth(bytes_per_second));
        self.change_weather(move |conditions| conditions.bandwidth = bandwidth);
    }

    /// Stops reading and accepting, until [`heal`](Self::heal): the buffers of the kernels fill, and writes wait. Nothing
    /// is lost. Dials succeed, and become links afterwards.
    pub fn stall(&self) {
        self.change_weather(|conditions| conditions.is_stalled = true);
    }

    /// Lets nothing pass in this direction, until [`heal`](Self::heal), as a network that is partitioned.
    ///
    /// - **On Linux**, over TCP, the proxy's kernel drops what the sender sends. The sender gets no acknowledgement and
    ///   retransmits, so its keepalive and `user_timeout` find out. Towards the server, dials are not answered, too. After
    ///   `heal` it goes on, when the kernels retransmit: after 0.2 s, and later the longer it took.
    /// - **Elsewhere**, and on Unix sockets, it only stops reading, as [`stall`](Self::stall) in one direction: the
    ///   sender's kernel is answered until the buffers are full.
    ///
    /// [`IS_BLACK_HOLE_REAL`](FaultProxy::IS_BLACK_HOLE_REAL) says which of the two it is over TCP. In the direction to the
    /// client, what the client writes is acknowledged and passes.
    pub fn black_hole(&self, direction: Direction) {
        self.change_weather(move |conditions| conditions.add_black_hole(direction));
    }

    /// Closes the port until [`heal`](Self::heal): dials are refused. Live links go on.
    ///
    /// On Linux and macOS the system gives the port to nobody meanwhile, but a program that asks for just this port may get
    /// it. Then `heal` logs a warning (crate `log`), and the proxy opens it as soon as it is free. A Unix socket's file stays,
    /// and refuses.
    pub fn refuse(&self) {
        self.change_weather(|conditions| conditions.refuses = true);
    }

    /// Fair weather: ends everything that [`latency`](Self::latency), [`bandwidth`](Self::bandwidth),
    /// [`stall`](Self::stall), [`black_hole`](Self::black_hole) and [`refuse`](Self::refuse) began. The script goes on, and
    /// with it what it refuses or has stalled.
    pub fn heal(&self) {
        self.change_weather(|conditions| *conditions = Conditions::default());
    }

    // ===== what has happened =====

    /// The records of all links, in the order in which they were accepted.
    pub fn ledger(&self) -> Vec<LinkRecord> {
        self.shared.ledger.records()
    }

    /// Waits until this many links have been accepted, since the start.
    pub fn wait_for_links(&self, count: usize) -> Wait<'_> {
        self.wait_for(move |records| records.len() >= count)
    }

    /// Waits until this many links have ended, since the start. A stalled one has not.
    pub fn wait_for_ends(&self, count: usize) -> Wait<'_> {
        self.wait_for(move |records| records.iter().filter(|record| record.end.is_some()).count() >= count)
    }

    /// Waits until this many bytes have passed in this direction, since the start, on all links together.
    pub fn wait_for_bytes(&self, direction: Direction, bytes: u64) -> Wait<'_> {
        self.wait_for(move |records| records.iter().map(|record| record.bytes(direction)).sum::<u64>() >= bytes)
    }

    /// Waits until the records are as the test wants them. `is_there` must not call the proxy: the records are locked.
    #[track_caller]
    pub fn wait_for(&self, is_there: impl Fn(&[LinkRecord]) -> bool + Send + 'static) -> Wait<'_> {
        self.assert_not_own_thread();
        Wait::new(self.shared.ledger.subscribe(), is_there)
    }

    // ===== the thread =====

    /// The handle of a proxy that has started.
    fn of(Started { listens_at, requests, shared, thread }: Started<A>) -> Self {
        Self { listens_at, requests: Some(requests), shared, thread: Some(thread) }
    }

    /// Changes the conditions.
    fn change_weather(&self, change: impl FnOnce(&mut Conditions) + Send + 'static) {
        self.command(Command::Weather(Box::new(change)));
    }

    /// Whether the caller is the iterator of the script.
    fn is_own_thread(&self) -> bool {
        self.thread.as_ref().is_some_and(|own| own.thread().id() == thread::current().id())
    }

    /// Panics in the iterator of the script, which would wait for itself.
    fn assert_not_own_thread(&self) {
        assert!(
            !self.is_own_thread(),
            "the script of a fault proxy has called its own proxy, which would wait for itself"
        );
    }

    /// Sends a command, and waits until it has been carried out.
    fn command(&self, command: Command) {
        self.assert_not_own_thread();
        let (done, carried_out) = std_mpsc::channel();
        let sent = self.requests.as_ref().map(|requests| requests.send((command, done)));
        // Both fail only if the thread is gone.
        if matches!(sent, Some(Ok(()))) {
            let _ = carried_out.recv();
        }
    }
}

impl<A> Drop for FaultProxy<A> {
    fn drop(&mut self) {
        let is_own_thread = self.is_own_thread();
        self.requests = None;
        // The sockets are closed and the port is free when this returns. (Not if the script had the last reference.)
        if let Some(thread) = self.thread.take().filter(|_| !is_own_thread) {
            let _ = thread.join();
        }
    }
}

impl<A: fmt::Debug> fmt::Debug for FaultProxy<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultProxy").field("listens_at", &self.listens_at).field("ledger", &self.ledger()).finish()
    }
}
