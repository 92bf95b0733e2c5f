//! The number of bytes that have passed over one link.
//!
//! Next: [`fault`](crate::fault), which carries the count to the event hook.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the bytes of one link in each direction.
///
/// Only one handle adds to each direction, so a load and a store replace a locked addition. The two counters are a
/// cache line apart because reader and writer may run on different cores.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct ByteCount {
    /// Added to by the reading handle only.
    read: Counter,
    /// Keeps the counters on different cache lines of 64 bytes.
    _padding: [u64; 7],
    /// Added to by the writing handle only.
    written: Counter,
}

/// A counter with a single writer and any number of readers.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    /// Adds to the counter. Must not run on two threads at once.
    #[inline]
    fn add(&self, n: usize) {
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(n as u64);
        self.0.store(sum, Ordering::Relaxed);
    }
}

impl ByteCount {
    /// The reading handle has read `n` bytes.
    #[inline]
    pub(crate) fn add_read(&self, n: usize) {
        self.read.add(n);
    }

    /// The writing handle has written `n` bytes.
    #[inline]
    pub(crate) fn add_written(&self, n: usize) {
        self.written.add(n);
    }

    /// Bytes read so far.
    pub(crate) fn read(&self) -> u64 {
        self.read.0.load(Ordering::Relaxed)
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.0.load(Ordering::Relaxed)
    }
}
