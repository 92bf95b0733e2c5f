//! The simplest log, to see that the rules need no more of one than [`Log`] says.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::log::Log;
use super::super::run::Run;

/// A map from numbers to messages. A run is one message.
#[derive(Debug, Default)]
pub(super) struct SimpleLog {
    messages: BTreeMap<u64, Vec<u8>>,
    gone: u64,
}

impl Log for SimpleLog {
    fn waiting(&self) -> usize {
        self.messages.len()
    }

    fn kept(&self) -> (usize, usize) {
        let kept = self.messages.range(self.gone + 1..);
        kept.fold((0, 0), |(messages, bytes), (_, message)| (messages + 1, bytes + message.len()))
    }

    fn push(&mut self, number: u64, message: &[u8]) {
        self.messages.insert(number, message.to_vec());
    }

    fn oldest(&self) -> Option<u64> {
        self.oldest_from(0)
    }

    fn oldest_from(&self, number: u64) -> Option<u64> {
        self.messages.range(number..).next().map(|(number, _)| *number)
    }

    fn len_of(&self, number: u64) -> Option<usize> {
        self.messages.get(&number).map(Vec::len)
    }

    fn run(&mut self, from: u64, _most: usize, _most_bytes: usize) -> Option<Run> {
        let message = self.messages.get(&from).filter(|_| from > self.gone)?;
        Some(Run::new(from, Bytes::copy_from_slice(message), vec![message.len() as u32]))
    }

    fn settle(&mut self, number: u64) -> bool {
        self.messages.remove(&number).is_some()
    }

    fn settle_through(&mut self, number: u64) -> usize {
        let before = self.messages.len();
        self.messages.retain(|waiting, _| *waiting > number);
        before - self.messages.len()
    }

    fn let_go(&mut self, number: u64) {
        self.gone = self.gone.max(number);
    }
}
