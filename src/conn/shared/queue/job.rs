//! One job of the queue.
//!
//! Next: [`drive`](super::super::drive), which writes the jobs.

use std::task::Waker;

/// From this size on, a job's bytes are not copied: its caller writes them when its turn comes.
///
/// Below it, a copy costs less than another system call.
const LARGE: usize = 16 << 10;

/// What became of a job.
#[derive(Debug)]
pub(in super::super) enum Outcome<F> {
    /// It is still in the queue.
    Pending,
    /// The kernel has all its bytes.
    Done,
    /// A break has cut it, or `when_down` lets no job wait.
    Failed(F),
    /// The queue was closed before the job was sent.
    Closed,
}

/// One call of `write_all` in the queue.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// With the caller, which waits to be admitted.
    Waiting,
    /// In the queue's buffer.
    Copied,
    /// With the caller, which writes them when its turn comes.
    Large,
}

impl Storage {
    /// Where the bytes of an admitted job belong.
    pub(super) fn of(bytes: &[u8]) -> Self {
        if bytes.len() < LARGE { Self::Copied } else { Self::Large }
    }
}

/// What a writer does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum NextWrite {
    /// Write what is in its buffer.
    Buffer,
    /// The caller of this job writes its bytes itself. The stream has taken the first `written` of them.
    Caller { number: u64, written: usize },
    /// There is nothing to write.
    Nothing,
}
