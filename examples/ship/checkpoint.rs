//! Which position of the followed file may be kept: the one behind the last line whose fate is known, and that of all before it.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use perconn::outbox::{Outbox, Tally};

use crate::position::Position;

pub(crate) struct Checkpoint {
    path: PathBuf,
    /// Lines that the outbox has accepted: their numbers, and the positions behind them.
    waiting: VecDeque<(u64, Position)>,
    /// To be saved.
    reached: Option<Position>,
}

impl Checkpoint {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, waiting: VecDeque::new(), reached: None }
    }

    pub(crate) fn accepted(&mut self, number: u64, position: Position) {
        self.waiting.push_back((number, position));
    }

    /// Saves how far the outbox has come.
    pub(crate) fn advance(&mut self, outbox: &Outbox) -> io::Result<()> {
        let oldest = outbox.oldest_waiting().unwrap_or(u64::MAX);
        let done = self.waiting.partition_point(|(number, _)| *number < oldest);
        self.settle(done)
    }

    /// Saves how far it has come in the end. What was not sent is read again by the next run; so is what was sent without an
    /// answer, if the server answers.
    pub(crate) fn finish(&mut self, tally: &Tally, has_answers: bool) -> io::Result<()> {
        let again = tally.unsent + if has_answers { tally.in_doubt } else { 0 };
        let again = usize::try_from(again).unwrap_or(usize::MAX);
        self.settle(self.waiting.len().saturating_sub(again))
    }

    fn settle(&mut self, count: usize) -> io::Result<()> {
        self.reached = self.waiting.drain(..count).next_back().map(|(_, position)| position).or(self.reached);
        let Some(reached) = self.reached.take() else { return Ok(()) };
        reached.save(&self.path)
    }
}
