//! The messages that are not on their way, in the order of their numbers.
//!
//! Next: [`flight`](super::flight), where they go.

use std::collections::VecDeque;

use bytes::Bytes;

/// A message without a fate.
#[derive(Debug)]
pub(super) struct Message {
    /// Its number.
    pub(super) number: u64,
    /// What the program gave.
    pub(super) bytes: Bytes,
    /// Whether a stream has taken it whole on an earlier link. Then nobody can say that it has not arrived.
    pub(super) was_handed: bool,
}

/// A queue that knows how many bytes it holds.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// In ascending order of the numbers.
    messages: VecDeque<Message>,
    /// The length of all messages.
    bytes: usize,
}

/// Room for this many messages is kept.
const KEPT_CAPACITY: usize = 1024;

impl Queue {
    /// Appends a new message.
    pub(super) fn push_back(&mut self, message: Message) {
        self.bytes += message.bytes.len();
        self.messages.push_back(message);
    }

    /// Puts a message back that was taken before all others.
    pub(super) fn push_front(&mut self, message: Message) {
        self.bytes += message.bytes.len();
        self.messages.push_front(message);
    }

    /// Takes the oldest message.
    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.bytes.len();
        Some(message)
    }

    /// Whether most of the memory is not used. While messages pass, a queue goes up and down: to give the memory back at
    /// once would mean to ask for it again.
    pub(super) fn has_excess(&self) -> bool {
        let capacity = self.messages.capacity();
        capacity > KEPT_CAPACITY && self.messages.len() < capacity / 4
    }

    /// Gives the memory back that is not used.
    pub(super) fn trim(&mut self) {
        self.messages.shrink_to((self.messages.len() * 2).max(KEPT_CAPACITY));
    }

    /// The oldest message.
    pub(super) fn front(&self) -> Option<&Message> {
        self.messages.front()
    }

    /// How many messages there are.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many bytes they have.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_gives_its_memory_back_after_a_burst() {
        let mut queue = Queue::default();
        for number in 0..100_000 {
            queue.push_back(Message { number, bytes: Bytes::from_static(b"x"), was_handed: false });
        }
        assert_eq!((queue.len(), queue.bytes()), (100_000, 100_000));
        while queue.pop_front().is_some() {}
        assert_eq!(queue.bytes(), 0);
        assert!(queue.has_excess());
        queue.trim();
        assert!(!queue.has_excess());
        assert!(queue.messages.capacity() <= 2 * KEPT_CAPACITY, "{}", queue.messages.capacity());
    }
}
