//! A timer of the connection's own runtime, for whoever polls a handle.
//!
//! A handle may be polled by any executor, and its runtime may shut down meanwhile: a `Sleep` would panic then. So the
//! sleep is a task of the runtime, which can only be cancelled.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::runtime;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Rings once, at its deadline; never, if the runtime shuts down before (or has no timers).
pub(super) struct Timer {
    pub(super) deadline: Instant,
    /// `None` when it is over.
    task: Option<JoinHandle<()>>,
}

impl Timer {
    pub(super) fn new(deadline: Instant, runtime: &runtime::Handle) -> Self {
        Self { deadline, task: Some(runtime.spawn(async move { sleep_until(deadline).await })) }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(task) = &mut self.task else { return Poll::Pending };
        let outcome = ready!(Pin::new(task).poll(cx));
        self.task = None;
        // Without its runtime the connection is over, and whoever waits is told of that.
        if outcome.is_ok() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// The time by the clock of the connection's runtime.
pub(super) fn now(runtime: &runtime::Handle) -> Instant {
    let _guard = runtime.enter();
    Instant::now()
}
