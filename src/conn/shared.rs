//! One connection for any number of tasks.
//!
//! A job goes from [`SharedConn::write_all`] to the link in one of two ways:
//!
//! ```text
//! caller alone     WriteAll::poll_begin -> WritePermit::write_direct -> WriteHalf
//! several callers  WriteAll::poll_begin -> Queue -> WriteTask::poll -> WritePermit::drive -> WriteHalf
//! ```
//!
//! A direct write that the link takes only in part goes on in the queue.
//!
//! Locks are taken in this order: the reader's mutex, the writer's state, the lock of the connection's state. Wakers
//! are woken after the last of them is released.
//!
//! Next: [`write_all`], one job.

use std::fmt;
use std::future::{self, Future};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use self::last_link::LastLink;
use self::queue::Payload;
use self::write_all::WriteAll;
use self::write_task::WriteTask;
use self::writer::Writer;
use super::methods::state_methods;
use super::{ReadHalf, WriteHalf};
#[cfg(doc)]
use crate::Conn;
use crate::conn_state::{ConnState, End};
use crate::stats::StatsSource;
use crate::{ConnStats, Error, Op, StatsWatch, Status, StatusWatch};

mod drive;
mod last_link;
#[cfg(all(test, perconn_loom))]
mod models;
mod queue;
mod write_all;
mod write_permit;
mod write_task;
mod writer;

/// A connection that any number of tasks use at once; made by [`Conn::into_shared`], or by
/// [`WriteHalf::into_shared`] for writing only.
///
/// Clone it into every task that reads or writes. The connection closes when the last clone is dropped.
///
/// # Writing
///
/// Each call of [`write_all`](SharedConn::write_all) is one job. The bytes of a job stay together on one link: they
/// are never mixed with the bytes of another job, and never divided between two links. Jobs are sent in the order in
/// which their calls began, that is, in which their futures were first polled. Jobs that wait together are sent
/// together, with one system call. A job that no link has taken a byte of waits for the next link, unless
/// [`when_down`](crate::Builder::when_down) says otherwise.
///
/// | `write_all` returns | this job | the jobs before it |
/// |---|---|---|
/// | `Ok` | this machine's kernel has it; the peer may never read it | |
/// | [`Error::IoError`] | was cut: its first byte was on the link and its last one was not. A beginning may have arrived | may be lost |
/// | [`Error::ShortLink`] | was not sent | may be lost |
/// | [`Error::Down`], [`Error::WaitTimeout`] | was not sent. `Down` comes at once: pause before you try again | |
/// | [`Error::ClosedConnection`], [`Error::GaveUp`], [`Error::RuntimeShutdown`] | was not sent, or the end has cut it | may be lost |
///
/// So over a socket, a job that fails has never arrived whole: you can send it again. (If the stream is not a socket,
/// each job is flushed before it is done, and one that a break finds unflushed fails, even if it has arrived.)
///
/// `Ok` is no receipt. What the kernel had taken and the peer had not read when a link broke is lost, and
/// `unacknowledged` does not count what had reached the peer's kernel. If no job may be lost, have the peer answer, and
/// send again what has no answer.
///
/// ## How a writer learns of a break
///
/// By `IoError`, if the break has cut its job. By `ShortLink`, if a link with jobs of the same clone broke before it was
/// [stable](crate::Builder::stable_after) and the program did not break it itself. The clone's first job that begins after
/// the break reports that; a job that was in the queue by then is sent on the next link first. `generation` is the link
/// whose jobs may be lost. Without that, a program that
/// only writes would never learn that it talks to a load balancer without a backend, which accepts and closes. So keep
/// one clone in each task: a clone that is made for a single job has no job before it. (After more than 16 further links,
/// it is reported only if all of them were short.) With [`settle_time`](crate::Builder::settle_time), jobs wait until the
/// link after a short one has been up for a moment.
///
/// The break of a stable link that cut no job is not reported to writers: a clone that reads, or
/// [`on_event`](crate::Builder::on_event), shows it.
///
/// ## The queue
///
/// Up to [`job_queue_size`](crate::Builder::job_queue_size) jobs wait in the queue, whatever their size. When it is full,
/// callers wait for room, first come, first served.
///
/// A job in the queue owns its bytes. So [`write_all`](SharedConn::write_all) copies them if the job has to wait, and
/// [`write_bytes`](SharedConn::write_bytes) copies only small jobs, of less than 16 KiB. You may keep such a future
/// without polling it: its job is sent all the same.
///
/// A call that waits for room is different. Poll it, or the later jobs of all clones wait, as in a `send` to a full
/// channel. If you await a second job in a `select!` arm while the first one waits for room, your program deadlocks: send
/// the second from another task, or make the queue larger than the number of calls that all clones make at once. (The
/// job that is being sent counts, too.)
///
/// # Reading
///
/// Each call gets some of the bytes, and no two calls get the same ones. The reads of each clone report every break
/// once, before they read from the next link, whatever the writes of that clone have reported. If a write noticed the
/// break first, the read reports it with the error that a write gets.
///
/// A waiting read never delays a write. Reads are served one after the other: a read whose future is kept and not
/// polled delays the reads after it.
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
/// conn.close(std::time::Duration::from_secs(5)).await;
/// # Ok(())
/// # }
/// ```
pub struct SharedConn<S = TcpStream> {
    /// Common to all clones. When the last one is dropped, the connection closes.
    inner: Arc<SharedInner<S>>,
    /// The newest generation whose break a read of this clone has reported.
    last_reported: AtomicU64,
    /// The link of this clone's last job.
    last_link: LastLink,
}

