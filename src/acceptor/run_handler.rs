//! The handler at work: its panic is contained, and it can be cut at any await.
//!
//! Next: [`super::stream`], which the handler reads and writes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::conn_record::{ConnRecord, Waiter};
use super::service::HandlerFuture;
use crate::panics::{catch, ignore};

/// How a handler ended.
pub(super) enum HandlerEnd {
    /// By itself.
    Returned(io::Result<()>),
    /// With the panic's message.
    Panicked(String),
    /// The connection was cut, and the handler dropped.
    Cut,
}

/// Runs a handler until it returns, panics, or its connection is cut. It has dropped the handler when it is ready.
pub(super) struct RunHandler {
    /// `None` once the handler is dropped.
    handler: Option<HandlerFuture>,
    /// The panic of the closure that makes the handler's future.
    start_panic: Option<String>,
    /// Says whether the connection is cut, and wakes this task when it is.
    record: Arc<ConnRecord>,
}

impl RunHandler {
    /// Calls `start`, which is code of the program, and contains its panic.
    pub(super) fn new(start: impl FnOnce() -> HandlerFuture, record: &Arc<ConnRecord>) -> Self {
        let (handler, start_panic) = match catch(start) {
            Ok(handler) => (Some(handler), None),
            Err(message) => (None, Some(message)),
        };
        Self { handler, start_panic, record: Arc::clone(record) }
    }

    /// Drops the handler. A value that it owns may panic then; returns the panic's message.
    fn drop_handler(&mut self) -> Option<String> {
        let handler = self.handler.take();
        catch(|| drop(handler)).err()
    }

    /// Drops the handler and returns how it ended. A panic in the drop replaces that.
    fn finish(&mut self, end: HandlerEnd) -> Poll<HandlerEnd> {
        let Some(message) = self.drop_handler() else { return Poll::Ready(end) };
        // The error of the handler may panic as well.
        ignore(|| drop(end));
        Poll::Ready(HandlerEnd::Panicked(message))
    }
}

impl Future for RunHandler {
    type Output = HandlerEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<HandlerEnd> {
        let me = &mut *self;
        if let Some(message) = me.start_panic.take() {
            return Poll::Ready(HandlerEnd::Panicked(message));
        }
        if me.record.is_over() {
            return me.finish(HandlerEnd::Cut);
        }
        let Some(handler) = &mut me.handler else { return Poll::Pending };
        // After a panic, the handler is dropped and not polled again.
        match catch(|| handler.as_mut().poll(cx)) {
            Ok(Poll::Ready(outcome)) => me.finish(HandlerEnd::Returned(outcome)),
            Ok(Poll::Pending) => {
                me.record.set_waker(Waiter::Handler, cx);
                if me.record.is_over() { me.finish(HandlerEnd::Cut) } else { Poll::Pending }
            }
            Err(message) => me.finish(HandlerEnd::Panicked(message)),
        }
    }
}

impl Drop for RunHandler {
    fn drop(&mut self) {
        self.drop_handler();
    }
}
