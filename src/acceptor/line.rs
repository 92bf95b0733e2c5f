//! A handler of lines: it reads lines from a stream and calls the program's handler for each.
//!
//! Next: [`reader`], which finds the lines, and [`writer`], which sends the answers.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio::io::ReadHalf;
use tokio::sync::{Mutex, MutexGuard, TryLockError};

use self::reader::LineReader;
use self::writer::LineWriter;
use super::conn_record::ConnRecord;
use super::connection::lingering_close;
use super::{Busy, EndReason, Peer, Stream};
use crate::io_error::SharedIoError;
use crate::panics::ignore;
use crate::waiters::Waiters;

mod reader;
#[cfg(feature = "tls")]
mod session;
mod writer;

/// The connection that a line came from: the handler of [`AcceptorBuilder::line_handler`] answers through it.
///
/// Clones are the same connection. Other tasks can keep and use them while the connection is open. They do not keep
/// it open.
///
/// ```
/// use perconn::acceptor::{Acceptor, LineConn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), perconn::acceptor::Error> {
/// let acceptor = Acceptor::builder("127.0.0.1:0")
///     .line_handler(async |line, conn: LineConn| {
///         // The answer comes later, from a task of its own.
///         tokio::spawn(async move { conn.send(line).await });
///         Ok(())
///     })
///     .build()?;
/// # drop(acceptor);
/// # Ok(())
/// # }
/// ```
///
/// [`AcceptorBuilder::line_handler`]: super::AcceptorBuilder::line_handler
#[derive(Clone, Debug)]
pub struct LineConn {
    /// Shared by all clones.
    shared: Arc<LineConnShared>,
}

/// The checked settings of a handler of lines; [`super::AcceptorBuilder`] documents each.
pub(super) struct LineSettings {
    /// The longest line, in bytes without its end; at least 1.
    pub(super) max_length: usize,
    /// What a client gets after a longer line.
    pub(super) too_long_answer: Vec<u8>,
    /// Whether bytes without an end are a line at the end of the stream.
    pub(super) last_without_end: bool,
}

/// What all clones of a [`LineConn`] share.
#[derive(Debug)]
struct LineConnShared {
    /// Kept when the connection has ended and the stream is gone.
    record: Arc<ConnRecord>,
    /// Held by the task that is sending a line.
    send_lock: Mutex<()>,
    /// Emptied at the end of the connection, which closes the socket under all clones.
    writer: LineWriter,
    /// Set by `close`, and by the end of the connection.
    is_closed: AtomicBool,
    /// The tasks that wait for the close.
    closed: Waiters,
    /// Of the session under the stream.
    #[cfg(feature = "tls")]
    session: session::Session,
    /// The first error of a `send`. The handler may not know of it, as another task may have sent.
    send_error: crate::sync::Mutex<Option<SharedIoError>>,
}

impl LineConn {
    /// The number of the connection, from 1, as in the events.
    pub fn id(&self) -> u64 {
        self.shared.record.id
    }

    /// The other end.
    pub fn peer(&self) -> Peer {
        self.shared.record.peer
    }

    /// Sends a line: these bytes and a line feed.
    ///
    /// Lines of several tasks are sent one after the other. If the peer does not read, this waits, for as long as
    /// [`idle_timeout`](super::AcceptorBuilder::idle_timeout) allows.
    ///
    /// # Errors
    ///
    /// - the error of the socket;
    /// - [`TimedOut`](io::ErrorKind::TimedOut) if the peer takes no data;
    /// - [`NotConnected`](io::ErrorKind::NotConnected) if the connection has ended.
    ///
    /// An error ends the connection.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the line is sent as a whole or not at all. The rest of a line that is partly sent is
    /// sent before the next line.
    pub async fn send(&self, line: impl AsRef<[u8]>) -> io::Result<()> {
        let shared = &*self.shared;
        let _turn = shared.turn().await;
        let Err(error) = shared.writer.send(line.as_ref()).await else { return Ok(()) };
        // A line may be sent in part, and nothing may follow that.
        drop(shared.writer.take());
        let error = if error.kind() == io::ErrorKind::NotConnected {
            error
        } else {
            let error = SharedIoError::new(error);
            shared.send_error.lock().get_or_insert_with(|| error.clone());
            error.to_io()
        };
        self.close();
        Err(error)
    }

