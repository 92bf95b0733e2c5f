//! Messages with consecutive numbers, one behind the other in one piece of memory.
//!
//! Next: [`Log`](super::log::Log), which holds the chunks.

use bytes::Bytes;

use super::run::Run;

/// How many bytes a chunk has at most, unless a single message has more: those of one write.
pub(super) const CHUNK_BYTES: usize = super::BATCH_BYTES;

/// A chunk with less memory than this is left as it is. (Less in tests, so that small schedules get there.)
const SMALL: usize = if cfg!(test) { 64 } else { 4 * 1024 };

/// The mark in `ends` of a message that has its fate. No message is as long as this.
const SETTLED: u32 = 1 << 31;

/// Some messages. Some of them may have their fate.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The number of the first.
    first: u64,
    /// Their bytes.
    body: Body,
    /// Where each of them ends in the body; with the mark once it has its fate.
    ends: Vec<u32>,
    /// How many of the first have their fate.
    settled_prefix: usize,
    /// How many have their fate, and how many bytes those have.
    settled: (usize, usize),
}

/// The bytes of a chunk.
#[derive(Debug)]
enum Body {
    /// Messages can be added.
    Open(Vec<u8>),
    /// A writer may have a part of it.
    Sealed(Bytes),
    /// They are not needed any more.
    Gone,
}

impl Chunk {
    /// An empty chunk, with room for as much as another one has needed.
    pub(super) fn new(first: u64, like: (usize, usize)) -> Self {
        Self {
            first,
            body: Body::Open(Vec::with_capacity(like.0)),
            ends: Vec::with_capacity(like.1),
            settled_prefix: 0,
            settled: (0, 0),
        }
    }

    /// How many bytes and messages it has.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.ends.last().map_or(0, |end| position(*end)), self.ends.len())
    }

    /// Adds a message if it has room for it and this number is the next. Returns whether it has.
    #[inline]
    pub(super) fn push(&mut self, number: u64, message: &[u8]) -> bool {
        let Body::Open(body) = &mut self.body else { return false };
        let end = body.len() + message.len();
        if number != self.first + self.ends.len() as u64 || end > CHUNK_BYTES && !body.is_empty() {
            return false;
        }
        body.extend_from_slice(message);
        self.ends.push(end as u32);
        true
    }

    /// The number of the first message.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number of the last message.
    pub(super) fn last(&self) -> u64 {
        self.first + self.ends.len() as u64 - 1
    }

    /// How many messages have no fate, and how many bytes they have.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let (bytes, messages) = self.size();
        (messages - self.settled.0, bytes - self.settled.1)
    }

    /// The first message without a fate from this number on.
    pub(super) fn next_waiting(&self, from: u64) -> Option<u64> {
        let from = (from.saturating_sub(self.first) as usize).max(self.settled_prefix);
        let index = from + self.ends.get(from..)?.iter().position(|end| end & SETTLED == 0)?;
        Some(self.first + index as u64)
    }

    /// The number of bytes of this message, if it has no fate.
    pub(super) fn len_of(&self, number: u64) -> Option<usize> {
        let index = number.checked_sub(self.first)? as usize;
        let end = *self.ends.get(index)?;
        (end & SETTLED == 0).then(|| end as usize - self.start(index))
    }

    /// This message has its fate. Returns how many bytes it has, if it had none before.
    pub(super) fn settle(&mut self, number: u64) -> Option<usize> {
        let len = self.len_of(number)?;
        let index = (number - self.first) as usize;
        self.ends[index] |= SETTLED;
        self.settled.0 += 1;
        self.settled.1 += len;
        if index == self.settled_prefix {
            let more = self.ends[index..].iter().take_while(|end| *end & SETTLED != 0).count();
            self.settled_prefix += more;
        }
        Some(len)
    }

    /// All messages up to this number have their fate. Returns how many had none before.
    pub(super) fn settle_through(&mut self, number: u64) -> usize {
        let (before, _) = self.waiting();
        if self.last() <= number {
            let (bytes, messages) = self.size();
            self.settled = (messages, bytes);
            return before;
        }
        while let Some(oldest) = self.next_waiting(0).filter(|oldest| *oldest <= number) {
            self.settle(oldest);
        }
        before - self.waiting().0
    }

    /// Its messages from `from` on, as far as they follow each other without a fate between them, up to these bounds.
    /// `from` has no fate, and is taken whatever its length.
    pub(super) fn run(&mut self, from: u64, most: usize, most_bytes: usize) -> Run {
        if let Body::Open(open) = &mut self.body {
            self.body = Body::Sealed(Bytes::from(std::mem::take(open)));
        }
        let Body::Sealed(body) = &self.body else { unreachable!("taken after it was let go of") };
        let index = (from - self.first) as usize;
        let start = self.start(index);
        let is_in = |end: &&u32| **end & SETTLED == 0 && **end as usize <= start + most_bytes;
        let count = self.ends[index..].iter().take(most).take_while(is_in).count().max(1);
        let ends = &self.ends[index..index + count];
        let bytes = body.slice(start..position(ends[count - 1]));
        Run::new(from, bytes, ends.iter().map(|end| end - start as u32).collect())
    }

    /// Gives the memory of the messages with a fate back, if that is most of it.
    pub(super) fn compact(&mut self) {
        let Body::Sealed(body) = &self.body else { return };
        let (waiting, bytes) = self.waiting();
        let is_sparse = 4 * bytes <= body.len() && 4 * waiting <= self.ends.len();
        if !is_sparse || self.memory() < SMALL {
            return;
        }
        let is_waiting = |end: &u32| end & SETTLED == 0;
        let past_last = self.ends.iter().rposition(is_waiting).map_or(0, |last| last + 1);
        let kept = self.settled_prefix..past_last;
        let mut compacted = Self::new(self.first + kept.start as u64, (0, kept.len()));
        compacted.settled.0 = kept.len() - waiting;
        let mut kept_bytes = Vec::with_capacity(bytes);
        for index in kept {
            let end = self.ends[index];
            if is_waiting(&end) {
                kept_bytes.extend_from_slice(&body[self.start(index)..position(end)]); // rule: late-message-keeps-its-bytes
            }
            compacted.ends.push(kept_bytes.len() as u32 | end & SETTLED);
        }
        compacted.body = Body::Sealed(Bytes::from(kept_bytes));
        *self = compacted;
    }

    /// Drops the bytes. No message is taken any more.
    pub(super) fn let_go(&mut self) {
        self.body = Body::Gone;
    }

    /// How much memory it takes, but for itself.
    pub(super) fn memory(&self) -> usize {
        let body = match &self.body {
            Body::Open(body) => body.capacity(),
            Body::Sealed(body) => body.len(),
            Body::Gone => 0,
        };
        body + 4 * self.ends.capacity()
    }

    /// Where the message at this index begins.
    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| position(self.ends[before]))
    }
}

/// The position in an entry of `ends`.
fn position(end: u32) -> usize {
    (end & !SETTLED) as usize
}
