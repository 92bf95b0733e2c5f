//! One connection for any number of tasks.

use std::fmt;
use std::future::{self, Future};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use self::task::Task;
use self::write_all::WriteAll;
use self::writer::Writer;
use super::{Conn, ReadHalf};
use crate::conn_state::{ConnState, End};
use crate::{Error, Status, StatusWatch};

mod drive;
mod queue;
mod task;
mod write_all;
mod write_permit;
mod writer;

/// A connection that any number of tasks use at once; made by [`Conn::into_shared`].
///
/// Clone it into every task that wishes to read or write. The connection closes when the last clone is dropped.
///
/// # Writing
///
/// [`write_all`](SharedConn::write_all) is one job. Its bytes stand on one link, in one piece: they are never mixed with
/// those of another job, and never divided between two links. Jobs are sent in the order in which they were begun (a call begins with the first poll of
/// its future).
/// Those that wait together leave together, with one system call.
///
/// A job is told of a break only if that break cut it in two: its first byte was on the link, and its last was not. Jobs
/// that had not begun go out on the next link, whole and in order; what an outage means to them is
/// [`when_down`](crate::Builder::when_down)'s to say. [`job_queue_size`](crate::Builder::job_queue_size) jobs may wait in
/// the queue. When it is full, callers wait for a place, first come, first served.
///
/// A job of 16 KiB or more is not copied: its caller writes it when its turn comes. And a caller that waits for a place
/// brings its bytes when there is one. Like the guard of a mutex, the future of such a call should not be left lying
/// without being polled: it keeps those after it waiting.
///
/// A clone that only writes may never hear of a break: what the kernel had taken, and the peer never got, is told by
/// [`on_event`](crate::Builder::on_event), or to a clone that reads. If the stream is not a socket, each job is flushed
/// before it is done, and one that a break finds unflushed has failed, too.
///
/// In an outage, [`WhenDown::WaitFor`](crate::WhenDown::WaitFor) gives each job its time, and
/// [`WhenDown::Fail`](crate::WhenDown::Fail) ends those that wait in the queue as well.
///
/// # Reading
///
/// Each call gets some of the bytes, no two get the same. The reads of each clone are told of every break once, whatever
/// its writes were told, before they read from the next link; if a write noticed it first, with the error that a write
/// gets. A waiting read never keeps a write
/// waiting. Reads are served one after the other: one that is held and not polled keeps those after it waiting.
///
/// # Examples
///
/// ```
/// use perconn::Conn;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let address = server.local_addr()?;
/// let conn = Conn::connect(address).await?.into_shared();
/// let tasks: Vec<_> = (0..8)
///     .map(|task| {
///         let conn = conn.clone();
///         tokio::spawn(async move { conn.write_all(format!("line of task {task}\n").as_bytes()).await })
///     })
///     .collect();
/// for task in tasks {
///     task.await??;
/// }
/// conn.close().await;
/// # Ok(())
/// # }
/// ```
pub struct SharedConn<S = TcpStream> {
    shared: Arc<Shared<S>>,
    /// The newest break that this clone was told of.
    last_reported: AtomicU64,
}

struct Shared<S> {
    conn_state: Arc<ConnState<S>>,
    reader: Mutex<ReadHalf<S>>,
    writer: Arc<Writer<S>>,
}