    /// Ends the connection cleanly: what was sent arrives, and no more lines are read.
    ///
    /// A handler at work runs to its end first. The client then has one second to read everything and to close. What
    /// it has not read by then may be lost.
    pub fn close(&self) {
        self.shared.set_closed();
        // The task that waits for a line waits on the record, as every read of the stream does.
        self.shared.record.wake_all();
    }

    /// Waits until [`close`](Self::close) was called, or the connection has ended. After that, a line that is sent may be lost,
    /// or `send` fails.
    ///
    /// For a task that sends lines on its own, beside the handler. A client that has gone is noticed by the next read, which
    /// waits while the handler is at work.
    ///
    /// ```
    /// use perconn::acceptor::{Acceptor, LineConn};
    /// use tokio::sync::broadcast;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::acceptor::Error> {
    /// let news = broadcast::Sender::<String>::new(100);
    /// let sender = news.clone();
    /// let acceptor = Acceptor::builder("127.0.0.1:0")
    ///     .line_handler(move |_line, conn: LineConn| {
    ///         let mut news = sender.subscribe();
    ///         tokio::spawn(async move {
    ///             // Without `closed`, the task would wait for the next news before it notices the end.
    ///             loop {
    ///                 let line = tokio::select! {
    ///                     line = news.recv() => line,
    ///                     () = conn.closed() => break,
    ///                 };
    ///                 let Ok(line) = line else { break };
    ///                 if conn.send(line).await.is_err() {
    ///                     break;
    ///                 }
    ///             }
    ///         });
    ///         std::future::ready(Ok(()))
    ///     })
    ///     .build()?;
    /// # drop((acceptor, news));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn closed(&self) {
        self.shared.closed.wait_until(|| self.is_closed().then_some(())).await;
    }

    /// Marks the connection as busy for as long as you keep the mark: a stop of the acceptor waits for it, until its
    /// deadline.
    ///
    /// For answers that another task sends after the handler has returned. When the connection has ended, it marks nothing.
    pub fn busy(&self) -> Busy {
        Busy::new(&self.shared.record)
    }

    /// Whether [`close`](Self::close) was called, or the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed.load(Ordering::SeqCst)
    }
}

impl LineConnShared {
    /// From now on, no more lines are read.
    fn set_closed(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.closed.wake_all();
    }

    /// Waits until no other task sends.
    async fn turn(&self) -> Turn<'_> {
        Turn(Some(self.send_lock.lock().await))
    }

    /// Sends next, unless another task sends.
    fn try_turn(&self) -> Result<Turn<'_>, TryLockError> {
        self.send_lock.try_lock().map(|lock| Turn(Some(lock)))
    }
}

/// The right to send. Its drop wakes the next task that sends, whose waker may be code of the program: a panic of it
/// concerns nobody else.
struct Turn<'a>(Option<MutexGuard<'a, ()>>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let lock = self.0.take();
        ignore(|| drop(lock));
    }
}

/// Serves a connection line by line, and closes it cleanly.
///
/// Fails with the error of the handler or of a read. If there is none, it fails with the first error of a `send`.
///
/// The future does not have the stream itself: a thousand of them are smaller for that.
pub(super) fn serve<F, Fut>(
    stream: Stream,
    settings: Arc<LineSettings>,
    handler: Arc<F>,
) -> impl Future<Output = io::Result<()>>
where
    F: Fn(Vec<u8>, LineConn) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<()>> + Send + 'static,
{
    let record = Arc::clone(stream.record());
    #[cfg(feature = "tls")]
    let session = session::Session::of(&stream);
    let (read_half, write_half) = tokio::io::split(stream);
    let conn = LineConn {
        shared: Arc::new(LineConnShared {
            record,
            send_lock: Mutex::new(()),
            writer: LineWriter::new(write_half),
            is_closed: AtomicBool::new(false),
            closed: Waiters::new(),
            #[cfg(feature = "tls")]
            session,
            send_error: crate::sync::Mutex::new(None),
        }),
    };
    serve_halves(read_half, EndOnDrop(conn), settings, handler)
}

