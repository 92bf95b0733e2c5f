//! The permit to write on the link, and the state that goes with it.
//!
//! Next: [`drive`](super::drive), what the owner of the permit does with it.

use std::task::Waker;

use super::queue::NextWrite;
use crate::conn::WriteHalf;

/// The permit to write on the link, with the state that goes from owner to owner.
///
/// There is one for each `SharedConn`. It is in [`WriterState`](super::writer::WriterState) while nothing writes.
/// Otherwise one caller or the write task owns it.
pub(super) struct WritePermit<S> {
    /// The half that all jobs are written through.
    pub(super) half: WriteHalf<S>,
    /// What was taken out of the queue.
    pub(super) buffer: Vec<u8>,
    /// How much of the buffer the stream has taken.
    pub(super) offset: usize,
    /// What was taken out of the queue and is not written yet.
    pub(super) next_write: NextWrite,
    /// Whether the stream may hold bytes that the kernel does not have.
    pub(super) is_unflushed: bool,
    /// The link after which `when_down` was last applied to the queue: once for each outage.
    pub(super) applied_after: u64,
    /// The tasks to wake when the lock is released. Kept for its capacity.
    pub(super) wakers: Vec<Waker>,
}

impl<S> WritePermit<S> {
    /// The permit to write through this half.
    pub(super) fn new(half: WriteHalf<S>) -> Self {
        Self {
            half,
            buffer: Vec::new(),
            offset: 0,
            next_write: NextWrite::Nothing,
            is_unflushed: false,
            applied_after: 0,
            wakers: Vec::new(),
        }
    }

    /// Breaks the link after its stream has panicked in a write: it is not known what the stream has taken.
    pub(super) fn break_link(&self) {
        self.half.break_link(self.half.used());
    }

    /// Forgets what was to be written next: its caller gives the permit back.
    pub(super) fn forget_next_write(&mut self) {
        self.next_write = NextWrite::Nothing;
    }

    /// The stream has taken `n` more bytes, which may be all.
    pub(super) fn advance(&mut self, n: usize, is_all: bool) {
        match &mut self.next_write {
            NextWrite::Caller { written, .. } => *written += n,
            NextWrite::Buffer | NextWrite::Nothing => self.offset += n,
        }
        if is_all {
            self.next_write = NextWrite::Nothing;
        }
    }

    /// Leaves in the buffer only what the stream has not taken.
    pub(super) fn drop_written(&mut self) {
        self.buffer.drain(..self.offset);
        (self.offset, self.next_write) = (0, NextWrite::Nothing);
    }
}
