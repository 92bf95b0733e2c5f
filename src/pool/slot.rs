//! A slot without a connection of the pool.
//!
//! Next: [`Acquire`], by which it gets its slot like any connection.

use std::fmt;
use std::future::ready;
use std::sync::Arc;

use super::acquire::Acquire;
use super::opener::ByFn;
use super::state::PoolInner;
use super::{GetError, Resource};

/// The right to one file descriptor; made by [`Pool::slot`](super::Pool::slot). A drop frees the slot.
#[must_use = "the slot is free again as soon as this is dropped"]
pub struct Slot {
    /// A resource of its own, which is never opened.
    resource: Resource<()>,
}

impl Slot {
    /// Waits for a slot.
    pub(super) async fn wait(pool: &Arc<PoolInner>) -> Result<Self, GetError> {
        let resource = resource(pool);
        Acquire::wait(resource.inner()).await?.into_slot().await?;
        Ok(Self { resource })
    }

    /// Takes a slot if one is available without waiting.
    pub(super) fn try_now(pool: &Arc<PoolInner>) -> Result<Self, GetError> {
        let resource = resource(pool);
        Acquire::try_now(resource.inner())?.into_slot_now()?;
        Ok(Self { resource })
    }
}

/// A resource that only one [`Slot`] knows. The name appears in [`GetError::Busy`].
fn resource(pool: &Arc<PoolInner>) -> Resource<()> {
    Resource::new(pool, "a slot", ByFn(|| ready(Ok(()))), |()| true)
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.resource.inner().release(false);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}
