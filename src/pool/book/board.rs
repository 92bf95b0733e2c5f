//! What is known of a book without its lock.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

#[derive(Debug, Default)]
pub(in super::super) struct Board {
    next_ticket: Apart<AtomicU64>,
    /// How many wait for a slot.
    for_slot: AtomicUsize,
    is_closed: AtomicBool,
}

/// On a cache line of its own (two of them, as processors fetch pairs): what each one who waits writes shall not take from the
/// others what they only read.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

impl Board {
    /// The place of one who begins to wait, in the order of all who do. Whoever has a later one has seen what was written
    /// before this.
    pub(super) fn next_ticket(&self) -> u64 {
        self.next_ticket.0.fetch_add(1, Ordering::AcqRel)
    }

    /// Whether a connection may go to the next one who waits for it, without a look at who waits elsewhere.
    pub(super) fn is_calm(&self) -> bool {
        self.for_slot.load(Ordering::Acquire) == 0 && !self.is_closed()
    }

    pub(in super::super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    // ===== for one who has locked the book =====

    pub(super) fn set_for_slot(&self, count: usize) {
        self.for_slot.store(count, Ordering::Release);
    }

    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }
}
