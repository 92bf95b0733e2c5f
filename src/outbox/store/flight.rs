//! Where on the present link each message ends, and how far the link is.
//!
//! Positions count the bytes of one link, from 0. Messages go out in the order of their numbers, so each of these
//! positions stands for a number, too: the highest that ends before it.
//!
//! ```text
//! 0 ... acknowledged ... handed ... begun ... encoded
//!       the peer's       the        the       the batch that
//!       kernel has it    kernel     stream    is being written
//! ```
//!
//! Next: [`answers`](super::answers), what the peer says.

use std::collections::VecDeque;
use std::time::Duration;

use super::run::Run;

/// The progress of a link.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// What was encoded and is not past yet, in order.
    runs: VecDeque<Encoded>,
    /// Bytes that were encoded.
    encoded: u64,
    /// What the stream has taken.
    begun: Progress,
    /// What the kernel has, or a flush has confirmed.
    handed: Progress,
    /// What the peer's kernel has acknowledged.
    acknowledged: Progress,
    /// When the kernel has had the messages up to a number.
    handed_at: VecDeque<(u64, Duration)>,
}

/// A position among the bytes of the link, and the highest number that ends at or before it; 0: none.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// How many bytes.
    bytes: u64,
    /// The number.
    number: u64,
}

/// Messages with consecutive numbers on the wire.
#[derive(Debug)]
struct Encoded {
    /// The number of the first.
    first: u64,
    /// Where the first begins.
    start: u64,
    /// Where each ends, from there on. One that is not sent ends where it begins.
    ends: Vec<u32>,
}

impl Encoded {
    /// Where the last message ends.
    fn end(&self) -> u64 {
        self.start + self.ends.last().map_or(0, |end| u64::from(*end))
    }

    /// How many of the messages end at or before this position.
    fn count_upto(&self, position: u64) -> usize {
        self.ends.partition_point(|end| self.start + u64::from(*end) <= position)
    }

    /// The last message that is sent among the first ones.
    fn last_of(&self, count: usize) -> Option<u64> {
        let is_sent = |index: &usize| self.ends[*index] > index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(self.first + (0..count).rev().find(is_sent)? as u64)
    }
}

impl Flight {
    /// The next messages are on the wire.
    pub(super) fn encoded(&mut self, run: Run) {
        let (first, ends) = run.into_ends();
        let run = Encoded { first, start: self.encoded, ends };
        self.encoded = run.end();
        self.runs.push_back(run);
    }

    /// The stream has taken this many bytes more.
    pub(super) fn wrote(&mut self, len: usize) {
        self.begun = self.at(self.begun, self.begun.bytes + len as u64);
        debug_assert!(self.begun.bytes <= self.encoded);
    }

    /// The kernel has all that the stream has taken.
    pub(super) fn flushed(&mut self, now: Duration) {
        if self.begun.number > self.handed.number {
            self.handed_at.push_back((self.begun.number, now));
        }
        self.handed = self.begun;
    }

    /// The peer's kernel has acknowledged all but this many bytes.
    pub(super) fn acknowledged(&mut self, missing: u64) {
        let bytes = self.acknowledged.bytes.max(self.handed.bytes.saturating_sub(missing)); // rule: acknowledged-to-the-byte
        self.acknowledged = self.at(self.acknowledged, bytes);
    }

    /// Forgets where the messages end that are past: nobody asks for those that the kernel has, or, if `until_acknowledged`,
    /// for those that the peer's kernel has.
    pub(super) fn forget(&mut self, until_acknowledged: bool, oldest_waiting: u64) {
        let past = if until_acknowledged { self.acknowledged.bytes } else { self.handed.bytes };
        while self.runs.front().is_some_and(|run| run.end() <= past) {
            self.runs.pop_front();
        }
        while self.handed_at.front().is_some_and(|(number, _)| *number < oldest_waiting) {
            self.handed_at.pop_front();
        }
    }

    /// The highest number that the stream has taken whole; 0: none.
    pub(super) fn begun(&self) -> u64 {
        self.begun.number
    }

    /// The highest number that the kernel has whole; 0: none.
    pub(super) fn handed(&self) -> u64 {
        self.handed.number
    }

    /// The highest number that the peer's kernel has acknowledged whole; 0: none.
    pub(super) fn acknowledged_number(&self) -> u64 {
        self.acknowledged.number
    }

    /// The message of which the stream has taken the first bytes, and not the last.
    pub(super) fn cut(&self) -> Option<u64> {
        let run = self.runs.iter().find(|run| run.end() > self.begun.bytes)?;
        let index = run.count_upto(self.begun.bytes);
        let start = run.start + index.checked_sub(1).map_or(0, |before| u64::from(run.ends[before]));
        (start < self.begun.bytes).then_some(run.first + index as u64)
    }

    /// When the kernel has had this message whole.
    pub(super) fn handed_at(&self, number: u64) -> Option<Duration> {
        let index = self.handed_at.partition_point(|(upto, _)| *upto < number);
        Some(self.handed_at.get(index)?.1)
    }

    /// How many runs and times are kept.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.runs.len(), self.handed_at.len())
    }

    /// A position that is not before another one.
    fn at(&self, before: Progress, bytes: u64) -> Progress {
        let whole = self.runs.partition_point(|run| run.end() <= bytes);
        let in_part = self.runs.get(whole).and_then(|run| run.last_of(run.count_upto(bytes)));
        let runs = || self.runs.range(..whole).rev();
        let number = in_part.or_else(|| runs().find_map(|run| run.last_of(run.ends.len())));
        Progress { bytes, number: number.map_or(before.number, |number| number.max(before.number)) }
    }
}
