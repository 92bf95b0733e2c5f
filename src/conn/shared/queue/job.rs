//! One job of the queue.

use std::task::Waker;

/// From this size on, a job's bytes are not copied: its caller writes them when its turn comes. (Up to here, a copy costs
/// less than another system call.)
const LARGE: usize = 16 << 10;

/// What became of a job.
#[derive(Debug)]
pub(in super::super) enum Outcome<F> {
    Pending,
    Done,
    Failed(F),
    Abandoned,
}

pub(super) struct Job {
    pub(super) number: u64,
    pub(super) length: usize,
    pub(super) place: Place,
    /// Whether somebody waits for the outcome.
    pub(super) has_caller: bool,
    pub(super) waker: Option<Waker>,
}

/// Where a job's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// With its caller, who waits for a place.
    Outside,
    Copied,
    /// With its caller, who writes them when the turn comes.
    Large,
}

impl Place {
    pub(super) fn of(bytes: &[u8]) -> Self {
        if bytes.len() < LARGE { Self::Copied } else { Self::Large }
    }
}

/// What a writer does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum NextWrite {
    /// Write what is in its buffer.
    Write,
    /// The caller of this job writes its bytes itself, from this one on.
    Caller(u64, usize),
    /// There is nothing to write.
    Rest,
}
