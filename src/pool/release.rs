//! The close of a connection by the resource's own release action, which may wait.
//!
//! Without such an action, a connection is closed by its drop, at once. With one, the pool runs it in a task of the
//! connection's runtime, wherever the close is decided. Until it has ended, within [`RELEASE_LIMIT`], the slot counts as
//! being released, and the resource has no second connection.
//!
//! Next: [`ResourceInner::discard`](super::resource_inner::ResourceInner::discard), which begins one.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::lifecycle::call;
use super::resource_inner::ResourceInner;
use super::stats::increment;
use super::{CloseReason, Event};
use crate::runtime::has_time;

/// How long a release action may take. Then it is dropped, with its connection.
pub(super) const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// A connection that is to be released. It does nothing until [`then`](Self::then) is called.
#[must_use = "the connection is released when `then` says what follows"]
pub(super) struct Release {
    /// The runtime in which the connection was opened.
    runtime: Handle,
    /// Runs the action, and reports the close.
    action: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Release {
    /// A connection with a release action.
    pub(super) fn new<T: Send + 'static>(
        resource: Arc<ResourceInner<T>>,
        value: T,
        opened: Instant,
        reason: CloseReason,
        runtime: Handle,
    ) -> Self {
        let report = ReportClose { resource: Some(resource), opened, reason };
        Self { runtime, action: Box::pin(run(report, value)) }
    }

    /// Runs it in a task of its own, and then this, even if the runtime has ended.
    pub(super) fn then(self, next: impl FnOnce() + Send + 'static) {
        let Self { runtime, action } = self;
        // Dropped in this order, wherever that is: first the connection, then what follows.
        let mut task = (action, CallOnDrop(Some(next)));
        runtime.spawn(async move {
            task.0.as_mut().await;
            drop(task);
        });
    }
}

/// Runs the release action, within its limit.
async fn run<T: Send + 'static>(report: ReportClose<T>, value: T) {
    let Some(resource) = &report.resource else { return };
    let Some(release) = &resource.lifecycle.release else { return };
    let action = call("release", &**release, value);
    let released = if has_time() {
        timeout(RELEASE_LIMIT, action).await.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("it took longer than {RELEASE_LIMIT:?}")))
        })
    } else {
        action.await
    };
    if let Err(error) = released {
        let (pool, name) = (&resource.pool, &resource.name);
        increment(&pool.counters.releases_failed);
        pool.emit(|| Event::ReleaseFailed { name: Arc::clone(name), cause: Arc::new(error) });
    }
}

/// Reports the close when it is dropped, however the action has ended.
pub(super) struct ReportClose<T: Send + 'static> {
    /// `None`: there is nothing to report any more.
    pub(super) resource: Option<Arc<ResourceInner<T>>>,
    pub(super) opened: Instant,
    pub(super) reason: CloseReason,
}

impl<T: Send + 'static> Drop for ReportClose<T> {
    fn drop(&mut self) {
        if let Some(resource) = &self.resource {
            resource.pool.emit_closed(&resource.name, self.opened, self.reason);
        }
    }
}

/// Calls a function when it is dropped.
struct CallOnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for CallOnDrop<F> {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call();
        }
    }
}
