//! The permit to write on the link, and the state that goes with it.
//!
//! Next: [`drive`](super::drive), what the owner of the permit does with it.

use super::queue::{Batch, Deferred};
use crate::conn::WriteHalf;

/// The permit to write on the link, with the state that goes from owner to owner.
///
/// There is one for each `SharedConn`. It is in [`WriterState`](super::writer::WriterState) while nothing writes.
/// Otherwise the write task owns it, or, for a single poll, a caller.
pub(super) struct WritePermit<S> {
    /// The half that all jobs are written through.
    pub(super) half: WriteHalf<S>,
    /// What was taken out of the queue.
    pub(super) batch: Batch,
    /// Whether the stream may hold bytes that the kernel does not have.
    pub(super) is_unflushed: bool,
    /// The link after which `when_down` was last applied to the queue: once for each outage.
    pub(super) applied_after: u64,
    /// What to do when the lock is released. Kept for its capacity.
    pub(super) deferred: Deferred,
}

impl<S> WritePermit<S> {
    /// The permit to write through this half.
    pub(super) fn new(half: WriteHalf<S>) -> Self {
        Self { half, batch: Batch::default(), is_unflushed: false, applied_after: 0, deferred: Deferred::default() }
    }

    /// Breaks the link after its stream has panicked in a write: it is not known what the stream has taken.
    pub(super) fn break_link(&self) {
        self.half.break_link(self.half.used());
    }
}
