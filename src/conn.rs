//! The connection: `Conn`, its halves and `SharedConn`.
//!
//! What passes through here:
//!
//! ```text
//! write    Conn::poll_write -> Handle::poll_write -> StreamRef::poll_write -> Socket::poll_write -> kernel
//! read     Conn::poll_read  -> Handle::poll_read  -> StreamRef::poll_read  -> Socket::poll_read  <- kernel
//! break    Handle::break_on_error -> ConnState::record_break -> Command::Redial -> actor
//! outage   Handle::poll_next_link -> ConnState::next_step: report the break, take the next link, or wait
//! ```
//!
//! A read or write on a live link involves no actor, no lock and no allocation.
//!
//! Next: [`handle`], what each of these types consists of.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use self::direction::DirectionState;
use self::handle::Handle;
#[cfg(unix)]
use crate::UnixDialer;
use crate::builder::Builder;
use crate::conn_state::Direction;
use crate::link::WriteBufs;
use crate::stats::StatsSource;
use crate::{Address, ConnStats, Error, StatsWatch, Status, StatusWatch, TcpDialer};

pub(crate) use self::context::ConnContext;
#[cfg(feature = "session")]
pub(crate) use self::handle::Released;
use self::methods::{handle_methods, state_methods, tcp_methods, write_methods};
pub use self::shared::SharedConn;
pub use self::split::{ReadHalf, ReuniteError, WriteHalf};

mod context;
mod direction;
mod handle;
mod idle_timeout;
mod methods;
#[cfg(all(test, perconn_loom))]
mod models;
mod poll;
#[cfg(feature = "session")]
mod session_halves;
mod shared;
mod slow_path;
mod split;
mod timer;

