//! What a change of the queue leaves to do when the lock is released.
//!
//! Next: [`job`](super::job), a single job.

use std::task::Waker;

use bytes::Bytes;

use super::KEPT_JOBS;
use super::job::{Job, Storage};
use crate::panics::{ignore, wake};

/// What a change of the queue leaves to do when the lock is released: wakers and bytes may be the program's own types.
#[derive(Default)]
pub(in super::super) struct Deferred {
    /// The tasks to wake.
    pub(super) wakers: Vec<Waker>,
    /// The bytes to drop.
    bytes: Vec<Bytes>,
}

impl Deferred {
    /// A job has left the queue.
    pub(super) fn add(&mut self, job: Job) {
        self.wakers.extend(job.waker);
        if let Storage::Apart(bytes, _) = job.storage {
            self.bytes.push(bytes);
        }
    }

    /// Wakes and drops. The memory is kept for the next time.
    #[inline]
    pub(in super::super) fn run(&mut self) {
        self.wakers.drain(..).for_each(wake);
        self.bytes.drain(..).for_each(|bytes| ignore(|| drop(bytes)));
    }

    /// Gives the memory of a crowd back.
    pub(in super::super) fn shrink(&mut self) {
        if self.wakers.capacity() > KEPT_JOBS {
            *self = Self::default();
        }
    }
}
