//! The book of a pool: who has which slot, and who waits. No I/O, no clock.
//!
//! A *slot* is the right to one open connection. A resource has an *entry*. Whoever wants its connection *claims* the entry,
//! which one at a time can have, and then, unless a connection is open, needs a slot: a free one, or that of the
//! connection which has been idle for longest. Everyone who has to wait has a *ticket*, and of all whom something serves
//! that becomes free, the one with the oldest ticket gets it. So nobody is overtaken, neither at an entry nor between
//! entries.
//!
//! While somebody waits for a slot, there is neither a free slot nor an idle connection; or connections are being closed for
//! all who wait.

use std::collections::BTreeMap;
use std::task::Waker;

use slab::Slab;
use tokio::time::Instant;

use self::entry::{Entry, Phase};
use self::idle::Idle;
use self::waiter::Waiter;
pub(super) use self::waiter::{Answer, Grant, Taken};
use super::Why;

mod entry;
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

pub(super) struct Book<P: Parked, F> {
    max: usize,
    free: usize,
    /// Slots whose connections are being closed.
    releasing: usize,
    entries: Slab<Entry<P>>,
    idle: Idle,
    waiters: Slab<Waiter<P, F>>,
    /// How many of these have been granted something, and have not fetched it yet.
    granted: usize,
    /// Those who have their entry and wait for a slot, by ticket.
    for_slot: BTreeMap<u64, usize>,
    next_ticket: u64,
    is_closed: bool,
    /// How often a connection has come back that had been open before it was lent.
    pub(super) reused: u64,
}

/// What becomes of a connection that is brought back.
pub(super) enum Put {
    /// It is idle, or has its next user, who is to be woken.
    Kept(Option<Waker>),
    /// It has to be closed, for this reason, and then the entry [released](Book::release).
    Close(Why),
}

/// How the slots are used at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) max: usize,
    pub(super) in_use: usize,
    pub(super) idle: usize,
    pub(super) releasing: usize,
    pub(super) waiting: usize,
}

