//! The source of each link's codec.
//!
//! Next: [`codecs`](super::codecs), which decides when a fresh one is due.

use std::sync::Arc;

use crate::sync::Mutex;

/// Makes a fresh codec for each link. Both directions of a connection share it.
///
/// The mutex makes it `Sync`, whatever the program's closure is. It is locked only at a break. If the closure has
/// panicked, the caller saw that panic, and the next call tries again.
pub(super) struct CodecFactory<C>(Arc<Mutex<dyn FnMut() -> C + Send>>);

impl<C> CodecFactory<C> {
    /// Calls `make` for each codec.
    pub(super) fn new(make: impl FnMut() -> C + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(make)))
    }

    /// Makes a codec. Panics if the program's closure does.
    pub(super) fn make(&self) -> C {
        self.0.lock()()
    }
}

impl<C: Clone + Send + 'static> CodecFactory<C> {
    /// Clones `codec` for each link.
    pub(super) fn clone_of(codec: C) -> Self {
        Self::new(move || codec.clone())
    }
}

impl<C> Clone for CodecFactory<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
