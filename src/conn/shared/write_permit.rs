//! The right to write on the link, and what goes from hand to hand with it.

use std::task::Waker;

use super::queue::NextWrite;
use crate::conn::WriteHalf;

/// The right to write on the link, and what is needed for it.
pub(super) struct WritePermit<S> {
    pub(super) half: WriteHalf<S>,
    /// What was taken out of the queue, and how much of it the stream has taken.
    pub(super) buffer: Vec<u8>,
    pub(super) offset: usize,
    pub(super) next_write: NextWrite,
    /// The stream may have bytes that the kernel has not.
    pub(super) is_unflushed: bool,
    /// The link after which those in the queue were told that there is none.
    pub(super) waited_after: u64,
    /// Whom to wake when the lock is released.
    pub(super) wakers: Vec<Waker>,
}

impl<S> WritePermit<S> {
    pub(super) fn new(half: WriteHalf<S>) -> Self {
        Self {
            half,
            buffer: Vec::new(),
            offset: 0,
            next_write: NextWrite::Rest,
            is_unflushed: false,
            waited_after: 0,
            wakers: Vec::new(),
        }
    }

    /// The stream has taken `n` bytes of this turn.
    pub(super) fn advance(&mut self, n: usize, is_all: bool) {
        match &mut self.next_write {
            NextWrite::Caller(_, begun) => *begun += n,
            NextWrite::Write | NextWrite::Rest => self.offset += n,
        }
        if is_all {
            self.next_write = NextWrite::Rest;
        }
    }

    /// Leaves what the stream has not taken in the buffer.
    pub(super) fn drop_written(&mut self) {
        self.buffer.drain(..self.offset);
        (self.offset, self.next_write) = (0, NextWrite::Rest);
    }

    /// Whether the stream may have bytes that the kernel has not.
    pub(super) fn is_unflushed(&self) -> bool {
        self.is_unflushed
    }

    /// The caller that wrote its bytes itself has gone.
    pub(super) fn forget_turn(&mut self) {
        self.next_write = NextWrite::Rest;
    }
}
