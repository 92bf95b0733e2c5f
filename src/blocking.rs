//! A connection for programs without a runtime: [`Conn`] is [`Read`](io::Read) and [`Write`](io::Write).
//!
//! ```
//! use std::io::{Read, Write};
//! use perconn::blocking::Conn;
//!
//! # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let address = server.local_addr()?;
//! # std::thread::spawn(move || {
//! #     let (stream, _) = server.accept()?;
//! #     std::io::copy(&mut &stream, &mut &stream)
//! # });
//! let mut conn = Conn::connect(address)?;
//! conn.write_all(b"hello")?;
//! let mut echo = [0; 5];
//! conn.read_exact(&mut echo)?;
//! assert_eq!(&echo, b"hello");
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use self::background::User;
use self::deadline::{Deadline, Patience};
use self::news::block_on;
use self::reading::Reading;
use self::time_limit::TimeLimit;
use self::writing::{Told, Writing};
use crate::{Address, Builder, Status, TcpDialer};

mod background;
mod builder;
mod deadline;
mod guard;
mod news;
mod reading;
mod std_traits;
mod time_limit;
mod writing;

/// A connection that outlives its sockets, read and written like a [`std::net::TcpStream`].
///
/// It is the blocking form of [`perconn::Conn`](crate::Conn), with the same settings and promises: when the socket under it
/// dies, one operation is told with an ordinary [`io::Error`] (or a read with `Ok(0)`, if the peer closed in good order),
/// and the next one works on a fresh socket, or waits for it as [`Builder::when_down`] says. What is said there of
/// [reconnection](crate::Conn#reconnection), [data loss](crate::Conn#data-loss) and
/// [buffers on top](crate::Conn#buffers-on-top) holds here, too.
///
/// All settings are those of the core's [`Builder`], which ends with
/// [`connect_blocking`](Builder::connect_blocking) or [`build_blocking`](Builder::build_blocking).
///
/// # Several threads
///
/// As with a `TcpStream`, `&Conn` can be read and written, and [`try_clone`](Conn::try_clone) makes another handle on the
/// same connection. A waiting read never keeps a write waiting. Give each thread a handle of its own: each handle is told of
/// each break exactly once, by its next operation, reading or writing, before it touches the next link.
///
/// If several threads read, each call gets some of the bytes, and no two get the same. The bytes of one call of `write` (and
/// so of `write_all`) stand on the link in one piece, as a call takes all the bytes that it is given, unless its time is up
/// or the link breaks before. What `write!` writes are several calls: format it into a `String` first, or use a
/// [`BufWriter`](std::io::BufWriter).
///
/// Where one handle is used by two threads, a read and a write that both wait when the link breaks both end with the error;
/// a direction in which nothing was under way may not be told.
///
/// If a handle is told of a break by a *write*, its next read drops what had arrived on that link and was not read. A reader
/// with a handle of its own reads it, if it comes first.
///
/// # Timeouts
///
/// [`set_read_timeout`](Conn::set_read_timeout) and [`set_write_timeout`](Conn::set_write_timeout) limit the operations of
/// this handle, and the clones made of it later. An operation whose time is up fails with
/// [`WouldBlock`](io::ErrorKind::WouldBlock), as those of a `TcpStream` do on Unix; no break has that kind. It is no break:
/// no byte is lost, and the operation can be tried again. A `write` that has sent a part returns `Ok` with its length, and
/// until its rest is sent, other handles can come between. (`write_all` and `read_exact` do not say how far they came.)
/// The wait for a link counts.
///
/// # The background thread
///
/// Reads and writes are made on the thread that calls them. Dialing, timers, and the hooks of the [`Builder`] run on one
/// thread, `perconn-blocking`, which all blocking connections of the process share; it is started by the first and ends with
/// the last. A hook that blocks it holds them all up. If a hook (or a dialer) itself uses a blocking connection, what does
/// not need to wait works, and what would have to wait fails with [`Deadlock`](io::ErrorKind::Deadlock).
///
/// An operation that need not wait costs a lock more than that of a `TcpStream`. One that waits is woken by way of the
/// background thread, where the kernel would wake it directly: a round trip of 64 bytes over the loopback took 1.4 times as
/// long (`cargo bench --features blocking --bench blocking`).
///
/// # Within an async runtime
///
/// A call blocks its thread, and with it the other tasks of that thread; it does not panic, and it does not depend on that
/// runtime. If what the peer needs in order to answer runs on the same thread, it waits for ever: an async program should
/// use [`perconn::Conn`](crate::Conn), or call from [`spawn_blocking`](tokio::task::spawn_blocking).
///
/// # Closing
///
/// [`close`](Conn::close) ends everything at once, from any thread: what waits ends with
/// [`Error::ClosedConnection`](crate::Error::ClosedConnection). Dropping the last handle closes, too.
pub struct Conn<S = TcpStream> {
    shared: Arc<Shared<S>>,
    /// The newest break that this handle was told of.
    told: AtomicU64,
    /// See [`Told::rest`].
    rest: AtomicU64,
    read_timeout: TimeLimit,
    write_timeout: TimeLimit,
}

