//! Connections for programs without an async runtime.
//!
//! [`Conn`] implements [`Read`](io::Read) and [`Write`](io::Write).
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
//!
//! Next: [`Conn`], which says what several threads, timeouts and hooks may expect.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub(crate) use self::background::BackgroundRef;
use self::call_timeouts::{CallTimeouts, LinkTimeout};
use self::handle_state::HandleState;
use self::handle_timeout::HandleTimeout;
use self::shared_half::SharedHalf;
use self::write_claim::WriteState;
use crate::{Address, Builder, ReadHalf, TcpDialer};

#[cfg(feature = "outbox")]
pub(crate) use self::hook_thread::{hook_on_thread, on_hook_thread};
#[cfg(feature = "outbox")]
pub(crate) use self::wait::block_on;

mod background;
mod builder;
mod call_timeouts;
mod handle;
mod handle_state;
mod handle_timeout;
mod hook_thread;
mod reading;
mod runtime_context;
mod shared_half;
mod std_traits;
mod wait;
mod write_claim;
mod writing;

/// A connection that outlives its sockets, read and written like a [`std::net::TcpStream`].
///
/// It is the blocking form of [`perconn::Conn`](crate::Conn), with the same settings and promises. When a link
/// breaks, one operation returns an ordinary [`io::Error`], or `Ok(0)` from a read if the peer closed cleanly. The
/// next operation works on a fresh link, or waits for it as [`Builder::when_down`] says. What `perconn::Conn` says of
/// [reconnection](crate::Conn#reconnection), [data loss](crate::Conn#data-loss) and [buffers on
/// top](crate::Conn#buffers-on-top) holds here, too.
///
/// All settings are those of the core's [`Builder`]. It ends with [`connect_blocking`](Builder::connect_blocking) or
/// [`build_blocking`](Builder::build_blocking).
///
/// `docs/tcp_stream.md` lists what else differs from std's `TcpStream`: `shutdown` takes no argument, the builder
/// sets the options of the socket, and there is no `peek`, no `set_nonblocking` and no access to the descriptor.
///
/// # Several threads
///
/// As with a `TcpStream`, you can read and write `&Conn`, and [`try_clone`](Conn::try_clone) makes another handle on
/// the same connection. A waiting read never keeps a write waiting.
///
/// Give each thread a handle of its own. Each handle reports each break exactly once: its next operation, a read or a
/// write, returns it before the handle touches the next link.
///
/// If several threads read, each call gets some of the bytes, and no byte goes to two calls. The bytes of one `write`
/// call, and so of one `write_all`, are contiguous on the link: a call takes all its bytes, unless its timeout passes
/// or the link breaks first. `write!` makes several calls: format into a `String` first, or use a
/// [`BufWriter`](std::io::BufWriter).
///
/// If two threads share one handle, and a read and a write both wait when the link breaks, both return the error. A
/// direction in which no operation was under way may not report that break.
///
/// If a *write* reports a break, the handle's next read drops what had arrived on that link and was not read. A
/// reader with a handle of its own reads those bytes, if it reads before another handle drops them.
///
/// # Timeouts
///
/// [`set_read_timeout`](Conn::set_read_timeout) and [`set_write_timeout`](Conn::set_write_timeout) limit the
/// operations of this handle, and those of clones made later. The wait for a link counts. An operation that times out
/// fails with [`WouldBlock`](io::ErrorKind::WouldBlock), as on a `TcpStream` on Unix. No break has that kind.
///
/// A timeout is not a break: no byte is lost, and you can try the operation again. A `write` that has sent a part
/// returns `Ok` with the length of the part. Until you send the rest, writes of other handles can come between.
/// (`write_all` and `read_exact` do not say how far they came.)
///
/// [`WhenDown::WaitFor`](crate::WhenDown::WaitFor) limits each call's wait for a link as well. That limit fails with
/// [`TimedOut`](io::ErrorKind::TimedOut).
///
/// After a `write` that has sent a part, the handle's next write counts as the rest, which belongs to the same link.
/// If that link has broken, the next write fails with the break's error, even if a read has already reported the
/// break. A program that drops the rest and writes something new may therefore see that break once more; then it
/// writes again. A [clone](Conn::try_clone) has no rest to send.
///
/// # The background thread
///
/// Reads and writes run on the thread that calls them. Dialing, session set-ups and timers run on one thread,
/// `perconn-blocking`, which all blocking connections of the process share. It starts with the first connection and
/// ends with the last. A dialer that blocks this thread holds up all of them.
///
/// A dialer may itself use a blocking connection. Operations that need not wait work there; those that would have to
/// wait fail with [`Deadlock`](io::ErrorKind::Deadlock).
///
/// After a `fork` the thread is missing in the new process. A connection that the new process makes has a thread of its own.
/// Do not use one that it inherited: that is the first process's. A call that would have to wait, and a shutdown, fails with
/// [`Unsupported`](io::ErrorKind::Unsupported). Dropping, closing, abandoning and breaking it do nothing. But a read or write
/// that need not wait goes to the socket of the first process, as with a `TcpStream`.
///
/// Names are resolved on further threads, `perconn-resolver`: one for each name that is being resolved at the same
/// time. Each ends ten seconds after its last name.
///
/// A deadlock through a mutex of your own is not detected: a dialer must not lock a mutex that is held while another
/// thread waits for a link. If your log goes over a blocking connection, this includes what the dialer logs, and what
/// your panic hook logs when the dialer panics.
///
/// An operation that need not wait costs one mutex lock more than on a `TcpStream`. One that waits is woken by the
/// background thread, not directly by the kernel: a round trip of 64 bytes over the loopback took 1.4 times as long
/// (`cargo bench -p perconn-benches --bench blocking`).
///
/// # Hooks and logs
///
/// The [`logger`](Builder::logger) and the [event hook](Builder::on_event) of all blocking connections run on another
/// thread, `perconn-hooks`. It makes their calls in order, one at a time. A hook may block, and may wait for a blocking
/// connection, even for its own. That delays no link, only other calls of hooks.
///
/// A hook is called a little after the change that it reports. An operation may already have used the new link, and
/// [`close`](Conn::close) may have returned. If 1,024 calls wait, further ones are dropped, and a warning through the
/// [`log`] crate says how many.
///
/// A connection without a `logger` writes its warnings from a third thread, `perconn-log`. So your own log may go over
/// a blocking connection, also behind a mutex, and the connection's warnings with it. Then each failed dial makes one
/// more line to send over the next link.
///
/// # Within an async runtime
///
/// A call blocks its thread, and with it the other tasks of that thread. It does not panic, and it does not depend on
/// that runtime. If the peer's answer depends on a task of the same thread, the call waits for ever. An async program
/// should use [`perconn::Conn`](crate::Conn), or call from [`spawn_blocking`](tokio::task::spawn_blocking).
///
/// A call that waits on a thread which runs tasks tries again every 10 ms, as the runtime may defer a wake-up.
/// Elsewhere it sleeps until it is woken.
///
/// # Closing
///
/// [`close`](Conn::close) ends everything at once, from any thread: waiting operations fail with
/// [`Error::ClosedConnection`](crate::Error::ClosedConnection). Dropping the last handle closes, too.
pub struct Conn<S = TcpStream> {
    /// The connection itself, which closes when the last handle drops this.
    shared: Arc<Shared<S>>,
    /// This handle's own reports: each handle reports each break once.
    state: HandleState,
    /// The limit of each read through this handle. Unset, it waits without a limit.
    read_timeout: HandleTimeout,
    /// The same for each write, flush and shutdown.
    write_timeout: HandleTimeout,
}

