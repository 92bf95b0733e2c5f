//! The service of a connection line by line, from the first to the close.
//!
//! Lines are handled one after the other in the connection's task. With
//! [`concurrent_lines`](crate::acceptor::AcceptorBuilder::concurrent_lines), each line is a task of its own instead, and the
//! connection's task reads on. It waits for all of them before it closes, and a cut ends them all.
//!
//! Next: [`super::reader`], which finds the lines.

use std::future::{Future, poll_fn};
use std::io;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Poll;

use tokio::io::ReadHalf;
use tokio::sync::Mutex;
use tokio::task::{JoinError, JoinSet};

use super::reader::LineReader;
use super::writer::LineWriter;
use super::{LineConn, LineConnShared, LineSettings, LineTooLong};
use crate::acceptor::conn_record::ConnRecord;
use crate::acceptor::connection::lingering_close;
use crate::acceptor::registry::Registration;
use crate::acceptor::{EndReason, Stream};
use crate::waiters::Waiters;

/// Serves a connection line by line, and closes it cleanly.
///
/// Fails with the error of the handler or of a read. If there is none, it fails with the first error of a `send`.
///
/// The future does not have the stream itself: a thousand of them are smaller for that.
pub(in crate::acceptor) fn serve<F, Fut>(
    stream: Stream,
    settings: Arc<LineSettings>,
    handler: Arc<F>,
) -> impl Future<Output = io::Result<()>> + Send
where
    F: Fn(Vec<u8>, LineConn) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<()>> + Send + 'static,
{
    let record = Arc::clone(stream.record());
    let concurrent = (settings.concurrent > 1).then(|| Arc::clone(stream.registration()));
    #[cfg(feature = "proxy-protocol")]
    let proxy_header = stream.proxy_header().cloned();
    #[cfg(feature = "tls")]
    let session = super::session::Session::of(&stream);
    let (read_half, write_half) = tokio::io::split(stream);
    let conn = LineConn {
        shared: Arc::new(LineConnShared {
            record,
            send_lock: Mutex::new(()),
            writer: LineWriter::new(write_half),
            is_closed: AtomicBool::new(false),
            closed: Waiters::new(),
            #[cfg(feature = "proxy-protocol")]
            proxy_header,
            #[cfg(feature = "tls")]
            session,
            send_error: crate::sync::Mutex::new(None),
        }),
    };
    serve_halves(read_half, EndOnDrop(conn), concurrent, settings, handler)
}

/// The future of [`serve`]. With a registration, lines are handled at the same time.
async fn serve_halves<F, Fut>(
    read_half: ReadHalf<Stream>,
    end: EndOnDrop,
    concurrent: Option<Arc<Registration>>,
    settings: Arc<LineSettings>,
    handler: Arc<F>,
) -> io::Result<()>
where
    F: Fn(Vec<u8>, LineConn) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<()>> + Send + 'static,
{
    let conn = &end.0;
    let record = &*conn.shared.record;
    let mut lines = Lines { reader: LineReader::new(read_half, &settings), conn, record, left: None };
    let outcome = match concurrent {
        None => lines.handle_each(&*handler).await,
        // On the heap, as it is larger.
        Some(registration) => Box::pin(lines.handle_concurrently(&*handler, settings.concurrent, &registration)).await,
    };
    let reader = lines.reader;
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

/// The lines of a connection, until it is to end: at the end of the stream, after `close`, or at a stop.
struct Lines<'a> {
    /// Has what was read and not handed out.
    reader: LineReader,
    /// For the handler.
    conn: &'a LineConn,
    /// Of the connection.
    record: &'a ConnRecord,
    /// Once the last call of a stop is over: how many more lines are handled.
    left: Option<usize>,
}

impl Lines<'_> {
    /// The next line. `None` if there are no more.
    ///
    /// Cancel safe.
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.conn.is_closed() {
            return Ok(None);
        }
        if self.record.is_draining() && self.record.is_last_call_over() {
            let left = self.left.get_or_insert_with(|| self.reader.count());
            if *left == 0 {
                return Ok(None);
            }
        }
        let mut next = pin!(self.reader.next());
        let line = poll_fn(|cx| match next.as_mut().poll(cx) {
            // It may have been closed before the read left its waker.
            Poll::Pending if self.conn.is_closed() => Poll::Ready(Ok(None)),
            outcome => outcome,
        })
        .await?;
        if let (Some(left), Some(_)) = (&mut self.left, &line) {
            *left = left.saturating_sub(1);
        }
        Ok(line)
    }

    /// What was read is handled, but for what is still in the buffer.
    async fn all_done(&self) -> io::Result<()> {
        // Sends what a dropped `send` has left, unless another task is sending, which does it first.
        if self.conn.shared.writer.has_unsent() {
            if let Ok(_turn) = self.conn.shared.try_turn() {
                self.conn.shared.writer.write_unsent().await?;
            }
        }
        self.record.message_done();
        if self.reader.has_partial() {
            self.record.request_received();
        }
        Ok(())
    }

    /// Waits for the marks of the program, unless it has closed the connection, or nothing can be sent any more.
    async fn end(&self) {
        tokio::select! {
            biased;
            () = self.conn.closed() => {}
            () = self.record.not_busy() => {}
        }
    }

    /// Handles one line after the other.
    async fn handle_each<F, Fut>(&mut self, handler: &F) -> io::Result<()>
    where
        F: Fn(Vec<u8>, LineConn) -> Fut,
        Fut: Future<Output = io::Result<()>>,
    {
        while let Some(line) = self.next().await? {
            handler(line, self.conn.clone()).await?;
            self.all_done().await?;
        }
        self.end().await;
        Ok(())
    }

    /// Handles up to `limit` lines at the same time. Those at work run to their end, whatever becomes of the others.
    async fn handle_concurrently<F, Fut>(
        &mut self,
        handler: &F,
        limit: usize,
        registration: &Arc<Registration>,
    ) -> io::Result<()>
    where
        F: Fn(Vec<u8>, LineConn) -> Fut,
        Fut: Future<Output = io::Result<()>> + Send + 'static,
    {
        let mut at_work = JoinSet::new();
        // No more lines are read. The first error counts.
        let mut end = None;
        loop {
            tokio::select! {
                biased;
                Some(joined) = at_work.join_next() => {
                    match joined.unwrap_or_else(|error| Err(panic_or_error(error))) {
                        Ok(()) if at_work.is_empty() => {
                            self.record.set_handling(false);
                            self.all_done().await?;
                        }
                        Ok(()) => {}
                        // Also after the end of the stream, which was no error.
                        Err(error) if !matches!(end, Some(Err(_))) => end = Some(Err(error)),
                        Err(_) => {}
                    }
                }
                line = self.next(), if end.is_none() && at_work.len() < limit => match line {
                    Ok(Some(line)) => {
                        self.record.set_handling(true);
                        self.record.line_received();
                        let work = handler(line, self.conn.clone());
                        let registration = Arc::clone(registration);
                        at_work.spawn(async move {
                            let outcome = work.await;
                            // The connection has its slot for as long as one of its lines is at work.
                            drop(registration);
                            outcome
                        });
                    }
                    Ok(None) => end = Some(Ok(())),
                    Err(error) => end = Some(Err(error)),
                },
                else => break,
            }
        }
        end.unwrap_or(Ok(()))?;
        self.end().await;
        Ok(())
    }
}

/// Goes on with a panic. Without one, the runtime has ended the task.
fn panic_or_error(error: JoinError) -> io::Error {
    match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(error) => io::Error::other(error),
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