/// What the clones of a [`SharedConn`] share.
struct SharedInner<S> {
    /// The connection's state, which most methods ask.
    conn_state: Arc<ConnState<S>>,
    /// Locked for the whole of a read, so that reads are served in order. `None` if it was made of a `WriteHalf`.
    reader: Option<Mutex<ReadHalf<S>>>,
    /// Shared with the write task.
    writer: Arc<Writer<S>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> SharedConn<S> {
    /// Starts the write task. Without a reader, the connection's `ReadHalf` is elsewhere.
    pub(super) fn new(mut reader: Option<ReadHalf<S>>, mut half: WriteHalf<S>) -> Self {
        half.dir.clear_link();
        if let Some(reader) = &mut reader {
            reader.handle.read_later();
        }
        half.dir.is_for_jobs = true;
        let last_reported = reader.as_ref().map_or_else(|| half.last_reported(), ReadHalf::last_reported);
        let conn_state = Arc::clone(&half.handle.conn_state);
        let capacity = half.handle.context.job_queue_size;
        let writer = Arc::new(Writer::new(half, capacity, reader.is_some()));
        writer.context.runtime.spawn(WriteTask::new(Arc::clone(&writer)).run());
        let inner = SharedInner { conn_state, reader: reader.map(Mutex::new), writer };
        Self::of(Arc::new(inner), last_reported)
    }

    /// Writes all of `bytes` as one job.
    ///
    /// `Ok` means that this machine's kernel has taken all of them, on a link that was not known to be broken. It does not
    /// mean that the peer has read them; see [Writing](SharedConn#writing).
    ///
    /// # Errors
    ///
    /// - [`Error::IoError`] if the link broke after the first byte was written and before the last. A part of the bytes may
    ///   have arrived.
    /// - [`Error::ShortLink`] if an earlier job of this clone was written on a link that broke before it was stable. Nothing
    ///   was sent.
    /// - [`Error::Down`] or [`Error::WaitTimeout`] if there is no link and `when_down` says not to wait (any longer).
    ///   Nothing was sent.
    /// - [`Error::ClosedConnection`], [`Error::GaveUp`] or [`Error::RuntimeShutdown`] if there will be no further link.
    ///   Nothing was sent, unless the end came in the middle of the job.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: if you drop the future, its bytes are sent whole or not at all, unless a break or the end of the
    /// connection cuts them. You do not learn which. If you have to know, keep the future or let a task of its own write
    /// the job.
    pub fn write_all<'a>(&'a self, bytes: &'a [u8]) -> impl Future<Output = io::Result<()>> + Send + use<'a, S> {
        WriteAll::new(self, Payload::Borrowed(bytes))
    }

    /// Writes all of `bytes` as one job, and does not copy them if they are 16 KiB or more.
    ///
    /// Otherwise the same as [`write_all`](Self::write_all).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let address = server.local_addr()?;
    /// # tokio::spawn(async move { tokio::io::copy(&mut server.accept().await?.0, &mut tokio::io::sink()).await });
    /// let conn = perconn::Conn::connect(address).await?.into_shared();
    /// let snapshot = vec![0; 1 << 20];
    /// conn.write_bytes(snapshot).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for `write_all`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as `write_all`.
    pub fn write_bytes(&self, bytes: impl Into<Bytes>) -> impl Future<Output = io::Result<()>> + Send {
        WriteAll::new(self, Payload::Owned(bytes.into()))
    }

    /// Reads some bytes.
    ///
    /// `Ok(0)` means that the peer closed the link cleanly (or that `buf` is empty). The next call works on the next
    /// link. If several calls wait, they are served in order, one after the other. The time of
    /// [`WhenDown::WaitFor`](crate::WhenDown::WaitFor) runs for one after the other, too.
    ///
    /// # Errors
    ///
    /// As for a read on a [`Conn`]. [`Unsupported`](io::ErrorKind::Unsupported) if it was made by
    /// [`WriteHalf::into_shared`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: if the future is dropped, no bytes are lost.
    pub async fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let Some(reader) = &self.inner.reader else {
            let text = "this SharedConn only writes: the ReadHalf of its connection reads";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        };
        let mut reader = match reader.try_lock() {
            Ok(reader) => reader,
            Err(_) => tokio::select! {
                biased;
                reader = reader.lock() => reader,
                error = self.ended_while_waiting() => return Err(error),
            },
        };
        let last_reported = self.last_reported.load(Ordering::Relaxed);
        if last_reported < reader.last_reported() && !self.inner.conn_state.is_closed() {
            // Another clone has reported this break and may have read on.
            let (generation, outcome) = reader.report_again(last_reported);
            self.last_reported.store(generation, Ordering::Relaxed);
            return outcome;
        }
        let outcome = reader.read(buf).await;
        self.last_reported.store(reader.last_reported(), Ordering::Relaxed);
        outcome
    }

