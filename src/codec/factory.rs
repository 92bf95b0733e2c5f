//! Where the codec of each link comes from.

use crate::sync::Mutex;
use std::sync::Arc;

/// Makes a fresh codec for each link; the two sides of a connection share it.
///
/// The lock makes it `Sync` whatever the program's closure is. It is taken at a break only.
pub(super) struct Factory<C>(Arc<Mutex<dyn FnMut() -> C + Send>>);

impl<C> Factory<C> {
    pub(super) fn new(make: impl FnMut() -> C + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(make)))
    }

    pub(super) fn make(&self) -> C {
        // If the closure panicked once, that was told then.
        self.0.lock()()
    }
}

impl<C: Clone + Send + 'static> Factory<C> {
    /// Each link gets a copy of this one.
    pub(super) fn prototype(codec: C) -> Self {
        Self::new(move || codec.clone())
    }
}

impl<C> Clone for Factory<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
