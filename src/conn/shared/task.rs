//! The task that writes for all.

use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time;

use super::drive::Stop;
use super::write_permit::WritePermit;
use super::writer::{State, Writer};
use crate::conn_state::End;
use crate::panics::{catch, wake};

/// How long the task goes on with what was begun when everyone has left.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Writes for all, until everyone has left or the connection is over.
///
/// However it ends, nobody waits for it: see its `Drop`.
pub(super) struct Task<S> {
    writer: Arc<Writer<S>>,
    /// The right to write, while the task has it.
    permit: Option<Box<WritePermit<S>>>,
    has_let_others: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Task<S> {
    pub(super) fn new(writer: Arc<Writer<S>>) -> Self {
        Self { writer, permit: None, has_let_others: false }
    }

    pub(super) async fn run(mut self) {
        let writer = Arc::clone(&self.writer);
        let everyone_has_left = async {
            writer.left.notified().await;
            time::sleep(DRAIN_LIMIT).await;
        };
        tokio::select! {
            biased;
            () = poll_fn(|cx| self.poll(cx)) => {}
            () = everyone_has_left => {}
            // (A caller may sit on the permit, so that the task would not hear of it otherwise.)
            () = writer.context.conn_state.over() => {}
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(permit) = &mut self.permit else {
                let mut state = self.writer.lock();
                if state.queue.is_empty() && state.is_left {
                    return Poll::Ready(());
                }
                if !state.queue.is_ready() || state.permit.is_none() {
                    self.has_let_others = false;
                    sleep(state, cx);
                    return Poll::Pending;
                }
                if mem::replace(&mut self.has_let_others, true) {
                    self.permit = state.permit.take();
                    continue;
                }
                drop(state);
                // The other tasks of this thread come first: then there is more to write.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            };
            let stop = match catch(|| permit.drive(&self.writer, None, cx)) {
                Ok(stop) => ready!(stop),
                Err(_) => {
                    // The stream's own panic: what it has taken, nobody knows. The jobs go on with the next link.
                    self.writer.context.conn_state.reconnect();
                    continue;
                }
            };
            let mut state = self.writer.lock();
            state.permit = self.permit.take();
            // The caller may have gone since.
            if matches!(stop, Stop::Caller) && state.queue.is_callers_turn(state.queue.first()) {
                self.has_let_others = false;
                sleep(state, cx);
                return Poll::Pending;
            }
        }
    }
}

/// Leaves the task's waker; if it is a caller's turn to write its bytes itself, that one is woken.
fn sleep<S>(mut state: MutexGuard<'_, State<S>>, cx: &Context<'_>) {
    let _replaced = state.task.replace(cx.waker().clone());
    let first = state.queue.first();
    let caller = if state.queue.is_callers_turn(first) { state.queue.caller() } else { None };
    drop(state);
    if let Some(caller) = caller {
        wake(caller);
    }
}

impl<S> Drop for Task<S> {
    /// The runtime drops the task when it shuts down, maybe before it ever ran, and a stream may panic.
    fn drop(&mut self) {
        let writer = &self.writer;
        let mut wakers = Vec::new();
        let mut state = writer.lock();
        state.is_closing = true;
        state.queue.abandon(&mut wakers);
        let is_left = state.is_left;
        if writer.context.conn_state.ended().is_none() && !is_left {
            // Nobody could write any more, so there is nothing to keep up.
            let end = if std::thread::panicking() { End::Closed } else { End::RuntimeShutdown };
            drop(state);
            writer.context.conn_state.end(end);
            writer.context.conn_state.publish();
            state = writer.lock();
        }
        writer.unlock(state, wakers);
    }
}
