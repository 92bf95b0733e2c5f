//! The messages in the memory of this process.
//!
//! Next: [`Chunk`], in which they lie.

use std::collections::VecDeque;

use super::chunk::Chunk;
use super::log::Log;
use super::run::Run;
use super::shrink::shrink;

/// Room for this many chunks is kept.
const KEPT_CAPACITY: usize = 64;

/// Messages without a fate, in chunks. Each chunk has at least one.
#[derive(Debug, Default)]
pub(in crate::outbox) struct MemoryLog {
    /// In ascending order of the numbers. Only the last can be open.
    chunks: VecDeque<Chunk>,
    /// How many messages have no fate.
    waiting: usize,
    /// How many of them have no bytes any more.
    bare: usize,
    /// How many bytes the others have.
    kept_bytes: usize,
    /// The bytes of the messages up to this number are gone.
    gone: u64,
    /// How much the last full chunk had: bytes and messages.
    like: (usize, usize),
}

impl Log for MemoryLog {
    fn waiting(&self) -> usize {
        self.waiting
    }

    #[inline]
    fn kept(&self) -> (usize, usize) {
        (self.waiting - self.bare, self.kept_bytes)
    }

    #[inline]
    fn push(&mut self, number: u64, message: &[u8]) {
        self.waiting += 1;
        self.kept_bytes += message.len();
        if !self.chunks.back_mut().is_some_and(|chunk| chunk.push(number, message)) {
            self.push_chunk(number, message);
        }
    }

    fn oldest(&self) -> Option<u64> {
        self.chunks.front()?.next_waiting(0)
    }

    fn oldest_from(&self, number: u64) -> Option<u64> {
        let index = self.index_of(number);
        let of_its_own = self.chunks.get(index)?.next_waiting(number);
        of_its_own.or_else(|| self.chunks.get(index + 1)?.next_waiting(0))
    }

    fn len_of(&self, number: u64) -> Option<usize> {
        self.chunks.get(self.index_of(number))?.len_of(number)
    }

    fn run(&mut self, from: u64, most: usize, most_bytes: usize) -> Option<Run> {
        let index = self.index_of(from);
        Some(self.chunks.get_mut(index)?.run(from, most, most_bytes))
    }

    fn settle(&mut self, number: u64) -> bool {
        let index = self.index_of(number);
        let Some(chunk) = self.chunks.get_mut(index) else { return false };
        let Some(len) = chunk.settle(number) else { return false };
        self.waiting -= 1;
        if number > self.gone {
            self.kept_bytes -= len; // rule: bytes-are-given-back
        } else {
            self.bare -= 1;
        }
        if chunk.waiting().0 == 0 {
            self.remove(index);
        } else if index > 0 {
            // The first is on its way out, message by message.
            chunk.compact();
        }
        true
    }

    fn settle_through(&mut self, number: u64) -> usize {
        self.let_go(number);
        let before = self.waiting;
        while let Some(chunk) = self.chunks.front_mut() {
            let settled = chunk.settle_through(number);
            self.waiting -= settled;
            self.bare -= settled;
            if chunk.waiting().0 > 0 {
                break;
            }
            self.remove(0);
        }
        before - self.waiting
    }

    fn let_go(&mut self, number: u64) {
        if number <= self.gone {
            return;
        }
        let first = self.index_of(self.gone);
        for chunk in self.chunks.range_mut(first..) {
            if chunk.first() > number {
                break;
            }
            let (messages, bytes) = if self.gone < chunk.first() && chunk.last() <= number {
                chunk.waiting()
            } else {
                let some = (self.gone + 1).max(chunk.first())..=number.min(chunk.last());
                let lengths = some.filter_map(|number| chunk.len_of(number));
                lengths.fold((0, 0), |(messages, bytes), len| (messages + 1, bytes + len))
            };
            self.bare += messages;
            self.kept_bytes -= bytes;
            if chunk.last() <= number {
                chunk.let_go();
            }
        }
        self.gone = number;
    }
}

impl MemoryLog {
    /// Adds a chunk for this message.
    #[cold]
    fn push_chunk(&mut self, number: u64, message: &[u8]) {
        // A program that goes on as before needs as much again.
        let (bytes, messages) = self.chunks.back().map_or(self.like, Chunk::size);
        self.like = (bytes, messages);
        let mut chunk = Chunk::new(number, (bytes.max(message.len()), messages));
        let is_in = chunk.push(number, message);
        debug_assert!(is_in);
        self.chunks.push_back(chunk);
    }

