//! Timers that any executor can poll.
//!
//! A handle may be polled by any executor, and its runtime may shut down meanwhile. A `Sleep` would panic then. So the
//! sleep runs as a task of the connection's runtime, and the handle polls the task.
//!
//! Next: [`idle_timeout`](super::idle_timeout), which times a waiting read.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::runtime;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Ready once, at its deadline. Never ready if the runtime shuts down before or has no timers.
pub(super) struct Timer {
    /// When it fires, on the runtime's clock.
    pub(super) deadline: Instant,
    /// The task that sleeps; `None` when it has ended.
    task: Option<JoinHandle<()>>,
}

impl Timer {
    /// Starts a timer on this runtime.
    pub(super) fn new(deadline: Instant, runtime: &runtime::Handle) -> Self {
        Self { deadline, task: Some(runtime.spawn(async move { sleep_until(deadline).await })) }
    }

    /// Ready once. Later polls are pending and wake nothing.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(task) = &mut self.task else { return Poll::Pending };
        let outcome = ready!(Pin::new(task).poll(cx));
        self.task = None;
        // Without its runtime the connection has ended, and the operation reports that instead.
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

/// A timeout that belongs to one link or outage, named by its generation. Not running unless polled.
///
/// On the heap, because most connections never need one.
#[derive(Default)]
pub(super) struct GenerationTimeout(Option<Box<(u64, Timer)>>);

impl GenerationTimeout {
    /// Ready when `limit` has passed since the first poll for this generation. Then, or for another generation, the
    /// next poll starts the time anew.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        generation: u64,
        limit: Duration,
        runtime: &runtime::Handle,
    ) -> Poll<()> {
        let running = match self.0.take().filter(|running| running.0 == generation) {
            Some(running) => running,
            // A deadline beyond the range of the clock never comes.
            None => match now(runtime).checked_add(limit) {
                Some(deadline) => Box::new((generation, Timer::new(deadline, runtime))),
                None => return Poll::Pending,
            },
        };
        ready!(self.0.insert(running).1.poll(cx));
        self.0 = None;
        Poll::Ready(())
    }

    /// Stops the time.
    pub(super) fn stop(&mut self) {
        self.0 = None;
    }
}

/// The time on the clock of the connection's runtime.
pub(super) fn now(runtime: &runtime::Handle) -> Instant {
    let _guard = runtime.enter();
    Instant::now()
}
