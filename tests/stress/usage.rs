//! What the process has taken and not given back: heap, descriptors, tasks.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::runtimes::Places;

/// The system's allocator, with a count of the live bytes.
struct CountingAllocator;

static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: passes every call on to the system's allocator.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// How much more of the heap may be in use after a round than after the warm-up.
///
/// The connections give everything back. This is for the runtimes, which free the registrations of closed sockets in
/// batches: at most some hundred bytes are seen. As it is the same after hundreds of rounds as after one, no byte that is
/// kept for each link, or for each connection, can hide in it.
pub(crate) const HEAP_TOLERANCE: isize = 8 * 1024;

/// How long the last tasks and sockets of a round may take to go.
const SETTLING: Duration = Duration::from_secs(10);

/// What the process uses at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Open descriptors; 0 where the platform does not say.
    pub(crate) descriptors: usize,
    /// Tasks of both runtimes.
    pub(crate) tasks: usize,
    /// Live bytes.
    pub(crate) heap: isize,
}

impl Usage {
    pub(crate) fn now(places: &Places) -> Self {
        // The look itself opens one.
        let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1));
        Self { descriptors, tasks: places.alive_tasks(), heap: LIVE_BYTES.load(Ordering::Relaxed) }
    }

    /// The usage as soon as it is back at `start`, or after [`SETTLING`].
    pub(crate) async fn settled(places: &Places, start: &Self) -> Self {
        let begin = Instant::now();
        loop {
            let usage = Self::now(places);
            if usage.is_back_at(start) || begin.elapsed() > SETTLING {
                return usage;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn is_back_at(&self, start: &Self) -> bool {
        self.descriptors <= start.descriptors && self.tasks <= start.tasks && self.heap <= start.heap + HEAP_TOLERANCE
    }
}
