//! What a pool lends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::coop;
use tokio::time::timeout;

use super::claim::{Claim, check_runtime};
use super::inner::Inner;
use super::make::{DialedBy, Make};
use super::shared::Shared;
use super::{CloseReason, GetError, Guard};
use crate::Dial;

/// One connection that can be had from a [`Pool`](super::Pool), whether it is open or not; made by
/// [`Pool::resource`](super::Pool::resource) and its siblings.
///
/// One user at a time has it. Clones are the same resource; with the last one, its connection is closed, as soon as nobody
/// uses it.
pub struct Resource<T: Send + 'static = TcpStream> {
    handle: Arc<Handle<T>>,
}

impl<T: Send + 'static> Resource<T> {
    pub(super) fn new(
        shared: &Arc<Shared>,
        name: &str,
        maker: impl Make<T> + 'static,
        is_quiet: fn(&mut T) -> bool,
    ) -> Self {
        Self { handle: Arc::new(Handle(Inner::new(shared, name, maker, is_quiet))) }
    }

    pub(super) fn inner(&self) -> &Arc<Inner<T>> {
        &self.handle.0
    }

    /// Its address, or the name it was given.
    pub fn name(&self) -> &str {
        &self.inner().name
    }

    /// Lends the connection: waits until nobody else uses it, and if it is not open (any more), until there is a slot, and
    /// dials.
    ///
    /// # Errors
    ///
    /// [`GetError::Dial`], [`GetError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future gives up the place among those who wait, or the dial.
    pub async fn get(&self) -> Result<Guard<T>, GetError> {
        let mut claim = Claim::wait(self.inner()).await?;
        match claim.reuse() {
            Some(guard) => Ok(guard),
            None => {
                claim.check_runtime()?;
                claim.dial().await
            }
        }
    }

    /// The same, for so long at most, with the dial.
    ///
    /// # Errors
    ///
    /// [`GetError::Timeout`], and as for [`get`](Resource::get).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`get`](Resource::get) is.
    pub async fn get_timeout(&self, limit: Duration) -> Result<Guard<T>, GetError> {
        let name = || Arc::clone(&self.inner().name);
        check_runtime(&self.inner().name, true)?;
        timeout(limit, self.get()).await.unwrap_or_else(|_| Err(GetError::Timeout { name: name(), limit }))
    }

    /// The same, without waiting for anybody: if the resource is in use, or no slot can be had, it fails at once. Only a
    /// dial is waited for.
    ///
    /// # Errors
    ///
    /// [`GetError::Busy`], and as for [`get`](Resource::get).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future gives up the dial.
    pub async fn try_get(&self) -> Result<Guard<T>, GetError> {
        // (A loop of these must yield, too.)
        coop::consume_budget().await;
        let mut claim = Claim::take(self.inner())?;
        match claim.reuse() {
            Some(guard) => Ok(guard),
            None => {
                claim.check_runtime()?;
                claim.dial().await
            }
        }
    }

    /// The connection is closed before it is lent again: at once, if nobody uses it, otherwise when it is given back. Once:
    /// the next one stays open again.
    ///
    /// For what a program learns by other ways: the service has moved, a configuration has changed.
    pub fn schedule_close(&self) {
        let Inner { shared, entry, .. } = &**self.inner();
        let idle = shared.lock().book.schedule_close(*entry);
        if let Some(idle) = idle {
            shared.close_one(idle, CloseReason::Scheduled);
        }
    }
}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static> Resource<T> {
    /// Lends the connection as [`get`](Resource::get) does; if it has to be opened, by this dialer. Its failure is told to nobody
    /// else.
    ///
    /// # Errors
    ///
    /// As for [`get`](Resource::get).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`get`](Resource::get) is.
    pub async fn get_with<D: Dial<Stream = T>>(&self, dialer: &mut D) -> Result<Guard<T>, GetError> {
        let invalid = |error| GetError::Dial { name: Arc::clone(&self.inner().name), source: Arc::new(error) };
        dialer.check().map_err(|error| invalid(error.into()))?;
        let mut claim = Claim::wait(self.inner()).await?;
        match claim.reuse() {
            Some(guard) => Ok(guard),
            None => {
                claim.check_runtime()?;
                claim.dial_by(&mut DialedBy(dialer)).await
            }
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

/// All clones of a resource.
struct Handle<T: Send + 'static>(Arc<Inner<T>>);

impl<T: Send + 'static> Drop for Handle<T> {
    fn drop(&mut self) {
        let Inner { shared, entry, .. } = &*self.0;
        let idle = shared.lock().book.remove_entry(*entry);
        if let Some(idle) = idle {
            shared.close_one(idle, CloseReason::Gone);
        }
    }
}