/// How long a close goes on with sending what is queued.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> SharedConn<S> {
    pub(super) fn new(conn: Conn<S>) -> Self {
        let places = conn.handle.context.job_queue_size;
        let (reader, mut half) = conn.into_split();
        half.be_patient();
        let conn_state = reader.conn_state();
        let writer = Arc::new(Writer::new(half, places));
        writer.context.runtime.spawn(Task::new(Arc::clone(&writer)).run());
        let last_reported = AtomicU64::new(reader.last_reported());
        Self { shared: Arc::new(Shared { conn_state, reader: Mutex::new(reader), writer }), last_reported }
    }

    /// Writes all of `bytes` as one job.
    ///
    /// `Ok` means that the kernel has taken them all, on a link that was not known to be dead.
    ///
    /// # Errors
    ///
    /// [`Error::IoError`] if the link broke after the first byte was written and before the last; then a part of them may
    /// have arrived. [`Error::Down`] or [`Error::WaitTimeout`] if there is no link and `when_down` says not to wait;
    /// [`Error::ClosedConnection`], [`Error::GaveUp`] or [`Error::RuntimeShutdown`] if there will be none. With `Down` and
    /// `WaitTimeout`, nothing was sent; so with the others, unless the end came in the middle of the job.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the bytes of a call that was dropped are sent whole or not at all, unless a break cuts them.
    pub fn write_all<'a>(&'a self, bytes: &'a [u8]) -> impl Future<Output = io::Result<()>> + Send + use<'a, S> {
        WriteAll::new(&self.shared.writer, bytes)
    }

    /// Reads some bytes.
    ///
    /// `Ok(0)` means that the peer closed the link in good order (or that `buf` is empty); the next call works on the next
    /// link. If several calls wait, they are served in order, one after the other: so does the time of
    /// [`WhenDown::WaitFor`](crate::WhenDown::WaitFor) run for them.
    ///
    /// # Errors
    ///
    /// As for a read on a [`Conn`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: if the future is dropped, no bytes are lost.
    pub async fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let mut reader = match self.shared.reader.try_lock() {
            Ok(reader) => reader,
            Err(_) => tokio::select! {
                biased;
                reader = self.shared.reader.lock() => reader,
                end = self.over() => return Err(end),
            },
        };
        let last_reported = self.last_reported.load(Ordering::Relaxed);
        if last_reported < reader.last_reported() && !self.shared.conn_state.is_closed() {
            // Another clone was told, and may have read on.
            let (generation, outcome) = reader.tell_again(last_reported);
            self.last_reported.store(generation, Ordering::Relaxed);
            return outcome;
        }
        let outcome = reader.read(buf).await;
        self.last_reported.store(reader.last_reported(), Ordering::Relaxed);
        outcome
    }

    /// Waits until there is nothing to be read any more, for one who waits behind somebody else's read.
    async fn over(&self) -> io::Error {
        let conn_state = &self.shared.conn_state;
        conn_state.over().await;
        match conn_state.ended() {
            // Something may still be to be read on the last link.
            None | Some(End::Finished) => future::pending().await,
            Some(end) => conn_state.end_error(end).into(),
        }
    }

    /// Sends what is queued, for five seconds at most, and closes the connection for all clones.
    ///
    /// From the first poll on, every other call fails with [`Error::ClosedConnection`], but for the writes that are queued
    /// already; reads go on until these are sent. A stream that is not a socket is dropped with the last clone.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: if the future is dropped before it is ready, what is queued is still sent, but the connection is
    /// closed only when the last clone is dropped.
    pub async fn close(&self) {
        self.shared.writer.drain(CLOSE_LIMIT).await;
        self.shared.conn_state.close();
        self.shared.conn_state.publish();
        self.shared.conn_state.actor_gone().await;
    }
}

impl<S> SharedConn<S> {
    /// The number of the newest link: 1 for the first, 0 before there is one.
    pub fn generation(&self) -> u64 {
        self.shared.conn_state.generation()
    }

    /// Whether a link is up, as far as this machine knows.
    pub fn is_connected(&self) -> bool {
        self.shared.conn_state.status().is_connected()
    }

    /// The status of the connection at this moment.
    pub fn status(&self) -> Status {
        self.shared.conn_state.status()
    }

    /// Watches the status of the connection; see [`Conn::watch_status`].
    pub fn watch_status(&self) -> StatusWatch {
        self.shared.conn_state.watch_status()
    }

    /// Waits until a link is up.
    ///
    /// # Errors
    ///
    /// [`Error::ClosedConnection`], [`Error::GaveUp`] or [`Error::RuntimeShutdown`] if there will be no link.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future changes nothing.
    pub fn connected(&self) -> impl Future<Output = Result<(), Error>> + use<S> {
        let conn_state = Arc::clone(&self.shared.conn_state);
        async move { conn_state.connected().await }
    }

    /// Breaks the link on purpose, or dials at once during an outage; see [`Conn::reconnect`].
    pub fn reconnect(&self) {
        self.shared.conn_state.reconnect();
    }
}

impl<S> Clone for SharedConn<S> {
    /// Another handle on the same connection, which has been told of what this one has.
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            last_reported: AtomicU64::new(self.last_reported.load(Ordering::Relaxed)),
        }
    }
}

impl<S> Drop for Shared<S> {
    fn drop(&mut self) {
        self.writer.leave();
    }
}

impl<S> fmt::Debug for SharedConn<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedConn")
            .field("address", &self.shared.conn_state.address)
            .field("status", &self.shared.conn_state.status())
            .finish_non_exhaustive()
    }
}
