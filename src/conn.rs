//! The connection itself.

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
use crate::link::Bytes;
use crate::{Address, Error, Status, StatusWatch, TcpDialer};

pub(crate) use self::context::ConnContext;
#[cfg(feature = "session")]
pub(crate) use self::lending::Released;
use self::methods::{common_methods, tcp_methods, write_methods};
pub use self::shared::SharedConn;
pub use self::split::{ReadHalf, ReuniteError, WriteHalf};

mod context;
mod direction;
mod handle;
mod idle_timeout;
#[cfg(feature = "session")]
mod lending;
mod methods;
mod poll;
mod shared;
mod slow_path;
mod split;
mod timer;

/// A connection that outlives its sockets.
///
/// It is read and written like a [`TcpStream`]. When the socket under it dies, one operation is told with an ordinary
/// [`io::Error`] (or a read with `Ok(0)`, if the peer closed in good order), and a background actor dials again; the
/// next operation works on a fresh socket, or waits for it as [`Builder::when_down`] says.
///
/// # Reconnection
///
/// Each socket that was up is a *link*, numbered by its [`generation`](Conn::generation). A break of a link is any
/// error on it, of whatever kind, the peer's close or reset, and [`reconnect`](Conn::reconnect). On Linux the actor
/// notices the peer's close at once, even if nobody reads or writes; elsewhere the next operation does.
///
/// The connection is told of every break exactly once, before it touches the next link: a caller that gets no error
/// is still talking to the peer that it was talking to. If it slept through several links, it is told of one break
/// after the other (of the last 16 at most). No bytes of two links ever meet in one read, and the rest of a failed
/// `write_all` is never sent on the next link.
///
/// What has to be repeated on each fresh socket (a login, subscriptions) goes into a
/// [session set-up](crate::Dial::and_then), or the caller does it whenever it was told of a break.
///
/// # Data loss
///
/// A write that returned `Ok` has handed its bytes to the kernel, as on a `TcpStream` (on a stream that is no socket, such
/// as one of TLS, a flush has); only an answer from the peer proves more. Once the peer's close or reset has reached this machine, the next write fails instead of vanishing. Each
/// write looks at what the runtime has been told by the kernel; and, on Linux, the first write in each tick of the
/// kernel's coarse clock (1 to 10 ms) asks the kernel itself, so that a busy runtime hides no close for longer than that.
/// A peer that closes only its sending side and goes on reading counts as closed, too.
///
/// A close that is still on its way cannot be seen. A write that crosses it is lost, and the next operation is told of
/// the break; on Linux the error says how many bytes may be lost, in `unacknowledged` of
/// [`Error::IoError`](crate::Error::IoError): all before them have reached the peer's machine.
///
/// A peer that vanishes without a word is noticed when the kernel gives up on it, which takes a quarter of an hour or
/// more, unless [`keepalive`](Builder::keepalive), [`user_timeout`](Builder::user_timeout) or
/// [`idle_timeout`](Builder::idle_timeout) say otherwise.
///
/// A read is given what had arrived before the break first, then told. (If the connection slept through several links,
/// that holds for the one it had in use and for the newest broken one.) But if the whole connection is told by a
/// *write*, what had arrived and was not read is gone with the link. Where that matters, use
/// [`into_split`](Conn::into_split): the [`ReadHalf`] reads to the end whatever the other half was told.
///
/// # Buffers on top
///
/// What keeps bytes of its own between calls (a [`BufReader`](tokio::io::BufReader) and its `lines`, a `Framed` of
/// tokio-util) keeps them across a break, and would put half a line of one link before the first line of the next.
/// So does what has bytes yet to write (a `BufWriter`, the sink of a `Framed`): its next flush would send the rest of the
/// old message first. After it has passed a break on, throw the buffered bytes away, or make a new one; and take an end
/// of the stream in the middle of a line for what it is. A tunnel
/// ([`copy_bidirectional`](tokio::io::copy_bidirectional)) has nobody to tell and should not run over a `Conn`.
///
/// # Two tasks
///
/// A whole connection is one handle. By [`tokio::io::split`] two tasks can share it, and get a weaker form of the
/// promise: an operation that was already waiting when the link broke ends with the error in each direction, but a
/// direction in which nothing was under way may not be told. [`into_split`](Conn::into_split) makes two handles, of
/// which each is told of everything.
///
/// Tokio's traits do not show whether an operation under way goes on or a new one has begun. If a read that waited was
/// cancelled, and a write was then told of the break, the next read is told of the same break once more; and so with a
/// write that was cancelled while it waited or after a part of its bytes.
///
/// # Shutdown
///
/// [`shutdown`](tokio::io::AsyncWriteExt::shutdown) ends the conversation as on a `TcpStream`: the writing side is
/// closed, reads go on until the end of the stream (which is told once, as `Ok(0)`; then they fail with
/// [`Error::ClosedConnection`]), and nothing is dialed any more. [`close`](Conn::close) ends
/// everything at once. Dropping the last handle closes, too.
///
/// # Cancel safety
///
/// The futures of tokio's `read`, `write`, `flush` and `shutdown` on a connection may be dropped at any await; no
/// byte is lost or sent twice for it. As everywhere, `write_all` and `read_exact` lose count of what they had done.
/// Dropping an operation that waits for a link does not stop the redial.
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
    handle: Handle<S>,
    read: DirectionState,
    write: DirectionState,
}

impl Conn {
    /// Connects to an address with the default settings.
    ///
    /// Like [`TcpStream::connect`], this waits for the outcome of the first dial. Later dials are made in the
    /// background.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] for an address that cannot be dialed, [`Error::DialFailure`] if the first dial fails.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future takes its dial with it.
    pub async fn connect(address: impl Into<Address>) -> Result<Self, Error> {
        Self::builder(address).connect().await
    }

    /// Begins the settings of a connection to an address.
    pub fn builder(address: impl Into<Address>) -> Builder<TcpDialer> {
        Builder::new(address.into())
    }
}

#[cfg(unix)]
impl Conn<UnixStream> {
    /// Begins the settings of a connection to a socket of the Unix domain. Unix only.
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
    pub(crate) fn new(context: ConnContext<S>) -> Self {
        Self {
            handle: Handle::new(Arc::new(context)),
            read: DirectionState::new(Direction::Read),
            write: DirectionState::new(Direction::Write),
        }
    }

    /// Takes the link that is up in hand.
    pub(crate) fn begin(mut self) -> Self {
        self.handle.take_link(Direction::Read);
        self
    }

    /// Divides the connection into halves for two tasks. Each is a handle of its own and told of every break.
    ///
    /// A socket is shared by the halves without a lock, and any other stream behind one. Dropping the [`WriteHalf`]
    /// shuts the writing side down, as tokio's does; the last half that is dropped closes the connection.
    pub fn into_split(self) -> (ReadHalf<S>, WriteHalf<S>) {
        let (read, write) = self.handle.split();
        (ReadHalf::new(read, self.read), WriteHalf::new(write, self.write))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Conn<S> {
    /// Makes a connection that any number of tasks can use at once.
    ///
    /// This starts a task on the connection's runtime, which writes for the others when there are several.
    pub fn into_shared(self) -> SharedConn<S> {
        SharedConn::new(self)
    }
}

impl<S> Conn<S> {
    common_methods!(Direction::Read);
}

impl Conn {
    tcp_methods!();
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncRead for Conn<S> {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        me.handle.poll_read(&mut me.read, cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncWrite for Conn<S> {
    write_methods!(write);
}

impl<S> fmt::Debug for Conn<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.debug("Conn", f)
    }
}
