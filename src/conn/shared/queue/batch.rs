//! What a writer has taken out of the queue and writes now.
//!
//! Next: [`drive`](super::super::drive), which writes it.

use bytes::Bytes;

/// Up to this many bytes of an empty buffer are kept. A larger one goes back to the allocator.
pub(super) const KEPT: usize = 4 << 10;

/// The bytes of many small jobs, or of one large job.
#[derive(Debug, Default)]
pub(in super::super) struct Batch {
    /// Those of small jobs. Kept for its capacity.
    pub(super) small: Vec<u8>,
    /// Those of a large job. Then there are no small ones.
    pub(super) large: Bytes,
    /// How many of them the stream has taken.
    taken: usize,
}

impl Batch {
    /// What the stream has not taken.
    pub(in super::super) fn rest(&self) -> &[u8] {
        let bytes = if self.large.is_empty() { &self.small[..] } else { &self.large[..] };
        &bytes[self.taken..]
    }

    /// The stream has taken `n` more bytes.
    pub(in super::super) fn advance(&mut self, n: usize) {
        self.taken += n;
    }

    /// Forgets everything.
    pub(in super::super) fn clear(&mut self) {
        self.small.clear();
        self.large = Bytes::new();
        self.taken = 0;
    }

    /// Leaves only the small jobs' bytes that the stream has not taken. A large job is still in the queue.
    pub(super) fn small_rest(&mut self) -> &mut Vec<u8> {
        if self.large.is_empty() {
            self.small.drain(..self.taken);
        }
        self.large = Bytes::new();
        self.taken = 0;
        &mut self.small
    }

    /// Gives the memory of a large buffer back.
    pub(super) fn shrink(&mut self) {
        if self.small.capacity() > KEPT {
            self.small = Vec::new();
        }
    }
}