impl<S> Drop for Conn<S> {
    fn drop(&mut self) {
        if self.shared.background.is_in_fork() {
            // The first process goes on with the socket. To drop it here would end its link.
            std::mem::forget(Arc::clone(&self.shared));
        }
    }
}

/// What all handles of one connection share.
struct Shared<S> {
    /// For reads. Its lock is never held while a thread waits.
    reader: SharedHalf<ReadHalf<S>>,
    /// For writes, flushes and shutdowns, with the order of the calls that write.
    writer: SharedHalf<WriteState<S>>,
    /// The duration of `WhenDown::WaitFor`; each call measures it by itself. `None` for the other policies.
    link_timeout: Option<LinkTimeout>,
    /// The last field, as it is dropped last: the drop of the halves still needs the thread.
    background: BackgroundRef,
}

impl Conn {
    /// Connects to an address with the default settings.
    ///
    /// Like [`std::net::TcpStream::connect`], it waits for the outcome of the first dial, for 20 seconds at most. The
    /// background thread makes the later dials.
    ///
    /// # Errors
    ///
    /// As for [`Builder::connect_blocking`].
    pub fn connect(address: impl Into<Address>) -> io::Result<Self> {
        Self::builder(address).connect_blocking()
    }

    /// Begins the settings of a connection to an address, as [`perconn::Conn::builder`](crate::Conn::builder) does.
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
        self.with_stream(TcpStream::peer_addr)
    }

    /// The address of this end of the live link.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) if there is no live link that this handle may use.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.with_stream(TcpStream::local_addr)
    }

    /// Asks the stream, through a half that has reported no more breaks than this handle.
    fn with_stream<T>(&self, ask: impl Fn(&TcpStream) -> io::Result<T>) -> io::Result<T> {
        let last_reported = self.state.last_reported();
        let half = self.shared.reader.lock();
        if let Some(stream) = half.get_ref().filter(|_| half.last_reported() <= last_reported) {
            return ask(stream);
        }
        drop(half);
        let half = &self.shared.writer.lock().half;
        let stream = half.get_ref().filter(|_| half.last_reported() <= last_reported);
        ask(stream.ok_or(io::ErrorKind::NotConnected)?)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Conn<S> {
    /// Splits a connection whose actor runs on the background thread, and has it closed there after the last handle.
    fn new(conn: crate::Conn<S>, link_timeout: Option<LinkTimeout>, mut background: BackgroundRef) -> Self {
        background.set_last_future(conn.close());
        let (reader, writer) = conn.into_split();
        let state = HandleState::new(reader.last_reported());
        let shared = Shared {
            reader: SharedHalf::new(reader, background.runtime().clone()),
            writer: SharedHalf::new(WriteState::new(writer), background.runtime().clone()),
            link_timeout,
            background,
        };
        Self {
            shared: Arc::new(shared),
            state,
            read_timeout: HandleTimeout::default(),
            write_timeout: HandleTimeout::default(),
        }
    }

    /// Shuts the writing side down, as [`shutdown`](tokio::io::AsyncWriteExt::shutdown) does on a
    /// [`perconn::Conn`](crate::Conn#shutdown).
    ///
    /// Reads go on until the end of the stream, and nothing is dialed any more. A write that waits in another thread
    /// fails.
    ///
    /// # Errors
    ///
    /// The link's, if it has broken. The shutdown holds all the same. [`Unsupported`](io::ErrorKind::Unsupported) in a fork of
    /// the process that has made the connection.
    pub fn shutdown(&self) -> io::Result<()> {
        self.shared.background.check_process()?;
        self.shared.writer.shutdown(&self.state, self.timeouts(&self.write_timeout))
    }

    /// The timeouts of a call that begins now.
    fn timeouts(&self, timeout: &HandleTimeout) -> CallTimeouts<'_> {
        timeout.for_call(self.shared.link_timeout.as_ref())
    }
}

impl<S> fmt::Debug for Conn<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").field("status", &self.status()).finish_non_exhaustive()
    }
}
