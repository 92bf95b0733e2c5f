//! Who asks for a link.
//!
//! Next: [`inner`](super::inner), which gives links out.

use tokio::time::Instant;

/// The two directions in which a handle can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Reads, and the wait of `Sessions` for a link.
    Read,
    /// Writes, flushes and shutdowns.
    Write,
}

/// A handle that asks for a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimant {
    /// The direction whose waker is stored if it has to wait.
    pub(crate) direction: Direction,
    /// Whether the handle is one of two halves.
    pub(crate) is_half: bool,
    /// The time now, if the handle waits for a link that follows a short one to settle.
    pub(crate) settles: Option<Instant>,
}

impl Claimant {
    /// Whether this handle reads from the links that it takes.
    pub(super) fn reads(self) -> bool {
        self.direction == Direction::Read || !self.is_half
    }
}
