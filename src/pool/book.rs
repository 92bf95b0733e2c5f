//! The book of a pool: who has which slot, and who waits. No I/O, no clock.
//!
//! A *slot* is the right to one open connection. A resource has an *entry*, and with it a [desk]. Whoever wants its connection
//! *claims* the entry, which one at a time can have, and then, unless a connection is open, needs a slot: a free one, or that
//! of the connection which has been idle for longest. Everyone who has to wait has a *ticket*, and of all whom something
//! serves that becomes free, the one with the oldest ticket gets it. So nobody is overtaken, neither at an entry nor between
//! entries.
//!
//! While somebody waits for a slot, there is neither a free slot nor an idle connection; or connections are being closed for
//! all who wait.
//!
//! There are two kinds of locks: the book's, and one of each desk. Who needs both takes the book's first. Under a desk's lock
//! alone a connection goes from one user to the next, and the book need not know. So that nobody is overtaken who waits for
//! a slot, he says on the [board] that he does, and draws his ticket after that: whoever has a later one, at whatever desk, has
//! seen it. While there is anything on the board, the book decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use slab::Slab;
use tokio::time::Instant;

pub(super) use self::board::Board;
use self::desk::{Back, DeskLock, Left, Phase};
use self::idle::{Idle, Rest};
pub(super) use self::waiter::{Answer, Cancelled, Grant, Taken};
use super::CloseReason;

mod board;
mod desk;
mod idle;
#[cfg(test)]
mod tests;
mod waiter;

/// What the book knows an open connection by, while nobody uses it.
pub(super) trait Parked {
    /// The connection itself.
    type Live;

    /// Takes it out, to be closed.
    fn take(&self) -> Self::Live;
}

pub(super) type DeskOf<P, F> = DeskLock<<P as Parked>::Live, F>;

pub(super) struct Book<P: Parked, F> {
    max: usize,
    free: usize,
    /// Slots whose connections are being closed.
    releasing: usize,
    entries: Slab<Entry<P, F>>,
    idle: Idle,
    /// The entries of those who have one and wait for a slot, by ticket.
    for_slot: BTreeMap<u64, usize>,
    board: Arc<Board>,
    /// Of resources that are gone.
    reused: u64,
}

struct Entry<P: Parked, F> {
    desk: Arc<DeskOf<P, F>>,
    /// While its connection is idle.
    rest: Option<Rest<P>>,
}

/// What becomes of a connection that is brought back.
pub(super) enum Put {
    /// It is idle, or has its next user, who is to be woken.
    Kept(Option<Waker>),
    /// It has to be closed, for this reason, and then the entry [released](Book::release).
    Close(CloseReason),
}

/// How the slots are used at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) max: usize,
    pub(super) in_use: usize,
    pub(super) idle: usize,
    pub(super) releasing: usize,
    pub(super) waiting: usize,
    /// How often a connection has come back that had been open before it was lent.
    pub(super) reused: u64,
}

