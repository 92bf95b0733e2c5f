//! The desk of a resource: who has its connection, and who waits for it.
//!
//! A desk has a lock of its own, so that users of different resources meet only where a slot changes hands, in the
//! [book](super). Under its own lock alone, people begin to wait here while somebody has the entry, they fetch what they were
//! granted or go away, and a connection that comes back is handed to the next of them. All else, and each change of
//! [`Phase`], needs the lock of the book as well, which is taken first.
//!
//! In the middle of what is done under the book's lock, a desk's may be free for a moment. Whoever comes in then finds the
//! entry claimed, and joins the others who wait, or has to wait for the book.

use std::collections::VecDeque;
use std::sync::MutexGuard;
use std::task::Waker;

use slab::Slab;

use super::board::Board;
use super::waiter::{Answer, Cancelled, Grant, Waiter};
use crate::pool::CloseReason;
use crate::sync::Mutex;

/// A desk with its lock.
#[derive(Debug)]
pub(in super::super) struct DeskLock<L, F>(Mutex<Desk<L, F>>);

#[derive(Debug)]
pub(in super::super) struct Desk<L, F> {
    pub(super) phase: Phase,
    /// The connection is closed before it has another user.
    pub(super) closes: bool,
    /// The resource is gone.
    pub(super) is_gone: bool,
    /// How often a connection has come back that had been open before it was lent.
    pub(super) reused: u64,
    waiters: Slab<Waiter<L, F>>,
    /// Those who wait for the entry, with their tickets: the oldest first.
    row: VecDeque<(u64, usize)>,
    /// The one who has the entry and waits for a slot.
    for_slot: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody has it, and no connection is open.
    Empty,
    /// Somebody has it: to use its connection, to open one, or to close it.
    Claimed,
    /// Its connection is open, and nobody uses it.
    Idle,
}

/// What becomes of a connection that comes back.
pub(super) enum Back {
    /// It has its next user, who is to be woken.
    Handed(Option<Waker>),
    /// Nobody waits: it is idle.
    Idle,
    Close(CloseReason),
}

/// What becomes of an entry whose user leaves it without a connection.
pub(super) enum Left {
    /// The one with this ticket has it, and needs a slot.
    Taken(u64),
    Empty,
    /// Nobody will ask for it again.
    Gone,
}

impl<L, F> DeskLock<L, F> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Desk {
            phase: Phase::Empty,
            closes: false,
            is_gone: false,
            reused: 0,
            waiters: Slab::new(),
            row: VecDeque::new(),
            for_slot: None,
        }))
    }

    pub(in super::super) fn lock(&self) -> MutexGuard<'_, Desk<L, F>> {
        // Nothing of a user's runs while it is held, so that nothing panics.
        self.0.lock()
    }
}

impl<L, F> Desk<L, F> {
    // ===== under its own lock =====

    /// Somebody wants the connection while another one has it: with a waker, which is taken, he waits. `None`: nobody has it,
    /// and the book has to be asked.
    pub(in super::super) fn ask(&mut self, board: &Board, waker: &mut Option<Waker>) -> Option<Answer<L, F>> {
        let Phase::Claimed = self.phase else { return None };
        let waker @ Some(_) = waker.take() else { return Some(Answer::Busy) };
        let ticket = board.next_ticket();
        let waiter = self.waiters.insert(Waiter { ticket, waker, grant: None });
        self.row.push_back((ticket, waiter));
        Some(Answer::Wait(waiter))
    }

    /// A connection that comes back has its next user, if that can be known here: returns whom to wake.
    pub(in super::super) fn hand_over(&mut self, board: &Board, was_reused: bool) -> Option<Option<Waker>> {
        if self.closes || self.is_gone || !board.is_calm() {
            return None;
        }
        let (_, waiter) = self.row.pop_front()?;
        self.reused += u64::from(was_reused);
        Some(self.grant(waiter, Grant::Reuse))
    }

    pub(in super::super) fn is_waited_for(&self) -> bool {
        !self.row.is_empty()
    }

    /// One who was granted something at once fetches it later.
    pub(in super::super) fn defer(&mut self, grant: Grant<L, F>) -> usize {
        self.waiters.insert(Waiter { ticket: 0, waker: None, grant: Some(grant) })
    }

    /// What one who waits was granted, if anything.
    pub(in super::super) fn fetch(&mut self, waiter: usize) -> Option<Grant<L, F>> {
        self.waiters[waiter].grant.as_ref()?;
        match self.waiters.remove(waiter).grant {
            Some(Grant::Reuse) if std::mem::take(&mut self.closes) => Some(Grant::Replace),
            grant => grant,
        }
    }