/// A connection that outlives its sockets.
///
/// Read and write it like a [`TcpStream`]. When the socket under it dies, one operation reports the break: with an
/// ordinary [`io::Error`], or with `Ok(0)` from a read if the peer closed cleanly. A background actor dials again.
/// The next operation works on a new socket, or waits for one as [`Builder::when_down`] says.
///
/// # Reconnection
///
/// Each socket that was up is a *link*, numbered by its [`generation`](Conn::generation). A *break* ends a link: any
/// I/O error on it, the peer's close or reset, an idle timeout, [`abandon`](Conn::abandon) or
/// [`break_link`](Conn::break_link). From then until the next link is up there is an *outage*. The actor notices the
/// peer's close at once, even if no task reads or writes; on platforms other than Linux within half a second if unread
/// bytes lie before it.
///
/// The connection reports each break once, before it touches the next link. As long as you get no error, you talk to
/// the same peer as before. If several links broke while no operation ran, it reports one break after the other, up to
/// the last 16. No read returns bytes of two links, and the rest of a failed `write_all` is never sent on the next
/// link. Where you drop futures, see [Timeouts and `select!`](#timeouts-and-select).
///
/// Work that each new socket needs (a login, subscriptions) belongs in a [session set-up](crate::Dial::and_then). Or
/// do it whenever an operation has reported a break.
///
/// # Timeouts and `select!`
///
/// A timeout or a `select!` drops futures. No byte is lost by that, but the connection cannot see it. Two things are
/// yours to say, and [`abandon`](Conn::abandon) says both.
///
/// *Where you are in the conversation.* A request has timed out: its answer may still come, and you would take it for
/// the answer to the next request. After the timeout, give the link up:
///
/// ```
/// # use std::{io, time::Duration};
/// # use perconn::Conn;
/// # use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
/// # use tokio::time::timeout;
/// async fn ask(conn: &mut BufReader<Conn>, request: &[u8]) -> io::Result<String> {
///     loop {
///         conn.get_ref().connected().await?; // fails when the connection has ended
///         let exchange = async {
///             conn.write_all(request).await?;
///             let mut answer = String::new();
///             conn.read_line(&mut answer).await?;
///             io::Result::Ok(answer)
///         };
///         match timeout(Duration::from_secs(2), exchange).await {
///             Ok(Ok(answer)) if answer.ends_with('\n') => return Ok(answer),
///             // No answer in time, an error, or half an answer and the peer's close.
///             _ => conn.get_mut().abandon(), // nothing more of this link is read or reported
///         }
///         conn.consume(conn.buffer().len()); // the buffer's bytes are of that link, too
///     }
/// }
/// ```
///
/// Wait for the link *before* the timeout, as here. A timeout around an operation includes the wait for a link: a link
/// that came up just before the limit would be given up at once, before it had a chance, and the delays would go on
/// growing.
///
/// *Which operations are under way.* tokio's traits do not show whether a poll continues an operation or begins another
/// one. So the connection takes a read or write that waited, or a write that sent a part, for one under way. If the
/// other direction reports the break of that link, the next operation in this direction reports the same break once
/// more. In a loop over `select!`, call `abandon` after each error: then every link is reported once. Without it,
/// compare [`Error::generation`] with the last one that you have handled.
///
/// Complete programs, each of 40 lines, are in `examples/`: `request_timeout`, `heartbeat_select`, and the same
/// exchange over [`Sessions`](crate::Sessions) (`request_session`) and over frames (`request_framed`).
///
/// # Data loss
///
/// A write that returned `Ok` has handed its bytes to the kernel, as on a `TcpStream`. (On a stream that is not a
/// socket, such as one of TLS, a flush has.) The peer's kernel may never get them, and the peer's program may never read
/// what its kernel got. **Only an answer from the peer proves that it has read something.** If no message may be lost,
/// number the messages, have the peer answer, and send again what has no answer after a break.
///
/// Once the peer's close or reset has reached this machine, the next write fails instead of losing its bytes. Each
/// write checks what the kernel has reported to the runtime. On Linux, the first write in each tick of the kernel's
/// coarse clock (1 to 10 ms) also asks the kernel itself, and on other platforms the first write in 4 ms does. So a busy
/// runtime hides a close for no longer than that. A peer that closes only its sending side and goes on reading counts as
/// closed, too.
///
/// Data in flight when the peer closes is lost, and the next operation reports the break. On Linux,
/// `unacknowledged` of [`Error::IoError`] says how many bytes the peer's *kernel* had not acknowledged. All bytes before
/// them have reached the peer's machine, but not necessarily its program: what a killed server had not read is lost as
/// well, and not counted.
///
/// A peer that vanishes silently is noticed when the kernel gives up on it, which takes a quarter of an hour or more.
/// Set [`keepalive`](Builder::keepalive), [`user_timeout`](Builder::user_timeout) or
/// [`idle_timeout`](Builder::idle_timeout) to notice it sooner.
///
/// A read returns what had arrived before the break, and reports the break after that. If several links broke
/// while no operation ran, this holds for the link in use and for the newest broken one. But if a *write* reports the
/// break on a whole connection, what had arrived and was not read is lost with the link. Where that matters, use
/// [`into_split`](Conn::into_split): the [`ReadHalf`] reads to the end, whatever the other half has reported.
///
/// # Buffers on top
///
/// A wrapper that keeps bytes between calls keeps them across a break. A [`BufReader`](tokio::io::BufReader) with its
/// `lines`, or a `Framed` of tokio-util, would put half a line of one link before the first line of the next. A
/// `BufWriter` or the sink of a `Framed` would send the rest of the old message first at its next flush.
///
/// After such a wrapper has reported a break, discard its buffered bytes or make a new one. Set
/// [`close_as_error`](Builder::close_as_error), so that the peer's close is such an error, too, and not the end of
/// `lines`. A tunnel ([`copy_bidirectional`](tokio::io::copy_bidirectional)) has no
/// caller to report to and should not run over a `Conn`.
///
/// # Two tasks
///
/// A whole connection is one handle. With [`tokio::io::split`] two tasks can share it, but the promise is weaker. Each
/// operation that waited when the link broke ends with the error. A direction in which no operation was under way may
/// not report the break. [`into_split`](Conn::into_split) makes two handles, and each reports every break.
///
/// # Shutdown
///
/// [`shutdown`](tokio::io::AsyncWriteExt::shutdown) works as on a `TcpStream`: it closes the writing side, and reads
/// go on until the end of the stream. A read returns that end once, as `Ok(0)`; later reads fail with
/// [`Error::ClosedConnection`]. After a shutdown the connection does not dial again. [`close`](Conn::close) ends
/// everything at once. Dropping the last handle closes the connection, too.
///
/// # Cancel safety
///
/// The futures of tokio's `read`, `write`, `flush` and `shutdown` on a connection may be dropped at any await: no
/// byte is lost or sent twice because of it. As on any stream, `write_all` and `read_exact` lose count of what they
/// had done. Dropping an operation that waits for a link does not stop the redial.
///
/// # Examples
///
/// ```
/// use perconn::Conn;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let address = server.local_addr()?;
/// # tokio::spawn(async move {
/// #     let (mut stream, _) = server.accept().await?;
/// #     let (mut read, mut write) = stream.split();
/// #     tokio::io::copy(&mut read, &mut write).await
/// # });
/// let mut conn = Conn::connect(address).await?;
/// conn.write_all(b"hello").await?;
/// let mut echo = [0; 5];
/// conn.read_exact(&mut echo).await?;
/// assert_eq!(&echo, b"hello");
/// # Ok(())
/// # }
/// ```
pub struct Conn<S = TcpStream> {
    /// What both directions share: the link in use, and the newest break that was reported.
    handle: Handle<S>,
    /// The reads through the handle.
    read: DirectionState,
    /// The writes through the handle.
    write: DirectionState,
}

