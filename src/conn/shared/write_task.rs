//! The task that writes the queued jobs of all callers.
//!
//! It sleeps until a job is admitted while the permit is free. Then it takes the permit and writes until the queue is
//! empty.
//!
//! Next: [`conn`](crate::conn)'s `poll`, which writes the bytes on the link.

use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time;

use super::queue::Deferred;
use super::write_permit::WritePermit;
use super::writer::Writer;
use crate::conn_state::End;
use crate::panics::catch;

/// How long the task goes on writing queued jobs after the last clone was dropped.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Writes queued jobs until the last clone is dropped or the connection has ended.
///
/// However it ends, no caller goes on waiting for it: see its `Drop`.
pub(super) struct WriteTask<S> {
    /// Shared with the callers.
    writer: Arc<Writer<S>>,
    /// The permit to write, while the task has it.
    permit: Option<Box<WritePermit<S>>>,
    /// Whether the other tasks of the thread have had a chance to queue their jobs.
    has_yielded: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> WriteTask<S> {
    /// The task of this writer; it does nothing before it runs.
    pub(super) fn new(writer: Arc<Writer<S>>) -> Self {
        Self { writer, permit: None, has_yielded: false }
    }

    /// Writes until every job is done and the last clone was dropped, or the connection has ended.
    pub(super) async fn run(mut self) {
        let writer = Arc::clone(&self.writer);
        let drain_limit = async {
            writer.all_dropped.notified().await;
            time::sleep(DRAIN_LIMIT).await;
        };
        tokio::select! {
            biased;
            () = poll_fn(|cx| self.poll(cx)) => {}
            () = drain_limit => {}
            // While a caller keeps the permit, no write notifies the task of the end.
            _ = writer.context.conn_state.end_reached() => {}
        }
    }

    /// Writes as far as the link takes bytes. Ready when no job can come any more.
    ///
    /// A panic of the stream breaks the link and does not end the task: the callers still depend on it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(permit) = &mut self.permit else {
                let mut state = self.writer.lock();
                if state.queue.is_empty() && state.has_no_callers {
                    return Poll::Ready(());
                }
                if !state.queue.has_admitted() || state.permit.is_none() {
                    self.has_yielded = false;
                    let replaced = state.task.replace(cx.waker().clone()); // rule: task-stores-its-waker-under-the-lock
                    drop(state);
                    drop(replaced);
                    return Poll::Pending;
                }
                if mem::replace(&mut self.has_yielded, true) {
                    self.permit = state.permit.take();
                    continue;
                }
                drop(state);
                // The other tasks of this thread run first. Then there is more to write at once.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            };
            match catch(|| permit.drive(&self.writer, cx)) {
                Ok(driven) => ready!(driven),
                Err(_) => {
                    // The jobs go on on the next link.
                    permit.break_link();
                    continue;
                }
            }
            let mut state = self.writer.lock();
            state.permit = self.permit.take();
            self.writer.unlock_unchanged_queue(state);
        }
    }
}

impl<S> Drop for WriteTask<S> {
    /// The runtime drops the task when it shuts down, perhaps before it ever ran. A stream may also panic in it.
    fn drop(&mut self) {
        let writer = &self.writer;
        let mut deferred = Deferred::default();
        let mut state = writer.lock();
        state.is_closing = true;
        state.queue.close(&mut deferred); // rule: end-of-the-task-fails-its-jobs
        let has_no_callers = state.has_no_callers;
        if writer.context.conn_state.ended().is_none() && !has_no_callers {
            // No caller could write any more, so the connection ends too.
            let end = if std::thread::panicking() { End::Closed } else { End::RuntimeShutdown };
            drop(state);
            writer.context.conn_state.end(end);
            state = writer.lock();
        }
        writer.unlock(state, &mut deferred);
    }
}
