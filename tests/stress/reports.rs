//! The breaks that one handle has reported: each once, in order, and none left out.
//!
//! Next: [`jobs`](crate::jobs), what is promised of the bytes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use perconn::Error;

use crate::play::Play;
use crate::totals::{Count, count};

/// A handle that has missed more breaks reports the oldest one that is remembered.
const REMEMBERED: u64 = 16;

/// What the outcome of a call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The link broke.
    Break,
    /// A link broke whose break the other direction has reported before. It means nothing for the link in use.
    Again,
    /// There is no link now.
    NoLink,
    /// The connection has ended.
    End,
}

/// In which direction a whole connection has reported a break.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// The reports of one handle.
///
/// A whole connection is one handle with two directions. If a future of one direction was dropped, and the other one
/// has reported the break of its link, the next call in the first direction reports it once more, perhaps after newer
/// breaks. Each direction by itself reports each break at most once and in order.
pub(crate) struct Reports {
    play: Arc<Play>,
    /// The newest break that was reported.
    last: u64,
    /// The newest break that each [`Direction`] of a whole connection has reported.
    last_in: [u64; 2],
}

impl Reports {
    /// A handle that says it has reported the breaks up to `last`.
    pub(crate) fn new(play: &Arc<Play>, last: u64) -> Self {
        Self { play: Arc::clone(play), last, last_in: [last; 2] }
    }

    /// The handle says that it has reported, or given up, the links up to `last`.
    pub(crate) fn skip_to(&mut self, last: u64) {
        if last < self.last {
            self.play.fail(format_args!("last_reported() goes back from {} to {last}", self.last));
        }
        self.last = last;
        self.last_in = [last; 2];
    }

    /// A call has failed. `newest` is the number of the newest link.
    pub(crate) fn error(&mut self, error: &io::Error, newest: impl FnOnce() -> u64) -> News {
        match news(&self.play, error) {
            (News::Break, generation) => self.report(generation, newest()),
            (news, _) => return news,
        }
        News::Break
    }

    /// The same for a whole connection, which may report a break once more after a dropped future.
    pub(crate) fn error_in(&mut self, direction: Direction, error: &io::Error, newest: impl FnOnce() -> u64) -> News {
        match news(&self.play, error) {
            (News::Break, generation) => self.report_in(direction, generation, newest()),
            (news, _) => news,
        }
    }

    /// A read has returned `Ok(0)`. `last_reported` is what the handle says then.
    pub(crate) fn end_of_stream(&mut self, last_reported: u64, newest: u64) {
        self.last_in[Direction::Read as usize] = last_reported;
        self.report(last_reported, newest);
    }

    fn report_in(&mut self, direction: Direction, generation: u64, newest: u64) -> News {
        let last_in = std::mem::replace(&mut self.last_in[direction as usize], generation);
        if generation <= self.last && generation > last_in {
            count(Count::Repeats);
            return News::Again;
        }
        self.report(generation, newest);
        News::Break
    }

    fn report(&mut self, generation: u64, newest: u64) {
        let last = self.last;
        count(Count::Reports);
        if generation <= last {
            self.play.fail(format_args!("the break of link {generation} is reported after that of {last}"));
        }
        if generation > last + 1 && newest + 1 < generation + REMEMBERED {
            self.play.fail(format_args!("of link {newest}, no break between {last} and {generation} is reported"));
        }
        if self.play.is_calm(generation) {
            self.play.fail(format_args!("link {generation} broke in the calm"));
        }
        self.last = generation;
    }
}

/// What an error means, and the number of the link that broke.
pub(crate) fn news(play: &Play, error: &io::Error) -> (News, u64) {
    match Error::of(error) {
        Some(Error::IoError { generation, .. }) => (News::Break, *generation),
        Some(Error::Down { .. } | Error::WaitTimeout { .. }) => (News::NoLink, 0),
        Some(Error::ClosedConnection) if play.may_end.load(Ordering::Relaxed) => (News::End, 0),
        _ => play.fail(format_args!("an unexpected error: {error:?}")),
    }
}
