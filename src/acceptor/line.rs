//! A handler of lines: it reads lines from a stream and calls the program's handler for each.
//!
//! Next: [`serve`](mod@serve), which does that, [`reader`], which finds the lines, and [`writer`], which sends the answers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex, MutexGuard, TryLockError};

pub(super) use self::serve::serve;
use self::writer::LineWriter;
use super::conn_record::ConnRecord;
use super::{Busy, Peer, Stream};
use crate::io_error::SharedIoError;
use crate::panics::ignore;
use crate::waiters::Waiters;

mod reader;
mod serve;
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
    /// How many lines are handled at the same time; at least 1.
    pub(super) concurrent: usize,
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
    /// What the proxy has sent.
    #[cfg(feature = "proxy-protocol")]
    proxy_header: Option<super::ProxyHeader>,
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

    /// What the proxy has said of the connection. `None` if it comes from no
    /// [trusted proxy](super::AcceptorBuilder::proxy_protocol).
    #[cfg(feature = "proxy-protocol")]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
    pub fn proxy_header(&self) -> Option<&super::ProxyHeader> {
        self.shared.proxy_header.as_ref()
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

    /// Marks the connection as busy for as long as you keep the mark: a stop of the acceptor waits for it, until its deadline,
    /// and so does the end of the client's stream.
    ///
    /// For answers that another task sends after the handler has returned. [`close`](Self::close) and an error do not wait for it,
    /// and when the connection has ended, it marks nothing. A mark that is never dropped keeps the slot of a client that has gone.
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
