//! Where the messages without a fate lie: what the rules need to know of it.
//!
//! There is one such place, the [memory](super::memory). One on a disk would keep what is pushed until it is settled, and begin
//! with what an earlier run of the program has left.
//!
//! Next: [`MemoryLog`](super::memory::MemoryLog).

use std::fmt;

use super::run::Run;

/// All messages without a fate, in the order of their numbers, and the bytes of those that may have to be sent.
pub(in crate::outbox) trait Log: fmt::Debug {
    /// How many messages have no fate.
    fn waiting(&self) -> usize;

    /// How many messages are kept with their bytes, and how many bytes they have.
    fn kept(&self) -> (usize, usize);

    /// Adds a message with a higher number than all before.
    fn push(&mut self, number: u64, message: &[u8]);

    /// The lowest number without a fate.
    fn oldest(&self) -> Option<u64>;

    /// The lowest number without a fate from this one on.
    fn oldest_from(&self, number: u64) -> Option<u64>;

    /// The number of bytes of this message, if it has no fate.
    fn len_of(&self, number: u64) -> Option<usize>;

    /// Messages from this number on, which has no fate; as many as lie together, up to these bounds, but at least one.
    fn run(&mut self, from: u64, most: usize, most_bytes: usize) -> Option<Run>;

    /// This message has its fate. Returns whether it had none before.
    fn settle(&mut self, number: u64) -> bool;

    /// All messages up to this number have their fate. Returns how many had none before.
    fn settle_through(&mut self, number: u64) -> usize;

    /// The bytes of the messages up to this number are not needed any more.
    fn let_go(&mut self, number: u64);
}
