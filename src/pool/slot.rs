//! The bare right to one descriptor.

use std::fmt;
use std::future::ready;
use std::sync::Arc;

use super::claim::Claim;
use super::make::Made;
use super::shared::Shared;
use super::{GetError, Resource};

/// The right to one descriptor, by [`Pool::slot`](super::Pool::slot); dropped, it is free again.
#[must_use = "it is free again as soon as it is dropped"]
pub struct Slot {
    /// Of nobody else's, and never opened.
    resource: Resource<()>,
}

impl Slot {
    pub(super) async fn wait(shared: &Arc<Shared>) -> Result<Self, GetError> {
        let resource = resource(shared);
        Claim::wait(resource.inner()).await?.leave();
        Ok(Self { resource })
    }

    pub(super) fn take(shared: &Arc<Shared>) -> Result<Self, GetError> {
        let resource = resource(shared);
        Claim::take(resource.inner())?.leave();
        Ok(Self { resource })
    }
}

fn resource(shared: &Arc<Shared>) -> Resource<()> {
    Resource::new(shared, "a slot", Made(|| ready(Ok(()))), |()| true)
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