    /// Removes a chunk whose messages all have their fate.
    fn remove(&mut self, index: usize) {
        let removed = if index == 0 { self.chunks.pop_front() } else { self.chunks.remove(index) };
        if let Some(chunk) = removed.filter(|_| self.chunks.is_empty()) {
            self.like = chunk.size();
        }
        shrink(&mut self.chunks, KEPT_CAPACITY);
    }

    /// The index of the chunk of this number, or of the next one.
    fn index_of(&self, number: u64) -> usize {
        // Nearly always the first.
        match self.chunks.front() {
            Some(chunk) if number > chunk.last() => self.chunks.partition_point(|chunk| chunk.last() < number),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some messages of 100 bytes from number 1 on.
    fn log(messages: u64) -> MemoryLog {
        let mut log = MemoryLog::default();
        (1..=messages).for_each(|number| log.push(number, &[b'x'; 100]));
        log
    }

    #[test]
    fn log_gives_its_memory_back_after_a_burst() {
        let mut log = MemoryLog::default();
        for number in 1..=100_000 {
            // Each with a chunk of its own.
            log.push(2 * number, b"x");
        }
        assert!(log.chunks.capacity() >= 100_000);
        assert_eq!(log.kept(), (100_000, 100_000));
        assert_eq!(log.settle_through(199_990), 99_995);
        assert_eq!((log.waiting(), log.kept()), (5, (5, 5)));
        assert!(log.chunks.capacity() <= 4 * KEPT_CAPACITY, "{}", log.chunks.capacity());
    }

    #[test]
    fn a_queued_message_costs_four_bytes_more_than_it_has() {
        let log = log(100_000);
        let bytes: usize = log.chunks.iter().map(|chunk| chunk.size().0 + 4 * chunk.size().1).sum();
        assert_eq!(bytes, 100_000 * 104);
        assert!(log.chunks.len() <= 100_000 * 100 / (CHUNK_BYTES - 100) + 1, "{}", log.chunks.len());
    }

    #[test]
    fn messages_in_the_middle_may_have_their_fate_first() {
        let mut log = log(3_000);
        (1_000..2_000).for_each(|number| assert!(log.settle(number)));
        assert!(!log.settle(1_500));
        assert_eq!(log.oldest(), Some(1));
        assert_eq!(log.oldest_from(1_000), Some(2_000));
        let run = log.run(900, 1_000, CHUNK_BYTES).expect("waits");
        assert_eq!((run.first(), run.len(), run.bytes().len()), (900, 100, 10_000));
        assert_eq!(log.settle_through(2_500), 1_500);
        assert_eq!((log.oldest(), log.waiting()), (Some(2_501), 500));
    }

    #[test]
    fn bytes_of_a_message_are_given_back_once() {
        let mut log = log(3);
        log.let_go(1);
        assert_eq!((log.waiting(), log.kept()), (3, (2, 200)));
        log.let_go(2);
        assert_eq!((log.waiting(), log.kept()), (3, (1, 100)));
    }

    #[test]
    fn messages_that_are_answered_late_keep_no_memory_of_others() {
        const MESSAGES: u64 = 100_000;
        let mut log = log(MESSAGES);
        // All but a few of each chunk, in any order.
        let is_late = |number: &u64| number % 250 == 0;
        let mut next = 1;
        while let Some(run) = log.run(next, usize::MAX, CHUNK_BYTES).filter(|run| run.first() == next) {
            next += run.len() as u64;
            if next > MESSAGES {
                break;
            }
        }
        (1..=MESSAGES).rev().filter(|number| !is_late(number)).for_each(|number| assert!(log.settle(number)));
        let late: Vec<u64> = (1..=MESSAGES).filter(is_late).collect();
        assert_eq!((log.waiting(), log.kept()), (late.len(), (late.len(), 100 * late.len())));
        let memory: usize = log.chunks.iter().map(Chunk::memory).sum();
        // Two chunks as they were; four bytes for each message between those that are late; and four times what these have.
        let limit = 2 * CHUNK_BYTES + 4 * (MESSAGES as usize + 100 * late.len());
        assert!(memory < limit, "{memory} for {} messages", late.len());
        for number in late {
            let run = log.run(number, usize::MAX, CHUNK_BYTES).expect("waits");
            assert_eq!((run.first(), run.len(), &run.bytes()[..]), (number, 1, &[b'x'; 100][..]));
        }
    }

    use super::super::chunk::CHUNK_BYTES;
}
