//! One job: its bytes, where they are, and what becomes of it.
//!
//! Next: [`batch`](super::batch), what a writer takes out of the queue.

use std::task::Waker;

use bytes::Bytes;

/// From this size on, the bytes of a job are not put together with those of others.
///
/// Below it, a copy costs less than another system call.
const LARGE: usize = 16 << 10;

/// The bytes of a call that has not handed them over.
#[derive(Debug)]
pub(in super::super) enum Payload<'a> {
    /// The caller's own.
    Borrowed(&'a [u8]),
    /// The job's own.
    Owned(Bytes),
}

impl Payload<'_> {
    /// All of them.
    #[inline]
    pub(in super::super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }

    /// Whether the bytes must be copied for a large job. A caller does that without a lock.
    #[inline]
    pub(in super::super) fn is_costly_to_hand_over(&self) -> bool {
        matches!(self, Self::Borrowed(bytes) if bytes.len() >= LARGE)
    }

    /// Copies the caller's own bytes.
    pub(in super::super) fn make_owned(&mut self) {
        if let Self::Borrowed(bytes) = self {
            *self = Self::Owned(Bytes::copy_from_slice(bytes));
        }
    }

    /// What a job in the queue keeps that goes on after `written` bytes. Copies many borrowed bytes, so no lock should
    /// be held then.
    pub(in super::super) fn rest(&self, written: usize) -> Rest<'_> {
        let bytes = match self {
            _ if self.as_slice().len() < LARGE => return Rest::Small(&self.as_slice()[written..]),
            Self::Borrowed(bytes) => Bytes::copy_from_slice(&bytes[written..]),
            Self::Owned(bytes) => bytes.slice(written..),
        };
        Rest::Large(bytes)
    }
}

/// The bytes that a call hands over to the queue.
#[derive(Debug)]
pub(in super::super) enum Rest<'a> {
    /// Few: the queue copies them into its buffer.
    Small(&'a [u8]),
    /// Many: they stay apart.
    Large(Bytes),
}

/// One call of `write_all` or `write_bytes` in the queue.
pub(super) struct Job {
    /// Its position in the order of all jobs.
    pub(super) number: u64,
    /// How many bytes it has.
    pub(super) length: usize,
    /// Where its bytes are.
    pub(super) storage: Storage,
    /// Whether a caller waits for the outcome.
    pub(super) has_caller: bool,
    /// The caller's waker.
    pub(super) waker: Option<Waker>,
}

/// Where a job's bytes are.
#[derive(Debug)]
pub(super) enum Storage {
    /// With the caller, which waits to be admitted.
    Waiting,
    /// In the queue's buffer.
    Buffer,
    /// Here, from this position in the job on.
    Apart(Bytes, usize),
}

impl Storage {
    /// Whether the bytes are in the queue's buffer.
    pub(super) fn is_buffer(&self) -> bool {
        matches!(self, Self::Buffer)
    }
}

/// What became of a job.
#[derive(Debug)]
pub(in super::super) enum Outcome<F> {
    /// It is still in the queue.
    Pending,
    /// The kernel has all its bytes.
    Done {
        /// The link that they are on.
        generation: u64,
    },
    /// A break has cut it, or `when_down` lets no job wait.
    Failed(F),
    /// The queue was closed before the job was sent.
    Closed,
}
