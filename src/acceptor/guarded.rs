//! A handler at work: its panic is its own, and it can be cut.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::seat::{CUT, Seat, Who};
use super::service::Work;
use crate::panics::catch;

pub(super) enum End {
    Returned(io::Result<()>),
    Panicked(String),
    Cut,
}

/// Runs a handler until it returns, panics, or its seat is cut. Then nothing is left of it.
pub(super) struct Guarded {
    work: Option<Work>,
    start_panic: Option<String>,
    seat: Arc<Seat>,
}

impl Guarded {
    pub(super) fn new(start: impl FnOnce() -> Work, seat: &Arc<Seat>) -> Self {
        let (work, start_panic) = match catch(start) {
            Ok(work) => (Some(work), None),
            Err(message) => (None, Some(message)),
        };
        Self { work, start_panic, seat: Arc::clone(seat) }
    }

    /// What the handler holds may panic when it is dropped. Gives the panic's message.
    fn drop_work(&mut self) -> Option<String> {
        let work = self.work.take();
        catch(|| drop(work)).err()
    }

    fn finish(&mut self, end: End) -> Poll<End> {
        Poll::Ready(self.drop_work().map_or(end, End::Panicked))
    }
}

impl Future for Guarded {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let me = &mut *self;
        if let Some(message) = me.start_panic.take() {
            return Poll::Ready(End::Panicked(message));
        }
        if me.seat.has(CUT) {
            return me.finish(End::Cut);
        }
        let Some(work) = &mut me.work else { return Poll::Pending };
        // Nothing of a handler is used after its panic.
        match catch(|| work.as_mut().poll(cx)) {
            Ok(Poll::Ready(outcome)) => me.finish(End::Returned(outcome)),
            Ok(Poll::Pending) => {
                me.seat.park(Who::Handler, cx);
                if me.seat.has(CUT) { me.finish(End::Cut) } else { Poll::Pending }
            }
            Err(message) => me.finish(End::Panicked(message)),
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.drop_work();
    }
}
