//! Messages with consecutive numbers on their way to the wire.
//!
//! Next: [`Codec::encode`](crate::outbox::codec::Codec::encode), which makes the bytes of the wire of them.

use bytes::Bytes;

/// Messages with consecutive numbers, one behind the other.
#[derive(Debug)]
pub(in crate::outbox) struct Run {
    /// The number of the first.
    first: u64,
    /// Their bytes.
    bytes: Bytes,
    /// Where each of them ends in these. Once it is encoded: where it ends on the wire, from the start of the run.
    ends: Vec<u32>,
}

impl Run {
    /// Messages that are not encoded.
    pub(super) fn new(first: u64, bytes: Bytes, ends: Vec<u32>) -> Self {
        debug_assert_eq!(ends.last().map(|end| *end as usize), Some(bytes.len()));
        Self { first, bytes, ends }
    }

    /// The number of the first message.
    pub(in crate::outbox) fn first(&self) -> u64 {
        self.first
    }

    /// How many there are.
    pub(in crate::outbox) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of all of them, as the program gave them.
    pub(in crate::outbox) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Encodes them one by one: `encode` gets the number and the bytes of each, and returns where it ends on the wire. It
    /// ends where the one before it ends if it is not sent. With `None`, this one and those after it are not on the wire.
    pub(in crate::outbox) fn encode(&mut self, mut encode: impl FnMut(u64, &[u8]) -> Option<u32>) {
        let mut start = 0;
        for index in 0..self.ends.len() {
            let end = self.ends[index];
            match encode(self.first + index as u64, &self.bytes[start..end as usize]) {
                Some(wire_end) => self.ends[index] = wire_end,
                None => return self.ends.truncate(index),
            }
            start = end as usize;
        }
    }

    /// Where each of them ends on the wire, from the start of the run.
    pub(super) fn into_ends(self) -> (u64, Vec<u32>) {
        (self.first, self.ends)
    }
}