    /// Waits until the connection has ended, for a call that waits behind another call's read.
    async fn ended_while_waiting(&self) -> io::Error {
        match self.inner.conn_state.end_reached().await {
            // The last link may still have bytes to read.
            End::Finished => future::pending().await,
            end => self.inner.conn_state.end_error(end).into(),
        }
    }

    /// Sends the queued jobs, for at most `limit`, and closes the connection for all clones.
    ///
    /// From the first poll on, new writes fail with [`Error::ClosedConnection`]. Writes that have begun, also those that
    /// wait for room, are still sent, and reads go on until then. When `limit` has passed, the calls whose jobs are left
    /// fail with `ClosedConnection`, too. With a limit of zero, it does not wait for the queue. Of several closes at once,
    /// the shortest limit counts.
    ///
    /// A stream that is not a socket is dropped with the last clone, and so is the descriptor of a socket. If the peer has
    /// sent bytes that you have not read, the kernel resets the connection, and what is on its way is lost, even jobs that
    /// were `Ok`.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: if the future is dropped before it is ready, the queued jobs are still sent, but the connection
    /// closes only when the last clone is dropped.
    pub async fn close(&self, limit: Duration) {
        self.inner.writer.drain(limit).await;
        self.inner.conn_state.close();
        self.inner.conn_state.actor_gone().await;
    }
}

impl<S> SharedConn<S> {
    /// A clone that has written nothing.
    fn of(inner: Arc<SharedInner<S>>, last_reported: u64) -> Self {
        Self { inner, last_reported: AtomicU64::new(last_reported), last_link: LastLink::default() }
    }

    /// The number of the newest link whose break a read of this clone has reported, 0 before the first.
    ///
    /// After a read that returned `Ok(0)`, which carries no error to say it, this is the link that the peer closed.
    pub fn last_reported(&self) -> u64 {
        self.last_reported.load(Ordering::Relaxed)
    }

    /// A job of this clone is on this link, whole.
    #[inline]
    fn note_written(&self, generation: u64) {
        self.last_link.note_written(generation, |older| self.inner.conn_state.fault(older, Op::Write).is_short);
    }

    /// A job of this clone has failed.
    #[cold]
    fn note_failed(&self, error: &io::Error) {
        if let Some(generation) = Error::of(error).and_then(Error::generation) {
            self.last_link.note_reported(generation); // rule: cut-job-reports-its-link
        }
    }

    /// Whether [`take_short_link`](Self::take_short_link) has something to look at.
    #[inline]
    fn has_broken_link(&self) -> bool {
        self.last_link.has_broken(|generation| self.inner.conn_state.is_live(generation))
    }

    /// The error of a job whose clone has written its last one on a link that was short.
    #[cold]
    fn take_short_link(&self) -> Option<io::Error> {
        let conn_state = &self.inner.conn_state;
        let is_live = |generation| conn_state.is_live(generation);
        let is_short = |generation| conn_state.fault(generation, Op::Write).is_short;
        // rule: next-job-reports-a-short-link
        let generation = self.last_link.take_short(is_live, is_short).filter(|_| !conn_state.is_closed())?;
        Some(conn_state.fault(generation, Op::Write).error_of_next_job(&conn_state.address).into())
    }

    state_methods!(self => self.inner.conn_state);
}

impl<S> Clone for SharedConn<S> {
    /// Another handle on the same connection. What this one has reported counts as reported by the new one, which has
    /// written nothing.
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.inner), self.last_reported.load(Ordering::Relaxed))
    }
}

impl<S> Drop for SharedInner<S> {
    fn drop(&mut self) {
        self.writer.last_clone_dropped();
    }
}

impl<S> fmt::Debug for SharedConn<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedConn")
            .field("address", &self.inner.conn_state.address)
            .field("status", &self.inner.conn_state.status())
            .finish_non_exhaustive()
    }
}