impl<P: Parked, F> Book<P, F> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            free: max,
            releasing: 0,
            entries: Slab::new(),
            idle: Idle::default(),
            for_slot: BTreeMap::new(),
            board: Arc::default(),
            reused: 0,
        }
    }

    pub(super) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    pub(super) fn add_entry(&mut self) -> (usize, Arc<DeskOf<P, F>>) {
        let desk = Arc::new(DeskLock::new());
        let entry = self.entries.insert(Entry { desk: Arc::clone(&desk), rest: None });
        (entry, desk)
    }

    /// Somebody wants the connection of an entry, or a slot to open it; with a waker, which is taken, he waits if need
    /// be. (A waker is the program's own code: none is cloned or dropped here.)
    pub(super) fn ask(&mut self, entry: usize, waker: &mut Option<Waker>) -> Answer<P::Live, F> {
        let has_slot = self.free > 0 || self.idle.count > 0;
        let mut desk = self.entries[entry].desk.lock();
        if let Some(answer) = desk.ask(&self.board, waker) {
            return answer;
        }
        if desk.phase == Phase::Idle {
            desk.phase = Phase::Claimed;
            drop(desk);
            self.unpark(entry);
            return Answer::Now(Grant::Reuse);
        }
        if has_slot {
            desk.phase = Phase::Claimed;
            drop(desk);
            return Answer::Now(Grant::Slot(self.take_slot()));
        }
        let Some(waker) = waker.take() else { return Answer::Busy };
        self.board.set_for_slot(self.for_slot.len() + 1);
        let (ticket, waiter) = desk.wait_for_slot(&self.board, waker);
        self.for_slot.insert(ticket, entry);
        Answer::Wait(waiter)
    }

    /// One who waits for a slot does not want to any more, unless it has been granted meanwhile.
    pub(super) fn cancel(&mut self, entry: usize, waiter: usize) -> Cancelled<P::Live, F> {
        let mut desk = self.entries[entry].desk.lock();
        if let Some(cancelled) = desk.cancel(waiter) {
            return cancelled;
        }
        let cancelled = desk.cancel_for_slot();
        drop(desk);
        let Some((ticket, waker)) = cancelled else { return (None, None) };
        self.for_slot.remove(&ticket);
        self.leave(entry);
        (None, waker)
    }

    /// A connection comes back, to be used again.
    pub(super) fn put(&mut self, entry: usize, parked: P, since: Option<Instant>, was_reused: bool) -> Put {
        let first_elsewhere = self.for_slot.first_key_value().map_or(u64::MAX, |(ticket, _)| *ticket);
        let mut desk = self.entries[entry].desk.lock();
        desk.reused += u64::from(was_reused);
        let back = desk.put(self.board.is_closed(), first_elsewhere);
        drop(desk);
        match back {
            Back::Handed(next) => Put::Kept(next),
            Back::Idle => {
                self.park(entry, parked, since);
                Put::Kept(None)
            }
            Back::Close(reason) => {
                self.releasing += 1;
                Put::Close(reason)
            }
        }
    }

    /// A connection is to be closed whose user still has the entry.
    pub(super) fn begin_release(&mut self, entry: usize, was_reused: bool) {
        let mut desk = self.entries[entry].desk.lock();
        desk.closes = false;
        desk.reused += u64::from(was_reused);
        self.releasing += 1;
    }

    /// One who had an entry and a slot gives both back. Returns whom to wake.
    pub(super) fn release(&mut self, entry: usize, was_releasing: bool) -> Option<Waker> {
        self.releasing -= usize::from(was_releasing);
        self.leave(entry);
        self.return_slot()
    }

    /// The connection that was taken out of the book for another entry is closed; its slot stays there. Whoever has waited for
    /// that needs a slot now: returns whom to wake, or another connection, to be closed for him.
    pub(super) fn evicted(&mut self, entry: usize) -> (Option<Waker>, Option<Taken<P::Live>>) {
        self.releasing -= 1;
        self.leave(entry);
        if self.for_slot.is_empty() {
            (None, None)
        } else if self.free > 0 {
            self.free -= 1;
            (self.return_slot(), None)
        } else {
            (None, self.take_any_idle())
        }
    }

    /// The connection of an entry shall be closed: the one that is returned, now; one that somebody has, before the next one
    /// has it.
    pub(super) fn schedule_close(&mut self, entry: usize) -> Option<Taken<P::Live>> {
        let mut desk = self.entries[entry].desk.lock();
        // (If there is none, and nobody opens one, it is forgotten when somebody does.)
        desk.closes = desk.phase == Phase::Claimed;
        drop(desk);
        self.take_idle(entry)
    }

    /// The resource is gone; nobody asks for it any more. Returns its connection, to be closed.
    pub(super) fn remove_entry(&mut self, entry: usize) -> Option<Taken<P::Live>> {
        let mut desk = self.entries[entry].desk.lock();
        desk.is_gone = true;
        let is_empty = desk.phase == Phase::Empty;
        drop(desk);
        if is_empty {
            self.forget(entry);
            return None;
        }
        self.schedule_close(entry)
    }

    /// The connection that has been idle for longest, if that is since before `then`.
    pub(super) fn take_idle_since(&mut self, then: Instant) -> Option<Taken<P::Live>> {
        let oldest = self.idle.oldest?;
        if self.oldest_since()? <= then { self.take_idle(oldest) } else { None }
    }

    /// Since when the connection has been idle that has been for longest, if that was noted.
    pub(super) fn oldest_since(&self) -> Option<Instant> {
        self.entries[self.idle.oldest?].rest.as_ref()?.since
    }

    /// Some idle connection, to be closed.
    pub(super) fn take_any_idle(&mut self) -> Option<Taken<P::Live>> {
        let oldest = self.idle.oldest?;
        self.take_idle(oldest)
    }

    pub(super) fn idle_count(&self) -> usize {
        self.idle.count
    }

    /// Nobody gets anything any more. Returns whom to wake.
    pub(super) fn close(&mut self, reason: impl Fn() -> F) -> Vec<Waker> {
        // (Before any desk is locked: who comes to one later must see it.)
        self.board.close();
        let desks = self.entries.iter().map(|(_, entry)| &entry.desk);
        let mut wakers: Vec<_> = desks.flat_map(|desk| desk.lock().fail_waiters(&reason)).collect();
        for entry in std::mem::take(&mut self.for_slot).into_values() {
            wakers.extend(self.entries[entry].desk.lock().end_wait_for_slot(Grant::Failed(reason())));
            self.leave(entry);
        }
        wakers
    }

    /// Takes time in proportion to the number of resources.
    pub(super) fn counts(&self) -> Counts {
        let (mut waiting, mut reused) = (0, self.reused);
        for (_, entry) in &self.entries {
            let desk = entry.desk.lock();
            waiting += desk.waiting();
            reused += desk.reused;
        }
        Counts {
            max: self.max,
            in_use: self.max - self.free - self.idle.count - self.releasing,
            idle: self.idle.count,
            releasing: self.releasing,
            waiting,
            reused,
        }
    }

    // ===== entries =====

    /// One leaves an entry without a connection.
    fn leave(&mut self, entry: usize) {
        let left = self.entries[entry].desk.lock().leave();
        match left {
            Left::Taken(ticket) => {
                self.for_slot.insert(ticket, entry);
            }
            Left::Empty => {}
            Left::Gone => self.forget(entry),
        }
        self.board.set_for_slot(self.for_slot.len());
    }

    fn forget(&mut self, entry: usize) {
        let Entry { desk, .. } = self.entries.remove(entry);
        self.reused += desk.lock().reused;
    }

    // ===== slots =====

    /// For one who knows that there is one.
    fn take_slot(&mut self) -> Option<Taken<P::Live>> {
        match self.free.checked_sub(1) {
            Some(free) => {
                self.free = free;
                None
            }
            None => self.take_any_idle(),
        }
    }

    fn return_slot(&mut self) -> Option<Waker> {
        let Some((_, entry)) = self.for_slot.pop_first() else {
            self.free += 1;
            return None;
        };
        self.board.set_for_slot(self.for_slot.len());
        self.entries[entry].desk.lock().end_wait_for_slot(Grant::Slot(None))
    }
}
