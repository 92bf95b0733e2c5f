//! The bytes that have passed over one link.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the bytes of one link.
///
/// Each direction has one handle that adds to it, so a load and a store do for what would otherwise be a locked
/// addition; and they are a cache line apart, as reader and writer may be on different cores.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct ByteCount {
    read: Counter,
    _apart: [u64; 7],
    written: Counter,
}

#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    #[inline]
    fn add(&self, n: usize) {
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(n as u64);
        self.0.store(sum, Ordering::Relaxed);
    }
}

impl ByteCount {
    #[inline]
    pub(crate) fn add_read(&self, n: usize) {
        self.read.add(n);
    }

    #[inline]
    pub(crate) fn add_written(&self, n: usize) {
        self.written.add(n);
    }

    pub(crate) fn read(&self) -> u64 {
        self.read.0.load(Ordering::Relaxed)
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.0.load(Ordering::Relaxed)
    }
}