/// The future of [`serve`].
async fn serve_halves<F, Fut>(
    read_half: ReadHalf<Stream>,
    end: EndOnDrop,
    settings: Arc<LineSettings>,
    handler: Arc<F>,
) -> io::Result<()>
where
    F: Fn(Vec<u8>, LineConn) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<()>> + Send + 'static,
{
    let conn = &end.0;
    let record = Arc::clone(&conn.shared.record);
    let mut reader = LineReader::new(read_half, &settings);
    let outcome = handle_lines(&mut reader, conn, &record, &*handler).await;
    conn.shared.set_closed();
    let unsent = conn.shared.writer.take();
    let send_error = conn.shared.send_error.lock().take();
    let outcome = outcome.and_then(|()| send_error.map_or(Ok(()), |error| Err(error.to_io())));
    // `None` if a send has failed.
    let Some((write_half, mut unsent)) = unsent else { return outcome };
    if outcome.as_ref().is_err_and(LineTooLong::is_in) {
        unsent.extend_from_slice(&settings.too_long_answer);
    }
    // If a stop cuts what follows, it has ended like this all the same.
    record.closing(EndReason::of(outcome));
    let is_read_to_the_end = reader.has_ended() && !record.is_stopping();
    let mut stream = reader.into_inner().unsplit(write_half);
    // Nothing of the client can be unread then, so that a plain close sends no reset.
    if !is_read_to_the_end || !unsent.is_empty() || stream.transport().has_unsent() {
        // Its future is larger than all else here, and rarely needed.
        Box::pin(lingering_close(stream.transport(), &unsent)).await;
    }
    Ok(())
}

/// Reads and handles lines until the connection is to end: at the end of the stream, after `close`, or at a stop.
async fn handle_lines<F, Fut>(
    reader: &mut LineReader,
    conn: &LineConn,
    record: &ConnRecord,
    handler: &F,
) -> io::Result<()>
where
    F: Fn(Vec<u8>, LineConn) -> Fut,
    Fut: Future<Output = io::Result<()>>,
{
    // Once the last call of the stop is over: how many more lines to handle.
    let mut left = None;
    while !conn.is_closed() {
        if record.is_draining() && record.is_last_call_over() {
            let left = left.get_or_insert_with(|| reader.count());
            if *left == 0 {
                record.not_busy().await;
                break;
            }
            *left -= 1;
        }
        let Some(line) = next_line(reader, conn).await? else { break };
        handler(line, conn.clone()).await?;
        // Sends what a dropped `send` has left, unless another task is sending, which does it first.
        if conn.shared.writer.has_unsent() {
            if let Ok(_turn) = conn.shared.try_turn() {
                conn.shared.writer.write_unsent().await?;
            }
        }
        record.message_done();
        if reader.has_partial() {
            record.request_received();
        }
    }
    Ok(())
}

/// The next line. `None` at the end of the stream, or when the connection is closed.
async fn next_line(reader: &mut LineReader, conn: &LineConn) -> io::Result<Option<Vec<u8>>> {
    let mut next = pin!(reader.next());
    poll_fn(|cx| match next.as_mut().poll(cx) {
        // It may have been closed before the read left its waker.
        Poll::Pending if conn.is_closed() => Poll::Ready(Ok(None)),
        outcome => outcome,
    })
    .await
}

/// The error of a connection whose client sends too long a line.
#[derive(Debug, thiserror::Error)]
#[error("line too long: expected at most {0} bytes")]
struct LineTooLong(usize);

impl LineTooLong {
    /// Whether this is the error.
    fn is_in(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

/// Ends a connection for all of its clones, however [`serve`] ends: by a return, a panic, or a drop of its future.
struct EndOnDrop(LineConn);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        // First, so that `send` fails for every clone.
        self.0.close();
        // Closes the socket, no matter how many clones are kept.
        drop(self.0.shared.writer.take());
        // Ends a `send` of another task that waits.
        self.0.shared.record.end();
    }
}
