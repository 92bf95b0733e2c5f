//! The public handle of one resource.
//!
//! Next: [`Acquire`], the way from [`Resource::get`] to a [`Guard`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::coop;
use tokio::time::{Instant, sleep, timeout_at};

use super::acquire::Acquire;
use super::dial_attempt::check_runtime_for;
use super::opener::{ByBorrowedDialer, Open};
use super::resource_inner::ResourceInner;
use super::state::PoolInner;
use super::{CloseReason, GetError, Guard, ResourceStats, WaitingFor};
use crate::Dial;

/// One connection of a [`Pool`](super::Pool), whether it is open or not; made by
/// [`Pool::resource`](super::Pool::resource), [`Pool::resource_with`](super::Pool::resource_with) and
/// [`Pool::resource_fn`](super::Pool::resource_fn).
///
/// One caller at a time uses it. Clones are the same resource. When the last clone is dropped, the connection is
/// closed, as soon as no caller uses it.
pub struct Resource<T: Send + 'static = TcpStream> {
    /// Removes the resource from the pool with the last clone. Guards hold only the inside of it.
    handle: Arc<RemoveOnDrop<T>>,
}

impl<T: Send + 'static> Resource<T> {
    /// Adds a resource to a pool. `is_quiet` checks a value that is not a socket.
    pub(super) fn new(
        pool: &Arc<PoolInner>,
        name: &str,
        opener: impl Open<T> + 'static,
        is_quiet: fn(&mut T) -> bool,
    ) -> Self {
        Self { handle: Arc::new(RemoveOnDrop(ResourceInner::new(pool, name, opener, is_quiet))) }
    }

    /// What all clones share.
    pub(super) fn inner(&self) -> &Arc<ResourceInner<T>> {
        &self.handle.0
    }

    /// The same, if this is the only handle and the resource is not in use.
    pub(super) fn inner_mut(&mut self) -> Option<&mut ResourceInner<T>> {
        Arc::get_mut(&mut Arc::get_mut(&mut self.handle)?.0)
    }

    /// The address of the resource, or the name that it was given.
    pub fn name(&self) -> &str {
        &self.inner().name
    }

    /// Lends the connection.
    ///
    /// This waits until no other caller uses the connection. If it is not open, this also waits for a slot, and dials.
    ///
    /// # Errors
    ///
    /// [`GetError::Dial`] if the dial fails, or if the last one has failed and its
    /// [delay](super::PoolBuilder::retry_min) is not over; [`GetError::Closed`] if the pool is closed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future gives up its place in the queue. Its dial goes on for the next caller.
    ///
    /// # Examples
    ///
    /// ```
    /// use perconn::pool::Pool;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// let resource = Pool::new(64)?.resource(server.local_addr()?)?;
    /// drop(resource.get().await?); // a dial
    /// assert!(resource.get().await?.is_reused());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get(&self) -> Result<Guard<T>, GetError> {
        let inner = self.inner();
        if let Some(refusal) = inner.dial_backoff.refusal(&inner.name) {
            return self.refuse(refusal).await;
        }
        let mut acquire = Acquire::new(inner);
        acquire.acquired().await?;
        match acquire.reuse() {
            Ok(guard) => Ok(guard),
            Err(used) => acquire.open(used).await,
        }
    }

    /// Lends the connection as [`get`](Resource::get) does, within `limit`, which includes the dial.
    ///
    /// If the last dial has failed and the next one may begin within the limit, this waits for that.
    ///
    /// # Errors
    ///
    /// [`GetError::Timeout`] after `limit`, otherwise as for [`get`](Resource::get).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`get`](Resource::get) is.
    pub async fn get_timeout(&self, limit: Duration) -> Result<Guard<T>, GetError> {
        check_runtime_for(&self.inner().name, true)?;
        let deadline = Instant::now().checked_add(limit);
        loop {
            match self.get_before(deadline, limit).await {
                Err(GetError::Dial { retry_in: Some(delay), .. }) if ends_before(deadline, delay) => {
                    sleep(delay).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// [`get`](Self::get) with a limit that ends at this time. `None`: the clock ends before it.
    async fn get_before(&self, deadline: Option<Instant>, limit: Duration) -> Result<Guard<T>, GetError> {
        let inner = self.inner();
        if let Some(refusal) = inner.dial_backoff.refusal(&inner.name) {
            return self.refuse(refusal).await;
        }
        let mut acquire = Acquire::new(inner);
        match before(deadline, acquire.acquired()).await {
            Some(acquired) => acquired?,
            None => return Err(acquire.timed_out(limit)),
        }
        match acquire.reuse() {
            Ok(guard) => Ok(guard),
            Err(used) => match before(deadline, acquire.open(used)).await {
                Some(outcome) => outcome,
                None => Err(inner.timed_out(limit, WaitingFor::Dial)),
            },
        }
    }

    /// Lends the connection without waiting for another caller. It waits for nothing but a dial.
    ///
    /// # Errors
    ///
    /// [`GetError::Busy`] if the resource is in use or no slot is available, otherwise as for [`get`](Resource::get).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the dial of a dropped future goes on for the next caller.
    pub async fn try_get(&self) -> Result<Guard<T>, GetError> {
        // A loop of these calls has to yield, too.
        coop::consume_budget().await;
        let inner = self.inner();
        if let Some(refusal) = inner.dial_backoff.refusal(&inner.name) {
            return self.refuse(refusal).await;
        }
        let mut acquire = Acquire::try_now(inner)?;
        match acquire.reuse() {
            Ok(guard) => Ok(guard),
            Err(used) => acquire.open(used).await,
        }
    }

    /// Returns what has happened with this resource so far, and how many callers wait for it.
    ///
    /// ```
    /// use perconn::pool::Pool;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let one = Pool::new(64)?.resource_fn("one", || async { Ok(1) });
    /// for _ in 0..3 {
    ///     drop(one.get().await?);
    /// }
    /// let stats = one.stats();
    /// assert_eq!((stats.opened, stats.reused, stats.waits.count), (1, 2, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> ResourceStats {
        self.inner().stats()
    }

    /// Fails a call during the delay after a failed dial.
    async fn refuse<R>(&self, refusal: GetError) -> Result<R, GetError> {
        // A loop of calls that fail at once has to yield, too.
        coop::consume_budget().await;
        Err(if self.inner().pool.summary.is_closed() { GetError::Closed } else { refusal })
    }

    /// Schedules a close: the connection is closed before it is lent again.
    ///
    /// It is closed at once if no caller uses it, and otherwise when it is given back. This holds for one connection:
    /// the next one stays open again. Use this when the program learns from elsewhere that the service has moved or
    /// that a configuration has changed.
    pub fn schedule_close(&self) {
        let ResourceInner { pool, entry_id, .. } = &**self.inner();
        let idle = pool.lock().slots.schedule_close(*entry_id);
        if let Some(idle) = idle {
            pool.close_evicted(idle, CloseReason::Scheduled);
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Resource<T> {
    /// Lends the connection as [`get`](Resource::get) does, and opens it with this dialer if it is not open.
    ///
    /// If the dialer fails, only this call gets the error. The other waiters go on waiting. The delay after a failed dial
    /// does not concern this call.
    ///
    /// # Errors
    ///
    /// [`GetError::Dial`] if [`check`](Dial::check) of the dialer fails, otherwise as for [`get`](Resource::get).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future gives up its place in the queue. It also gives up its dial, as the dialer is yours.
    pub async fn get_with<D: Dial<Stream = T>>(&self, dialer: &mut D) -> Result<Guard<T>, GetError> {
        dialer.check().map_err(|invalid| GetError::Dial {
            name: Arc::clone(&self.inner().name),
            source: Arc::new(invalid.into()),
            retry_in: None,
        })?;
        let mut acquire = loop {
            let mut acquire = Acquire::new(self.inner());
            match acquire.acquired().await {
                Ok(()) => break acquire,
                // Another caller was refused a dial. That is not this one's dialer: it asks again.
                Err(GetError::Dial { retry_in: Some(_), .. }) => {}
                Err(error) => return Err(error),
            }
        };
        match acquire.reuse() {
            Ok(guard) => Ok(guard),
            Err(used) => acquire.open_with(&mut ByBorrowedDialer(dialer), used).await,
        }
    }
}

impl<T: Send + 'static> Clone for Resource<T> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle) }
    }
}

impl<T: Send + 'static> fmt::Debug for Resource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// Awaits a future until this time. `None`: the time has come first.
async fn before<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    match deadline {
        Some(deadline) => timeout_at(deadline, future).await.ok(),
        None => Some(future.await),
    }
}

/// Whether a delay that begins now ends before the deadline. `None`: the clock ends before that.
fn ends_before(deadline: Option<Instant>, delay: Duration) -> bool {
    Instant::now().checked_add(delay).is_some_and(|end| deadline.is_none_or(|deadline| end < deadline))
}

/// What all clones of a resource share. When the last clone is dropped, it removes the resource from its pool.
struct RemoveOnDrop<T: Send + 'static>(Arc<ResourceInner<T>>);

impl<T: Send + 'static> Drop for RemoveOnDrop<T> {
    fn drop(&mut self) {
        let ResourceInner { pool, entry_id, .. } = &*self.0;
        self.0.abort_background_dial();
        let idle = pool.lock().slots.remove_entry(*entry_id);
        if let Some(idle) = idle {
            pool.close_evicted(idle, CloseReason::Gone);
        }
    }
}
