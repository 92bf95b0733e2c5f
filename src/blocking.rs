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
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use self::background::User;
use self::deadline::{Deadline, Patience};
use self::reading::Reading;
use self::time_limit::TimeLimit;
use self::writing::{Told, Writing};
use crate::{Address, Builder, TcpDialer};

mod background;
mod builder;
mod deadline;
mod guard;
mod handle;
mod news;
mod parts;
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
/// `docs/tcp_stream.md` lists what else differs from a `TcpStream` of std's: `shutdown` takes no argument, options of the
/// socket are set by the builder, and there is no `peek`, no `set_nonblocking` and no descriptor to take.
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
/// The wait for a link counts. [`WhenDown::WaitFor`](crate::WhenDown::WaitFor) limits that wait as well, of each call by itself,
/// and fails with [`TimedOut`](io::ErrorKind::TimedOut).
///
/// After a `write` that has sent a part, the handle's next one is taken for its rest, and belongs to the same link: if that
/// has broken, it fails with the break's error, even if a read has told of the break. So a program that gives the rest up
/// and writes something new may be told of that break once more; then it writes again. (A [clone](Conn::try_clone) has no
/// rest to send.)
///
/// # The background thread
///
/// Reads and writes are made on the thread that calls them. Dialing, timers, and the hooks of the [`Builder`] run on one
/// thread, `perconn-blocking`, which all blocking connections of the process share; it is started by the first and ends with
/// the last. A hook that blocks it holds them all up. If a hook (or a dialer) itself uses a blocking connection, what does
/// not need to wait works, and what would have to wait fails with [`Deadlock`](io::ErrorKind::Deadlock). Names are resolved
/// on further threads, `perconn-resolver`: one for each name that is being resolved at the same time, for ten seconds after
/// the last.
///
/// A lock is not noticed. A log that is sent over a blocking connection behind a mutex comes to a standstill in an outage, if
/// the connection logs there as well, as it does by default: a thread waits for the link with the mutex in its hands, and the
/// background thread, which would dial, for the mutex. Such a connection needs `.logger(|_| {})`, or a write timeout.
///
/// An operation that need not wait costs a lock more than that of a `TcpStream`. One that waits is woken by way of the
/// background thread, where the kernel would wake it directly: a round trip of 64 bytes over the loopback took 1.4 times as
/// long (`cargo bench --features blocking --bench blocking`).
///
/// # Within an async runtime
///
/// A call blocks its thread, and with it the other tasks of that thread; it does not panic, and it does not depend on that
/// runtime. If what the peer needs in order to answer runs on the same thread, it waits for ever: an async program should
/// use [`perconn::Conn`](crate::Conn), or call from [`spawn_blocking`](tokio::task::spawn_blocking). And a call that waits on
/// a thread which runs tasks looks every 10 ms whether it can go on, as the runtime may keep a wake-up back; elsewhere it
/// sleeps until it is woken.
///
/// # Closing
///
/// [`close`](Conn::close) ends everything at once, from any thread: what waits ends with
/// [`Error::ClosedConnection`](crate::Error::ClosedConnection). Dropping the last handle closes, too.
pub struct Conn<S = TcpStream> {
    shared: Arc<Shared<S>>,
    /// The newest break that this handle was told of.
    last_reported: AtomicU64,
    /// See [`Told::rest`].
    rest: AtomicU64,
    read_timeout: TimeLimit,
    write_timeout: TimeLimit,
}

// The handles share the two halves of one connection. This is the one place where the module uses more of the core than any
// program can: `report_again` of a half repeats a break, with its error, for each handle that has not been told when another one
// was, and `is_closed` says that the connection was closed instead; and `policy` and `address` of the builder are read, so that
// each call can have its own wait for a link.
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
        let last_reported = self.last_reported.load(Ordering::SeqCst);
        let half = self.shared.reading.half();
        if let Some(stream) = half.get_ref().filter(|_| half.last_reported() <= last_reported) {
            return look(stream);
        }
        drop(half);
        let seat = self.shared.writing.seat();
        let stream = seat.half.get_ref().filter(|_| seat.half.last_reported() <= last_reported);
        look(stream.ok_or(io::ErrorKind::NotConnected)?)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Conn<S> {
    fn new(conn: crate::Conn<S>, patience: Option<Patience>, mut user: User) -> Self {
        user.set_farewell(conn.close());
        let (reader, writer) = conn.into_split();
        let last_reported = AtomicU64::new(reader.last_reported());
        let shared = Shared {
            reading: Reading::new(reader, user.runtime().clone()),
            writing: Writing::new(writer, user.runtime().clone()),
            patience,
            _user: user,
        };
        let (read_timeout, write_timeout) = Default::default();
        Self { shared: Arc::new(shared), last_reported, rest: AtomicU64::new(0), read_timeout, write_timeout }
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
        Told { last_reported: &self.last_reported, rest: &self.rest }
    }
}

impl<S> fmt::Debug for Conn<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").field("status", &self.status()).finish_non_exhaustive()
    }
}