struct Shared<S> {
    reading: Reading<S>,
    writing: Writing<S>,
    patience: Option<Patience>,
    /// The last field, as it is dropped last: what the halves leave to be done needs the thread.
    _user: User,
}

impl Conn {
    /// Connects to an address with the default settings.
    ///
    /// Like [`std::net::TcpStream::connect`], this waits for the outcome of the first dial, for 20 seconds at most. Later
    /// dials are made in the background.
    ///
    /// # Errors
    ///
    /// As for [`Builder::connect_blocking`].
    pub fn connect(address: impl Into<Address>) -> io::Result<Self> {
        Self::builder(address).connect_blocking()
    }

    /// Begins the settings of a connection to an address: the same as [`perconn::Conn::builder`](crate::Conn::builder).
    ///
    /// ```
    /// use std::time::Duration;
    /// use perconn::blocking::Conn;
    ///
    /// let conn = Conn::builder("metrics.example:4000").dial_timeout(Duration::from_secs(5)).build_blocking()?;
    /// # drop(conn);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn builder(address: impl Into<Address>) -> Builder<TcpDialer> {
        crate::Conn::builder(address)
    }

    /// The peer's address on the live link.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) if there is no live link that this handle may use.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.look(TcpStream::peer_addr)
    }

    /// The address of this end of the live link.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) if there is no live link that this handle may use.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.look(TcpStream::local_addr)
    }

    /// Looks at the stream, by the half that has been told of as much as this handle.
    fn look<T>(&self, look: impl Fn(&TcpStream) -> io::Result<T>) -> io::Result<T> {
        let told = self.told.load(Ordering::SeqCst);
        let half = self.shared.reading.half();
        if let Some(stream) = half.get_ref().filter(|_| half.told() <= told) {
            return look(stream);
        }
        drop(half);
        let seat = self.shared.writing.seat();
        let stream = seat.half.get_ref().filter(|_| seat.half.told() <= told);
        look(stream.ok_or(io::ErrorKind::NotConnected)?)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Conn<S> {
    fn new(conn: crate::Conn<S>, patience: Option<Patience>, mut user: User) -> Self {
        user.set_farewell(conn.close());
        let (reader, writer) = conn.into_split();
        let told = AtomicU64::new(reader.told());
        let shared = Shared {
            reading: Reading::new(reader, user.runtime().clone()),
            writing: Writing::new(writer, user.runtime().clone()),
            patience,
            _user: user,
        };
        let (read_timeout, write_timeout) = Default::default();
        Self { shared: Arc::new(shared), told, rest: AtomicU64::new(0), read_timeout, write_timeout }
    }

    /// Ends the conversation, as [`shutdown`](tokio::io::AsyncWriteExt::shutdown) does on a
    /// [`perconn::Conn`](crate::Conn#shutdown): the writing side is closed, reads go on until the end of the stream, and
    /// nothing is dialed any more. A write that waits in another thread fails.
    ///
    /// # Errors
    ///
    /// The link's, if it has broken; the conversation is over all the same.
    pub fn shutdown(&self) -> io::Result<()> {
        self.shared.writing.shutdown(&self.memory(), self.deadline(&self.write_timeout))
    }

    fn deadline(&self, limit: &TimeLimit) -> Deadline<'_> {
        limit.deadline(self.shared.patience.as_ref())
    }

    fn memory(&self) -> Told<'_> {
        Told { told: &self.told, rest: &self.rest }
    }
}

