//! The book of a pool: who has which slot, and who waits. No I/O, no clock.
//!
//! A *slot* is the right to one open connection. A resource has an *entry*. Whoever wants its connection *claims* the entry,
//! which one at a time can have, and then, unless a connection is open, needs a slot: a free one, or that of the
//! connection which has been idle for longest. Everyone who has to wait has a *ticket*, and of all whom something serves
//! that becomes free, the one with the oldest ticket gets it. So nobody is overtaken, neither at an entry nor between
//! entries.
//!
//! While somebody waits for a slot, there is neither a free slot nor an idle connection.

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

use slab::Slab;
use tokio::time::Instant;

use self::idle::{Idle, Links};
use super::Why;

mod idle;
#[cfg(test)]
mod tests;

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
    /// Those who have their entry and wait for a slot, by ticket.
    for_slot: BTreeMap<u64, usize>,
    next_ticket: u64,
    is_closed: bool,
    /// How often an open connection was granted.
    pub(super) reused: u64,
}

struct Entry<P> {
    phase: Phase<P>,
    /// Those who wait for it, in the order of their tickets.
    waiters: VecDeque<usize>,
    /// Its connection is closed at the next return, or that is all: the resource is gone.
    closes: bool,
    is_gone: bool,
}

enum Phase<P> {
    /// Nobody has it, and no connection is open.
    Empty,
    /// Somebody has it.
    Claimed,
    /// Its connection is open, and nobody uses it.
    Idle { parked: P, since: Instant, links: Links },
}

struct Waiter<P: Parked, F> {
    ticket: u64,
    entry: usize,
    has_entry: bool,
    waker: Option<Waker>,
    grant: Option<Grant<P::Live, F>>,
}

/// What one who asks for an entry gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Grant<L, F> {
    /// The entry, with its connection.
    Reuse,
    /// The entry and a slot; if there is a connection with it, it has to be closed first.
    Slot(Option<L>),
    /// Nothing, and why.
    Failed(F),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<L, F> {
    Now(Grant<L, F>),
    /// It has to wait. This is its number among those who do.
    Wait(usize),
    /// It would have to wait, and does not want to.
    Busy,
}