impl<P: Parked, F> Book<P, F> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            free: max,
            releasing: 0,
            entries: Slab::new(),
            idle: Idle::default(),
            waiters: Slab::new(),
            granted: 0,
            for_slot: BTreeMap::new(),
            next_ticket: 0,
            is_closed: false,
            reused: 0,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(super) fn add_entry(&mut self) -> usize {
        self.entries.insert(Entry { phase: Phase::Empty, waiters: BTreeMap::new(), closes: false, is_gone: false })
    }

    /// Somebody wants the connection of an entry, or a slot to open it; with a waker, which is taken, he waits if need
    /// be. (A waker is the program's own code: none is cloned or dropped here.)
    pub(super) fn ask(&mut self, entry: usize, waker: &mut Option<Waker>) -> Answer<P::Live, F> {
        match &self.entries[entry].phase {
            Phase::Idle { .. } => {
                self.unpark(entry);
                self.entries[entry].phase = Phase::Claimed;
                Answer::Now(Grant::Reuse)
            }
            Phase::Claimed => {
                let waker @ Some(_) = waker.take() else { return Answer::Busy };
                let (ticket, waiter) = self.add_waiter(entry, false, waker);
                self.entries[entry].waiters.insert(ticket, waiter);
                Answer::Wait(waiter)
            }
            Phase::Empty => {
                if let Some(slot) = self.take_slot() {
                    self.entries[entry].phase = Phase::Claimed;
                    return Answer::Now(slot);
                }
                let waker @ Some(_) = waker.take() else { return Answer::Busy };
                self.entries[entry].phase = Phase::Claimed;
                let (ticket, waiter) = self.add_waiter(entry, true, waker);
                self.for_slot.insert(ticket, waiter);
                Answer::Wait(waiter)
            }
        }
    }

    /// One who was granted something at once fetches it later.
    pub(super) fn defer(&mut self, entry: usize, grant: Grant<P::Live, F>) -> usize {
        let (_, waiter) = self.add_waiter(entry, true, None);
        self.grant(waiter, grant);
        waiter
    }

    /// What one who waits was granted, if anything.
    pub(super) fn fetch(&mut self, waiter: usize) -> Option<Grant<P::Live, F>> {
        self.waiters[waiter].grant.as_ref()?;
        self.granted -= 1;
        let Waiter { entry, grant, .. } = self.waiters.remove(waiter);
        match grant {
            Some(Grant::Reuse) if std::mem::take(&mut self.entries[entry].closes) => Some(Grant::Replace),
            grant => grant,
        }
    }

    /// One who has an entry and a slot begins to open a connection; not if the book is closed. What was scheduled before was
    /// for another connection.
    pub(super) fn begin_dial(&mut self, entry: usize) -> bool {
        self.entries[entry].closes = false;
        !self.is_closed
    }

    /// Whether this is the waker of one who waits.
    pub(super) fn is_woken_by(&self, waiter: usize, waker: &Waker) -> bool {
        self.waiters[waiter].waker.as_ref().is_some_and(|current| current.will_wake(waker))
    }

    /// Replaces the waker of one who has been granted nothing yet, and gives back the other.
    pub(super) fn set_waker(&mut self, waiter: usize, waker: Waker) -> Option<Waker> {
        self.waiters[waiter].waker.replace(waker)
    }

    /// One who waits does not want to any more. If he has been granted something meanwhile, that is still his own. His
    /// waker is given back.
    pub(super) fn cancel(&mut self, waiter: usize) -> (Option<Grant<P::Live, F>>, Option<Waker>) {
        let Waiter { ticket, entry, has_entry, grant, waker } = self.waiters.remove(waiter);
        if grant.is_some() {
            self.granted -= 1;
        } else if has_entry {
            self.for_slot.remove(&ticket);
            self.leave(entry);
        } else {
            self.entries[entry].waiters.remove(&ticket);
        }
        (grant, waker)
    }

    /// A connection comes back, to be used again.
    pub(super) fn put(&mut self, entry: usize, parked: P, since: Option<Instant>) -> Put {
        let place = &mut self.entries[entry];
        if self.is_closed || place.is_gone {
            self.releasing += 1;
            return Put::Close(Why::Gone);
        }
        if std::mem::take(&mut place.closes) {
            self.releasing += 1;
            return Put::Close(Why::Scheduled);
        }
        let first_here = place.waiters.first_key_value().map_or(u64::MAX, |(ticket, _)| *ticket);
        let first_elsewhere = self.for_slot.first_key_value().map_or(u64::MAX, |(ticket, _)| *ticket);
        if first_elsewhere < first_here {
            self.releasing += 1;
            return Put::Close(Why::Evicted);
        }
        match place.waiters.pop_first() {
            Some((_, waiter)) => Put::Kept(self.grant(waiter, Grant::Reuse)),
            None => {
                self.park(entry, parked, since);
                Put::Kept(None)
            }
        }
    }

    /// A connection is to be closed whose user still has the entry.
    pub(super) fn begin_release(&mut self, entry: usize) {
        self.entries[entry].closes = false;
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

    /// All who wait for an entry get nothing. Returns whom to wake.
    pub(super) fn fail_waiters(&mut self, entry: usize, why: impl Fn() -> F) -> Vec<Waker> {
        let waiters = std::mem::take(&mut self.entries[entry].waiters);
        waiters.into_values().filter_map(|waiter| self.grant(waiter, Grant::Failed(why()))).collect()
    }

    /// The connection of an entry shall be closed: the one that is returned, now; one that somebody has, before the next one
    /// has it.
    pub(super) fn schedule_close(&mut self, entry: usize) -> Option<Taken<P::Live>> {
        match self.entries[entry].phase {
            Phase::Empty => None,
            // (If there is none, and nobody opens one, it is forgotten when somebody does.)
            Phase::Claimed => {
                self.entries[entry].closes = true;
                None
            }
            Phase::Idle { .. } => self.take_idle(entry),
        }
    }

    /// The resource is gone; nobody asks for it any more. Returns its connection, to be closed.
    pub(super) fn remove_entry(&mut self, entry: usize) -> Option<Taken<P::Live>> {
        self.entries[entry].is_gone = true;
        let live = self.schedule_close(entry);
        if let Phase::Empty = self.entries[entry].phase {
            self.entries.remove(entry);
        }
        live
    }

    /// The connection that has been idle for longest, if that is since before `then`.
    pub(super) fn take_idle_since(&mut self, then: Instant) -> Option<Taken<P::Live>> {
        let oldest = self.idle.oldest?;
        if self.oldest_since()? <= then { self.take_idle(oldest) } else { None }
    }

    /// Since when the connection has been idle that has been for longest, if that was noted.
    pub(super) fn oldest_since(&self) -> Option<Instant> {
        match self.entries[self.idle.oldest?].phase {
            Phase::Idle { since, .. } => since,
            Phase::Empty | Phase::Claimed => None,
        }
    }

    /// Some idle connection, to be closed.
    pub(super) fn take_any_idle(&mut self) -> Option<Taken<P::Live>> {
        let oldest = self.idle.oldest?;
        self.take_idle(oldest)
    }

    /// Nobody gets anything any more. Returns whom to wake.
    pub(super) fn close(&mut self, why: impl Fn() -> F) -> Vec<Waker> {
        self.is_closed = true;
        let entries: Vec<_> = self.entries.iter().map(|(entry, _)| entry).collect();
        let mut wakers: Vec<_> = entries.into_iter().flat_map(|entry| self.fail_waiters(entry, &why)).collect();
        for waiter in std::mem::take(&mut self.for_slot).into_values() {
            self.leave(self.waiters[waiter].entry);
            wakers.extend(self.grant(waiter, Grant::Failed(why())));
        }
        wakers
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            max: self.max,
            in_use: self.max - self.free - self.idle.count - self.releasing,
            idle: self.idle.count,
            releasing: self.releasing,
            waiting: self.waiters.len() - self.granted,
        }
    }

    // ===== entries =====

    /// One leaves an entry without a connection: the next one who waits for it has it, and needs a slot.
    fn leave(&mut self, entry: usize) {
        let place = &mut self.entries[entry];
        place.closes = false;
        if let Some((ticket, waiter)) = place.waiters.pop_first() {
            self.waiters[waiter].has_entry = true;
            self.for_slot.insert(ticket, waiter);
        } else if place.is_gone {
            self.entries.remove(entry);
        } else {
            place.phase = Phase::Empty;
        }
    }

    // ===== slots =====

    fn take_slot(&mut self) -> Option<Grant<P::Live, F>> {
        if self.free > 0 {
            self.free -= 1;
            return Some(Grant::Slot(None));
        }
        let oldest = self.idle.oldest?;
        Some(Grant::Slot(self.take_idle(oldest)))
    }

    fn return_slot(&mut self) -> Option<Waker> {
        match self.for_slot.pop_first() {
            Some((_, waiter)) => self.grant(waiter, Grant::Slot(None)),
            None => {
                self.free += 1;
                None
            }
        }
    }

    // ===== waiters =====

    /// Returns his ticket and his number.
    fn add_waiter(&mut self, entry: usize, has_entry: bool, waker: Option<Waker>) -> (u64, usize) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        (ticket, self.waiters.insert(Waiter { ticket, entry, has_entry, waker, grant: None }))
    }

    fn grant(&mut self, waiter: usize, grant: Grant<P::Live, F>) -> Option<Waker> {
        self.granted += 1;
        let waiter = &mut self.waiters[waiter];
        waiter.grant = Some(grant);
        waiter.waker.take()
    }
}
