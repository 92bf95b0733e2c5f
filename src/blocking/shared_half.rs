//! One half of the connection, as all handles share it.
//!
//! Next: [`reading`](super::reading) and [`writing`](super::writing), what a call does with its half.

use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Waker};

use tokio::runtime;

use super::runtime_context::enter_for;
use super::wait::{WakeCounter, poll_unconstrained};
use crate::sync::Mutex;

/// One half of the connection behind a mutex, and the threads that wait for it.
pub(super) struct SharedHalf<H> {
    /// Locked for one poll at a time, never while a call waits. If a stream of the program's own panics in a poll, the
    /// half is sound, so a mutex without poison will do.
    half: Mutex<H>,
    /// The half wakes the waiting threads through it.
    pub(super) wakes: Arc<WakeCounter>,
    /// The same counter as a waker.
    waker: Waker,
    /// The background thread's, for streams that start timers or tasks when they are polled.
    runtime: runtime::Handle,
}

impl<H> SharedHalf<H> {
    /// Takes a half, and the runtime in whose context its stream is polled if need be.
    pub(super) fn new(half: H, runtime: runtime::Handle) -> Self {
        let (wakes, waker) = WakeCounter::new();
        Self { half: Mutex::new(half), wakes, waker, runtime }
    }

    /// Locks the half, for one poll or one question.
    pub(super) fn lock(&self) -> MutexGuard<'_, H> {
        self.half.lock()
    }

    /// Polls a half over a stream of type `S`, in the runtime's context if the stream may need that.
    #[inline]
    pub(super) fn poll<S: 'static, T>(&self, poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let _context = enter_for::<S>(&self.runtime);
        poll_unconstrained(&self.waker, poll)
    }
}