/// What becomes of a connection that is brought back.
pub(super) enum Put {
    /// It is idle, or has its next user, who is to be woken.
    Kept(Option<Waker>),
    /// It has to be closed, for this reason, and then the entry [released](Book::release).
    Close(Why),
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
        self.entries.insert(Entry { phase: Phase::Empty, waiters: VecDeque::new(), closes: false, is_gone: false })
    }

    /// Somebody wants the connection of an entry, or a slot to open it; with a waker, he waits if need be.
    pub(super) fn ask(&mut self, entry: usize, waker: Option<&Waker>) -> Answer<P::Live, F> {
        match (&self.entries[entry].phase, waker) {
            (Phase::Idle { .. }, _) => {
                self.unpark(entry);
                self.entries[entry].phase = Phase::Claimed;
                self.reused += 1;
                Answer::Now(Grant::Reuse)
            }
            (Phase::Claimed, Some(waker)) => {
                let waiter = self.add_waiter(entry, false, waker);
                self.entries[entry].waiters.push_back(waiter);
                Answer::Wait(waiter)
            }
            (Phase::Claimed, None) => Answer::Busy,
            (Phase::Empty, waker) => match (self.take_slot(), waker) {
                (Some(slot), _) => {
                    self.entries[entry].phase = Phase::Claimed;
                    Answer::Now(slot)
                }
                (None, Some(waker)) => {
                    self.entries[entry].phase = Phase::Claimed;
                    let waiter = self.add_waiter(entry, true, waker);
                    self.for_slot.insert(self.waiters[waiter].ticket, waiter);
                    Answer::Wait(waiter)
                }
                (None, None) => Answer::Busy,
            },
        }
    }

    /// What one who waits was granted. If nothing yet, the waker is kept.
    pub(super) fn poll(&mut self, waiter: usize, waker: &Waker) -> Option<Grant<P::Live, F>> {
        let waiting = &mut self.waiters[waiter];
        if waiting.grant.is_some() {
            return self.waiters.remove(waiter).grant;
        }
        match &mut waiting.waker {
            Some(current) if current.will_wake(waker) => {}
            current => *current = Some(waker.clone()),
        }
        None
    }

    /// One who waits does not want to any more. If it has been granted something meanwhile, that is still its own.
    pub(super) fn cancel(&mut self, waiter: usize) -> Option<Grant<P::Live, F>> {
        let Waiter { ticket, entry, has_entry, grant, .. } = self.waiters.remove(waiter);
        if grant.is_none() {
            if has_entry {
                self.for_slot.remove(&ticket);
                self.leave(entry);
            } else {
                self.entries[entry].waiters.retain(|other| *other != waiter);
            }
        }
        grant
    }

    /// A connection comes back, to be used again.
    pub(super) fn put(&mut self, entry: usize, parked: P, since: Instant) -> Put {
        let place = &mut self.entries[entry];
        if self.is_closed || place.is_gone {
            self.releasing += 1;
            return Put::Close(Why::Gone);
        }
        if std::mem::take(&mut place.closes) {
            self.releasing += 1;
            return Put::Close(Why::Scheduled);
        }
        let next = place.waiters.front().copied();
        let first_here = next.map_or(u64::MAX, |waiter| self.waiters[waiter].ticket);
        let first_elsewhere = self.for_slot.first_key_value().map_or(u64::MAX, |(ticket, _)| *ticket);
        if first_elsewhere < first_here {
            self.releasing += 1;
            return Put::Close(Why::Evicted);
        }
        match next {
            Some(waiter) => {
                place.waiters.pop_front();
                self.reused += 1;
                Put::Kept(self.grant(waiter, Grant::Reuse))
            }
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

    /// A connection that was taken out of the book is closed; its slot stays with the one that it was taken for.
    pub(super) fn evicted(&mut self) {
        self.releasing -= 1;
    }

    /// The same, but the slot was taken for nobody. Returns whom to wake.
    pub(super) fn released(&mut self) -> Option<Waker> {
        self.releasing -= 1;
        self.return_slot()
    }

    /// All who wait for an entry get nothing. Returns whom to wake.
    pub(super) fn fail_waiters(&mut self, entry: usize, why: impl Fn() -> F) -> Vec<Waker> {
        let waiters = std::mem::take(&mut self.entries[entry].waiters);
        waiters.into_iter().filter_map(|waiter| self.grant(waiter, Grant::Failed(why()))).collect()
    }

    /// The connection of an entry shall be closed: the one that is returned, now; one that is in use, when it comes back.
    pub(super) fn schedule_close(&mut self, entry: usize) -> Option<P::Live> {
        match self.entries[entry].phase {
            Phase::Empty => None,
            Phase::Claimed => {
                self.entries[entry].closes = true;
                None
            }
            Phase::Idle { .. } => self.take_idle(entry),
        }
    }

    /// The resource is gone; nobody asks for it any more. Returns its connection, to be closed.
    pub(super) fn remove_entry(&mut self, entry: usize) -> Option<P::Live> {
        self.entries[entry].is_gone = true;
        let live = self.schedule_close(entry);
        if let Phase::Empty = self.entries[entry].phase {
            self.entries.remove(entry);
        }
        live
    }

    /// The connection that has been idle for longest, if that is since before `then`.
    pub(super) fn take_idle_since(&mut self, then: Instant) -> Option<P::Live> {
        let oldest = self.idle.oldest?;
        if self.oldest_since()? <= then { self.take_idle(oldest) } else { None }
    }

    /// Since when the connection has been idle that has been for longest.
    pub(super) fn oldest_since(&self) -> Option<Instant> {
        match self.entries[self.idle.oldest?].phase {
            Phase::Idle { since, .. } => Some(since),
            Phase::Empty | Phase::Claimed => None,
        }
    }

    /// Some idle connection, to be closed.
    pub(super) fn take_any_idle(&mut self) -> Option<P::Live> {
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
        let granted = self.waiters.iter().filter(|(_, waiter)| waiter.grant.is_some()).count();
        Counts {
            max: self.max,
            in_use: self.max - self.free - self.idle.count - self.releasing,
            idle: self.idle.count,
            releasing: self.releasing,
            waiting: self.waiters.len() - granted,
        }
    }

    // ===== entries =====

    /// One leaves an entry without a connection: the next one who waits for it has it, and needs a slot.
    fn leave(&mut self, entry: usize) {
        let place = &mut self.entries[entry];
        if let Some(waiter) = place.waiters.pop_front() {
            let next = &mut self.waiters[waiter];
            next.has_entry = true;
            self.for_slot.insert(next.ticket, waiter);
        } else if place.is_gone {
            self.entries.remove(entry);
        } else {
            place.phase = Phase::Empty;
            place.closes = false;
        }
    }

    fn park(&mut self, entry: usize, parked: P, since: Instant) {
        let links = self.idle.push(entry);
        if let Some(older) = links.older {
            self.links(older).newer = Some(entry);
        }
        self.entries[entry].phase = Phase::Idle { parked, since, links };
    }

    /// Takes an entry out of the row of the idle ones.
    fn unpark(&mut self, entry: usize) -> Option<P> {
        let phase = std::mem::replace(&mut self.entries[entry].phase, Phase::Empty);
        let Phase::Idle { parked, links, .. } = phase else { return None };
        self.idle.remove(&links);
        if let Some(older) = links.older {
            self.links(older).newer = links.newer;
        }
        if let Some(newer) = links.newer {
            self.links(newer).older = links.older;
        }
        Some(parked)
    }

    fn take_idle(&mut self, entry: usize) -> Option<P::Live> {
        let live = self.unpark(entry)?.take();
        self.releasing += 1;
        Some(live)
    }

    fn links(&mut self, entry: usize) -> &mut Links {
        match &mut self.entries[entry].phase {
            Phase::Idle { links, .. } => links,
            Phase::Empty | Phase::Claimed => unreachable!("only idle entries are in their row"),
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

    fn add_waiter(&mut self, entry: usize, has_entry: bool, waker: &Waker) -> usize {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiters.insert(Waiter { ticket, entry, has_entry, waker: Some(waker.clone()), grant: None })
    }

    fn grant(&mut self, waiter: usize, grant: Grant<P::Live, F>) -> Option<Waker> {
        let waiter = &mut self.waiters[waiter];
        waiter.grant = Some(grant);
        waiter.waker.take()
    }
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
