//! One who waits, and what he gets.

use std::task::Waker;

#[derive(Debug)]
pub(super) struct Waiter<L, F> {
    pub(super) ticket: u64,
    pub(super) waker: Option<Waker>,
    pub(super) grant: Option<Grant<L, F>>,
}

/// What one has who does not wait any more: what he was granted, and his waker.
pub(in super::super) type Cancelled<L, F> = (Option<Grant<L, F>>, Option<Waker>);

/// What one who asks for an entry gets.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Grant<L, F> {
    /// The entry, with its connection.
    Reuse,
    /// The same, but the connection has to be closed, and is to be replaced.
    Replace,
    /// The entry and a slot; if there is a connection with it, it has to be closed first.
    Slot(Option<Taken<L>>),
    /// Nothing, and why.
    Failed(F),
}

/// An idle connection that was taken out of the book, to be closed. Its entry is claimed until that is done: who asks for it
/// meanwhile waits, and never opens another one beside it.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Taken<L> {
    pub(in super::super) live: L,
    pub(in super::super) entry: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Answer<L, F> {
    Now(Grant<L, F>),
    /// It has to wait. This is its number among those who do.
    Wait(usize),
    /// It would have to wait, and does not want to.
    Busy,
}
