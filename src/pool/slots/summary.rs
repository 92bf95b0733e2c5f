//! What can be known of a slot table without its lock.
//!
//! A caller that waits for a slot first counts itself here and then draws its number. A caller that reads a higher
//! number has therefore seen the count.
//!
//! Next: [`Entry::hand_over`](super::Entry::hand_over), which relies on that.

use std::sync::atomic::Ordering;

use crate::sync::modelled::{AtomicBool, AtomicU64, AtomicUsize};

/// The part of a slot table that the locks of its entries do not cover.
#[derive(Debug, Default)]
pub(in crate::pool) struct Summary {
    /// The next sequence number.
    next_seq: CachePadded<AtomicU64>,
    /// How many callers wait for a slot.
    slot_waiters: AtomicUsize,
    /// Nothing is granted any more.
    is_closed: AtomicBool,
}

/// A value on a cache line of its own (128 bytes, as processors fetch lines in pairs): each waiter writes it, and that
/// must not slow down those who only read what lies beside it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct CachePadded<T>(T);

impl Summary {
    /// Draws the sequence number of a waiter. A caller that draws a higher one sees everything that was written before
    /// this.
    pub(super) fn next_seq(&self) -> u64 {
        self.next_seq.0.fetch_add(1, Ordering::AcqRel) // rule: number-shows-what-was-announced
    }

    /// Whether an entry may give its connection to its first waiter without asking the table.
    pub(super) fn allows_hand_over(&self) -> bool {
        self.slot_waiters.load(Ordering::Acquire) == 0 && !self.is_closed()
    }

    /// Whether the table was closed.
    #[inline]
    pub(in crate::pool) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    // ===== under the table's lock =====

    /// Announces how many callers wait for a slot.
    pub(super) fn set_slot_waiters(&self, count: usize) {
        self.slot_waiters.store(count, Ordering::Release);
    }

    /// Announces that the table is closed.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }
}