    /// Whether this is the waker of one who waits.
    pub(in super::super) fn is_woken_by(&self, waiter: usize, waker: &Waker) -> bool {
        self.waiters[waiter].waker.as_ref().is_some_and(|current| current.will_wake(waker))
    }

    /// Replaces the waker of one who has been granted nothing yet, and gives back the other.
    pub(in super::super) fn set_waker(&mut self, waiter: usize, waker: Waker) -> Option<Waker> {
        self.waiters[waiter].waker.replace(waker)
    }

    /// One who waits does not want to any more. If he has been granted something meanwhile, that is still his own. His waker
    /// is given back. `None`: he waits for a slot, and the book has to be told.
    pub(in super::super) fn cancel(&mut self, waiter: usize) -> Option<Cancelled<L, F>> {
        if self.for_slot == Some(waiter) {
            return None;
        }
        let Waiter { ticket, waker, grant } = self.waiters.remove(waiter);
        if grant.is_none() {
            let place = self.row.binary_search_by_key(&ticket, |(ticket, _)| *ticket);
            place.ok().and_then(|place| self.row.remove(place));
        }
        Some((grant, waker))
    }

    /// All who wait for the entry get nothing. Returns whom to wake.
    pub(in super::super) fn fail_waiters(&mut self, reason: impl Fn() -> F) -> Vec<Waker> {
        let row = std::mem::take(&mut self.row);
        row.into_iter().filter_map(|(_, waiter)| self.grant(waiter, Grant::Failed(reason()))).collect()
    }

    /// One who has the entry and a slot begins to open a connection. What was scheduled before was for another one.
    pub(in super::super) fn begin_dial(&mut self) {
        self.closes = false;
    }

    pub(super) fn waiting(&self) -> usize {
        self.row.len() + usize::from(self.for_slot.is_some())
    }

    #[cfg(test)]
    pub(super) fn first_ticket(&self) -> u64 {
        self.first_here()
    }

    #[cfg(test)]
    pub(super) fn check_tickets(&self) {
        assert!(self.row.iter().is_sorted());
        assert!(self.row.iter().all(|(ticket, waiter)| self.waiters[*waiter].ticket == *ticket));
        assert!(self.for_slot.is_none_or(|waiter| self.waiters[waiter].grant.is_none()));
    }

    // ===== under the lock of the book, too =====

    /// One who takes the entry waits for a slot. Returns his ticket and his number.
    pub(super) fn wait_for_slot(&mut self, board: &Board, waker: Waker) -> (u64, usize) {
        self.phase = Phase::Claimed;
        let ticket = board.next_ticket();
        let waiter = self.waiters.insert(Waiter { ticket, waker: Some(waker), grant: None });
        self.for_slot = Some(waiter);
        (ticket, waiter)
    }

    /// The one who waits for a slot gets it, or nothing. Returns whom to wake.
    pub(super) fn end_wait_for_slot(&mut self, grant: Grant<L, F>) -> Option<Waker> {
        let waiter = self.for_slot.take()?;
        self.grant(waiter, grant)
    }

    /// The one who waits for a slot does not want it any more. Returns his ticket and his waker.
    pub(super) fn cancel_for_slot(&mut self) -> Option<(u64, Option<Waker>)> {
        let Waiter { ticket, waker, .. } = self.waiters.remove(self.for_slot.take()?);
        Some((ticket, waker))
    }

    /// A connection comes back. Of those who wait for a slot elsewhere, the first has this ticket.
    pub(super) fn put(&mut self, is_closed: bool, first_elsewhere: u64) -> Back {
        if is_closed || self.is_gone {
            return Back::Close(CloseReason::Gone);
        }
        if std::mem::take(&mut self.closes) {
            return Back::Close(CloseReason::Scheduled);
        }
        if first_elsewhere < self.first_here() {
            return Back::Close(CloseReason::Evicted);
        }
        match self.row.pop_front() {
            Some((_, waiter)) => Back::Handed(self.grant(waiter, Grant::Reuse)),
            None => {
                self.phase = Phase::Idle;
                Back::Idle
            }
        }
    }

    /// One leaves the entry without a connection: the next one who waits for it has it, and needs a slot.
    pub(super) fn leave(&mut self) -> Left {
        self.closes = false;
        if let Some((ticket, waiter)) = self.row.pop_front() {
            self.for_slot = Some(waiter);
            return Left::Taken(ticket);
        }
        self.phase = Phase::Empty;
        if self.is_gone { Left::Gone } else { Left::Empty }
    }

    fn first_here(&self) -> u64 {
        self.row.front().map_or(u64::MAX, |(ticket, _)| *ticket)
    }

    fn grant(&mut self, waiter: usize, grant: Grant<L, F>) -> Option<Waker> {
        let waiter = &mut self.waiters[waiter];
        waiter.grant = Some(grant);
        waiter.waker.take()
    }
}