impl Conn {
    /// Connects to an address with the default settings.
    ///
    /// Like [`TcpStream::connect`], this waits for the outcome of the first dial. Later dials run in the background.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] for an address that cannot be dialed, [`Error::DialFailure`] if the first dial fails.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future stops its dial.
    pub async fn connect(address: impl Into<Address>) -> Result<Self, Error> {
        Self::builder(address).connect().await
    }

    /// Makes a builder for a connection to an address.
    pub fn builder(address: impl Into<Address>) -> Builder<TcpDialer> {
        Builder::new(address.into())
    }
}

#[cfg(unix)]
impl Conn<UnixStream> {
    /// Makes a builder for a connection to a Unix domain socket. Unix only.
    ///
    /// ```no_run
    /// use perconn::Conn;
    ///
    /// # async fn example() -> Result<(), perconn::Error> {
    /// let conn = Conn::unix("/run/agent.sock").connect().await?;
    /// # drop(conn);
    /// # Ok(())
    /// # }
    /// ```
    pub fn unix(path: impl Into<PathBuf>) -> Builder<UnixDialer> {
        let dialer = UnixDialer::new(path);
        Builder::new(Address::from(dialer.path().to_string_lossy().into_owned())).dialer(dialer)
    }
}

impl<S> Conn<S> {
    /// A connection without a link yet.
    pub(crate) fn new(context: ConnContext<S>) -> Self {
        let mut read = DirectionState::new(Direction::Read);
        read.close_as_error = context.close_as_error;
        Self { handle: Handle::new(Arc::new(context)), read, write: DirectionState::new(Direction::Write) }
    }

    /// Forgets the operations that were under way. The caller owns the connection, so their futures were dropped.
    fn forget_operations(&mut self) {
        self.read.clear_link();
        self.write.clear_link();
    }

    /// Takes the link that is up, so that what arrives on it can be read even after a break.
    pub(crate) fn begin(mut self) -> Self {
        self.handle.take_link(Direction::Read);
        self
    }

