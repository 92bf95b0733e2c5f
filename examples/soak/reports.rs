//! The breaks that a handle has reported, checked against the first promise: each one once, in order, and before the
//! handle touches the next link.

use std::io;
use std::sync::Arc;

use perconn::{Conn, Error, ReadHalf, WriteHalf};

use crate::account::Account;
use crate::totals::{BreakKind, HandleKind};

/// What an operation's outcome means to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The link broke; this was its generation.
    Break(u64),
    /// The exception for whole connections: known already.
    Again,
    /// There is no link now.
    NoLink,
    /// There will not be another.
    Over,
}

#[derive(Clone, Copy)]
pub(crate) enum Direction {
    Read,
    Write,
}

pub(crate) struct Reports {
    account: Arc<Account>,
    kind: HandleKind,
    /// The newest generation whose break was reported.
    newest: u64,
    /// The directions of a whole connection in which a call was cancelled, or has written only a part. The next call may
    /// report the break of its link once more.
    partial: [bool; 2],
    /// The newest generation that was reported once more, by direction.
    repeated: [u64; 2],
}

/// What the three kinds of handle have in common.
pub(crate) trait Handle {
    const KIND: HandleKind;
    /// The number of the newest link, and whether it is up.
    fn newest(&self) -> (u64, bool);
}

macro_rules! handle {
    ($($name:ident: $kind:ident),*) => { $(impl Handle for $name {
        const KIND: HandleKind = HandleKind::$kind;

        fn newest(&self) -> (u64, bool) {
            (self.generation(), self.is_connected())
        }
    })* };
}
handle!(Conn: Whole, ReadHalf: ReadHalf, WriteHalf: WriteHalf);

impl Reports {
    pub(crate) fn new<H: Handle>(_: &H, account: &Arc<Account>) -> Self {
        Self { account: Arc::clone(account), kind: H::KIND, newest: 0, partial: [false; 2], repeated: [0; 2] }
    }

    /// The link that the next operation will use, or whose break it will report.
    pub(crate) fn current(&self) -> u64 {
        self.newest + 1
    }

    /// An operation was dropped, or did a part of its work.
    pub(crate) fn mark_partial(&mut self, direction: Direction) {
        self.partial[direction as usize] = matches!(self.kind, HandleKind::Whole);
    }

    /// An operation came to its end.
    pub(crate) fn complete(&mut self, direction: Direction) {
        self.partial[direction as usize] = false;
    }

    /// A read returned `Ok(0)`.
    pub(crate) fn end_of_stream<H: Handle>(&mut self, handle: &H) -> Outcome {
        self.complete(Direction::Read);
        self.learn(self.current(), BreakKind::PeerClosed, handle)
    }

    /// An operation failed.
    pub(crate) fn error<H: Handle>(&mut self, error: &io::Error, direction: Direction, handle: &H) -> Outcome {
        let was_partial = std::mem::take(&mut self.partial[direction as usize]);
        match Error::of(error) {
            Some(Error::IoError { generation, .. }) if *generation <= self.newest && was_partial => {
                self.account.count(|totals| totals.reports[self.kind as usize].repeated += 1);
                let before = std::mem::replace(&mut self.repeated[direction as usize], *generation);
                if before >= *generation {
                    self.account
                        .violation(format_args!("generation {generation} was reported once more after {before}"));
                }
                Outcome::Again
            }
            Some(Error::IoError { generation, .. }) => self.learn(*generation, BreakKind::of(error.kind()), handle),
            Some(Error::Down { .. } | Error::WaitTimeout { .. }) => Outcome::NoLink,
            Some(Error::ClosedConnection) => Outcome::Over,
            _ => {
                self.account.violation(format_args!("an unexpected error: {error:?}"));
                Outcome::Over
            }
        }
    }

    fn learn<H: Handle>(&mut self, generation: u64, kind: BreakKind, handle: &H) -> Outcome {
        let expected = self.current();
        let slept = generation.saturating_sub(expected);
        // The last 16 breaks are remembered, of which this is the oldest.
        let is_remembered = slept == 0 || handle.newest().0 < generation + 15;
        if generation < expected || (slept > 0 && is_remembered) {
            let name = HandleKind::NAMES[self.kind as usize];
            self.account.violation(format_args!(
                "the {name} reported generation {generation} ({kind:?}) instead of {expected}"
            ));
        }
        self.account.mark_broken(generation);
        self.account.count(|totals| {
            let reports = &mut totals.reports[self.kind as usize];
            reports.reports[kind as usize] += 1;
            reports.slept_through += slept;
        });
        self.newest = self.newest.max(generation);
        Outcome::Break(generation)
    }

    /// The connection is closed.
    pub(crate) fn finish(&self) {
        let broken = self.account.newest_break();
        let untold = broken.saturating_sub(self.newest);
        if self.newest > broken {
            self.account.violation(format_args!("reported generation {}, but {broken} broke last", self.newest));
        }
        self.account.count(|totals| totals.reports[self.kind as usize].closed_first += untold);
    }
}