impl<S> Conn<S> {
    /// Another handle on the same connection, which has been told of what this one has, and has the same timeouts.
    ///
    /// The connection closes when the last handle is dropped. The clone starts at the beginning of a message: if this handle
    /// has the rest of a write to send, the clone knows nothing of it.
    ///
    /// ```no_run
    /// use std::io::{BufRead, BufReader, Write};
    ///
    /// let mut conn = perconn::blocking::Conn::connect("chat.example:6667")?;
    /// let reader = conn.try_clone()?;
    /// std::thread::spawn(move || BufReader::new(reader).lines().map_while(Result::ok).for_each(|line| println!("{line}")));
    /// conn.write_all(b"hello\n")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// None; it is a `Result` as [`std::net::TcpStream::try_clone`] is.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            shared: Arc::clone(&self.shared),
            told: AtomicU64::new(self.told.load(Ordering::SeqCst)),
            rest: AtomicU64::new(0),
            read_timeout: self.read_timeout.clone(),
            write_timeout: self.write_timeout.clone(),
        })
    }

    /// How long a read of this handle may wait: for bytes, and for a link. `None`, the default: for ever.
    ///
    /// See [timeouts](Conn#timeouts).
    ///
    /// ```
    /// use std::io::{ErrorKind, Read};
    /// use std::time::Duration;
    ///
    /// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = server.local_addr()?;
    /// let mut conn = perconn::blocking::Conn::connect(address)?;
    /// conn.set_read_timeout(Some(Duration::from_millis(10)))?;
    /// // The server says nothing.
    /// assert_eq!(conn.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a time of zero.
    pub fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.read_timeout.set("read", limit)
    }

    /// How long a write, flush or shutdown of this handle may wait: for room, for its turn, and for a link. `None`, the
    /// default: for ever. See [timeouts](Conn#timeouts).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a time of zero.
    pub fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.write_timeout.set("write", limit)
    }

    /// The time set by [`set_read_timeout`](Conn::set_read_timeout).
    ///
    /// # Errors
    ///
    /// None; it is a `Result` as std's is.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.read_timeout.get())
    }

    /// The time set by [`set_write_timeout`](Conn::set_write_timeout).
    ///
    /// # Errors
    ///
    /// None; it is a `Result` as std's is.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.write_timeout.get())
    }

    /// The number of the newest link: 1 for the first, 0 before there is one.
    pub fn generation(&self) -> u64 {
        self.shared.reading.half().generation()
    }

    /// Whether a link is up, as far as this machine knows.
    pub fn is_connected(&self) -> bool {
        self.shared.reading.half().is_connected()
    }

    /// The state of the connection at this moment.
    pub fn current_status(&self) -> Status {
        self.shared.reading.half().current_status()
    }

    /// Waits until a link is up, for `limit` at most; with `None`, for ever.
    ///
    /// A break that has not been told yet is still told by the next operation.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if the time is up, [`Deadlock`](io::ErrorKind::Deadlock) on the
    /// [background thread](Conn#the-background-thread). [`Error::ClosedConnection`](crate::Error::ClosedConnection) or
    /// [`Error::GaveUp`](crate::Error::GaveUp) if there will be no link.
    pub fn wait_connected(&self, limit: impl Into<Option<Duration>>) -> io::Result<()> {
        let connected = self.shared.reading.half().connected();
        Ok(block_on(pin!(connected), limit.into())??)
    }

    /// Breaks the link on purpose, or, during an outage, dials at once; see
    /// [`perconn::Conn::reconnect`](crate::Conn::reconnect).
    pub fn reconnect(&self) {
        self.shared.reading.half().reconnect();
    }

    /// Closes the connection for all its handles, at any moment, from any thread.
    ///
    /// The socket is shut down at once, what waits in other threads ends with
    /// [`Error::ClosedConnection`](crate::Error::ClosedConnection), and so does every later operation. Bytes that the kernel
    /// had accepted are still delivered, unless received bytes were left unread. When this returns, nothing dials any more.
    /// (Called by a hook of a blocking connection, it does not wait for that.)
    pub fn close(&self) {
        let closing = self.shared.reading.half().close();
        // Closed by the first look at it. On the background thread that is all, and what follows cannot be waited for.
        let _ = block_on(pin!(closing), None);
    }
}

impl<S> fmt::Debug for Conn<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").field("status", &self.current_status()).finish_non_exhaustive()
    }
}