    /// Divides the connection into halves for two tasks. Each half is a handle of its own and reports every break.
    ///
    /// The halves share a socket without a lock, and any other stream behind one. Dropping the [`WriteHalf`] shuts the
    /// writing side down, as tokio's does. Dropping the last half closes the connection.
    ///
    /// No operation is under way any more, and no half owes a report for one. If your last `write` took only a part of
    /// its bytes, write the rest before you split, or not at all.
    ///
    /// ```
    /// use perconn::Conn;
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let address = server.local_addr()?;
    /// # tokio::spawn(async move {
    /// #     let (mut stream, _) = server.accept().await?;
    /// #     let (mut read, mut write) = stream.split();
    /// #     tokio::io::copy(&mut read, &mut write).await
    /// # });
    /// let (mut reader, mut writer) = Conn::connect(address).await?.into_split();
    /// let reading = tokio::spawn(async move {
    ///     let mut echo = [0; 5];
    ///     reader.read_exact(&mut echo).await.map(|_| echo)
    /// });
    /// writer.write_all(b"hello").await?;
    /// assert_eq!(&reading.await??, b"hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_split(mut self) -> (ReadHalf<S>, WriteHalf<S>) {
        self.forget_operations();
        let (read, write) = self.handle.split();
        (ReadHalf::new(read, self.read), WriteHalf::new(write, self.write))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Conn<S> {
    /// Makes a connection that any number of tasks can use at once.
    ///
    /// This starts a task on the connection's runtime. It writes for the others when several tasks write.
    pub fn into_shared(self) -> SharedConn<S> {
        let (reader, writer) = self.into_split();
        SharedConn::new(Some(reader), writer)
    }
}

impl<S> Conn<S> {
    /// Gives the link up, with everything under way on it.
    ///
    /// Nothing more of this link is read, written or reported: the next operation works on the next link, or waits for
    /// it. Call it when you have lost your place in the conversation: after a timeout, when an answer makes no sense,
    /// and after an error in a loop that drops futures. See [Timeouts and `select!`](#timeouts-and-select).
    ///
    /// A link that is up is broken, and the redial keeps to the backoff. A link that has broken already is forgotten,
    /// unreported; [`last_reported`](Conn::last_reported) then counts it as reported. A newer link that came up since, and
    /// that no operation of this handle has used yet, is kept. (The link that [`connect`](Builder::connect) waited for
    /// counts as used.) In an outage, there is nothing to give up.
    ///
    /// If the link ended before [`stable_after`](Builder::stable_after), it counts against its address, like any break:
    /// of [several addresses](Builder::addresses), the next one is dialed.
    ///
    /// It takes `&mut self`, so no operation of this handle can be under way. That is how the connection knows what
    /// tokio's traits do not show: that every earlier future was dropped. After a shutdown the link is the last one, and
    /// giving it up ends the connection.
    ///
    /// A wrapper such as a `BufReader` keeps its own bytes: discard them, too.
    ///
    /// ```
    /// use std::time::Duration;
    /// use perconn::Conn;
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// use tokio::time::timeout;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let address = server.local_addr()?;
    /// # tokio::spawn(async move {
    /// #     let _never_answers = server.accept().await?;
    /// #     let (mut stream, _) = server.accept().await?;
    /// #     let (mut read, mut write) = stream.split();
    /// #     tokio::io::copy(&mut read, &mut write).await
    /// # });
    /// let mut conn = Conn::builder(address).retry_min(Duration::from_millis(10)).build()?;
    /// let mut answer = [0; 4];
    /// loop {
    ///     conn.connected().await?;
    ///     let request = async {
    ///         conn.write_all(b"ping").await?;
    ///         conn.read_exact(&mut answer).await
    ///     };
    ///     if timeout(Duration::from_millis(100), request).await.is_ok_and(|outcome| outcome.is_ok()) {
    ///         break;
    ///     }
    ///     // Late, or broken in the middle: what arrives on this link now is not the answer to the next request.
    ///     conn.abandon();
    /// }
    /// assert_eq!(&answer, b"ping");
    /// assert_eq!(conn.generation(), 2);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("reconnect", "reset", "disconnect", "cancel"))]
    pub fn abandon(&mut self) {
        self.handle.abandon(&mut self.read);
        self.write.clear_link(); // rule: abandon-ends-the-write
    }

    handle_methods!(Direction::Read);
    state_methods!(self => self.handle.conn_state);
}

impl Conn {
    tcp_methods!();
}

/// A read that returns `Ok` and fills nothing, though there was room, reports the peer's close. The next read works
/// on the next link, or waits for it. An error with an [`Error`] inside reports any other break or the end of the
/// connection.
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncRead for Conn<S> {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        me.handle.poll_read(&mut me.read, cx, buf)
    }
}

/// An error with an [`Error::IoError`] inside reports a break. The next write works on the next link, or waits for
/// it. A flush on a connection over sockets has nothing to do: the kernel has every byte that a write has accepted.
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncWrite for Conn<S> {
    write_methods!(write);
}

impl<S> fmt::Debug for Conn<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.debug("Conn", f)
    }
}
