//! What one handle remembers between its calls.
//!
//! Next: [`reading`](super::reading) and [`writing`](super::writing), whose calls ask for it and change it.

use std::sync::atomic::{AtomicU64, Ordering};

/// The newest break that a handle has reported, and the link of a write that is not complete.
///
/// Several threads may use one handle, so both are atomic.
pub(super) struct HandleState {
    /// A generation, 0 for none. It only grows, as two threads may report at the same time.
    last_reported: AtomicU64,
    /// 0 if the last write took all its bytes. Otherwise one more than [`HandleState::partial_write`].
    partial_write: AtomicU64,
}

impl HandleState {
    /// A handle that has reported all breaks up to `last_reported`, and has no rest to write.
    pub(super) fn new(last_reported: u64) -> Self {
        Self { last_reported: AtomicU64::new(last_reported), partial_write: AtomicU64::new(0) }
    }

    /// The generation of the newest break that this handle has reported.
    #[inline]
    pub(super) fn last_reported(&self) -> u64 {
        self.last_reported.load(Ordering::SeqCst)
    }

    /// Notes that this handle reports the break of a link.
    pub(super) fn set_reported(&self, generation: u64) {
        self.last_reported.fetch_max(generation, Ordering::SeqCst);
    }

    /// Set if the last write took only a part of its bytes: the newest break that the write half had reported then.
    ///
    /// The rest belongs to the link after that break, and to no other.
    #[inline]
    pub(super) fn partial_write(&self) -> Option<u64> {
        self.partial_write.load(Ordering::SeqCst).checked_sub(1)
    }

    /// Notes how far the last write came; see [`HandleState::partial_write`].
    #[inline]
    pub(super) fn set_partial_write(&self, reported: Option<u64>) {
        self.partial_write.store(reported.map_or(0, |reported| reported + 1), Ordering::SeqCst);
    }
}
