//! The slot table: the rules of a pool, as pure state. No I/O, no clock, no waking.
//!
//! A *slot* is the right to one open connection; the table has a fixed number of them. Each resource has an [`Entry`].
//! To use a resource's connection, a caller first *acquires* its entry, which only one caller at a time can have. If no
//! connection is open, the caller also needs a slot: a free one, or the slot of the connection that has been idle for
//! longest.
//!
//! A caller that has to wait draws a *sequence number*. Whatever becomes free goes to the lowest number of all the
//! waiters that it can serve. So nobody overtakes anybody, neither at one entry nor between entries. While a caller
//! waits for a slot, there is neither a free slot nor an idle connection, or connections are being closed for all the
//! waiters.
//!
//! # Locks
//!
//! The pool has one lock around the whole table, and each entry has a lock of its own. Code that needs both takes the
//! table's lock first, and it never holds the locks of two entries. Under an entry's lock alone, a connection goes from
//! one caller to the next and the table does not take part. The [`Summary`] keeps that fair: a caller that waits for a
//! slot first announces itself there, and then draws its number. Every caller with a higher number, at whatever entry,
//! sees the announcement. While there is one, the table decides who is next.
//!
//! Next: [`Entry`], the table's unit of one resource.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use slab::Slab;
use tokio::time::Instant;

pub(super) use self::entry::{Entry, GivenBack};
pub(super) use self::grant::{Admission, EntryId, Evicted, Grant, WaiterId};
use self::lru::Lru;
pub(super) use self::lru::Place;
pub(super) use self::queue::Waiter;
pub(super) use self::summary::Summary;
use super::wait_stats::EntryCounts;
use crate::sync::modelled::Mutex;

mod entry;
mod grant;
mod lru;
#[cfg(all(test, perconn_loom))]
mod models;
mod queue;
mod summary;
#[cfg(test)]
mod tests;

/// Which entry has which slot, and which callers wait. `R` stands for a resource, `E` for the error of a waiter.
pub(super) struct SlotTable<R, E> {
    /// The number of slots.
    max: usize,
    /// Slots that nobody has.
    free: usize,
    /// Slots whose connection is being closed.
    releasing: usize,
    /// The resources, by [`EntryId`].
    entries: Slab<Arc<Mutex<Entry<R, E>>>>,
    /// The entries with an idle connection, and the resources that hold these.
    idle: Lru<R>,
    /// The entries whose caller waits for a slot, by sequence number.
    slot_waiters: BTreeMap<u64, EntryId>,
    /// What callers and entries read without the lock of the table.
    summary: Arc<Summary>,
    /// The sum of [`Entry::counts`] over the entries that were removed.
    counts_of_removed: EntryCounts,
}

/// How the slots are used at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotCounts {
    /// All slots: the free ones, those in use, the idle and the releasing ones.
    pub(super) max: usize,
    /// Slots whose connection is lent, being dialed, or checked.
    pub(super) in_use: usize,
    /// Slots whose connection is open and in nobody's hands.
    pub(super) idle: usize,
    /// Slots whose connection is being closed: they are not free until its drop has returned.
    pub(super) releasing: usize,
    /// Callers that wait for an entry or for a slot.
    pub(super) waiting: usize,
    /// The sum over all entries, those that were removed included.
    pub(super) counts: EntryCounts,
}

impl<R, E> SlotTable<R, E> {
    /// A table of free slots.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            free: max,
            releasing: 0,
            entries: Slab::new(),
            idle: Lru::new(),
            slot_waiters: BTreeMap::new(),
            summary: Arc::default(),
            counts_of_removed: EntryCounts::default(),
        }
    }

    /// The part that can be read without the lock.
    pub(super) fn summary(&self) -> Arc<Summary> {
        Arc::clone(&self.summary)
    }

    /// Adds an entry for a new resource.
    pub(super) fn add_entry(&mut self) -> (EntryId, Arc<Mutex<Entry<R, E>>>) {
        let entry = Arc::new(Mutex::new(Entry::new()));
        (self.entries.insert(Arc::clone(&entry)), entry)
    }

    // ===== for a caller that wants an entry =====

    /// Acquires an entry, with its idle connection or with a slot.
    ///
    /// If the caller has to wait and gave a waker, the waker is taken and the caller queued. No waker is cloned or
    /// dropped here, as that runs code of the program.
    pub(super) fn acquire(&mut self, id: EntryId, waker: &mut Option<Waker>) -> Admission<R, E> {
        let mut entry = self.entries[id].lock();
        if let Some(admission) = entry.enqueue(&self.summary, waker) {
            return admission;
        }
        if self.idle.remove(id).is_some() {
            entry.is_acquired = true;
            return Admission::Granted(Grant::Reuse);
        }
        if self.free > 0 || self.idle.len() > 0 {
            entry.is_acquired = true;
            drop(entry);
            return Admission::Granted(Grant::Slot(self.take_slot()));
        }
        let Some(waker) = waker.take() else { return Admission::Busy };
        self.summary.set_slot_waiters(self.slot_waiters.len() + 1); // rule: wait-is-announced-before-its-number
        let (seq, waiter) = entry.wait_for_slot(&self.summary, waker);
        self.slot_waiters.insert(seq, id);
        Admission::Queued(waiter)
    }

    /// Takes a waiter out. It may have been granted something before that.
    pub(super) fn cancel(&mut self, id: EntryId, waiter: WaiterId) -> Waiter<R, E> {
        let mut entry = self.entries[id].lock();
        if let Some(cancelled) = entry.cancel(waiter) {
            return cancelled;
        }
        let cancelled = entry.cancel_slot_wait(waiter);
        drop(entry);
        if let Waiter::Waiting { seq, .. } = &cancelled {
            self.slot_waiters.remove(seq); // rule: leaving-caller-gets-no-slot
            self.leave(id);
        }
        cancelled
    }

    // ===== for the caller that has acquired an entry =====

    /// Takes back an open connection. If it becomes idle, it gets this place among the idle ones.
    pub(super) fn give_back(&mut self, id: EntryId, resource: R, place: Place, was_reused: bool) -> GivenBack {
        let first_slot_waiter = self.slot_waiters.first_key_value().map_or(u64::MAX, |(seq, _)| *seq);
        let mut entry = self.entries[id].lock();
        entry.counts.reused += u64::from(was_reused);
        // rule: nothing-is-idle-in-a-closed-pool
        let given_back = entry.give_back(self.summary.is_closed(), first_slot_waiter);
        drop(entry);
        match given_back {
            GivenBack::Idle => self.idle.insert(id, resource, place),
            GivenBack::Close(_) => self.releasing += 1,
            GivenBack::HandedOver(_) => {}
        }
        given_back
    }

    /// Acquires an entry with an idle connection, for a check and not for a use. Returns the place of the connection, with
    /// which it is [given back](Self::give_back). `None`: it is not idle.
    pub(super) fn acquire_idle(&mut self, id: EntryId) -> Option<Place> {
        let (_, place) = self.idle.take_out(id)?;
        self.entries[id].lock().is_acquired = true; // rule: checked-entry-is-acquired
        Some(place)
    }

    /// Notes that the caller begins to close its connection. [`release`](Self::release) follows.
    pub(super) fn begin_release(&mut self, id: EntryId, was_reused: bool) {
        let mut entry = self.entries[id].lock();
        entry.close_scheduled = false;
        entry.counts.reused += u64::from(was_reused);
        self.releasing += 1;
    }

    /// Takes back the entry and the slot of a caller without a connection. Returns the waiter to wake.
    pub(super) fn release(&mut self, id: EntryId, was_releasing: bool) -> Option<Waker> {
        self.releasing -= usize::from(was_releasing);
        self.leave(id);
        self.return_slot()
    }

    /// Notes that the connection of an entry is closed whose slot went to another entry. A caller that waited for this
    /// entry needs a slot now: returns the waiter to wake, or another connection to close for it.
    pub(super) fn finish_eviction(&mut self, id: EntryId) -> (Option<Waker>, Option<Evicted<R>>) {
        self.releasing -= 1;
        self.leave(id); // rule: evicted-entry-is-passed-on
        if self.slot_waiters.is_empty() {
            (None, None)
        } else if self.free > 0 {
            self.free -= 1;
            (self.return_slot(), None)
        } else {
            (None, self.evict_oldest())
        }
    }

    // ===== for everybody =====

    /// Has the connection of an entry closed: at once if it is idle (it is returned), otherwise before its next use.
    pub(super) fn schedule_close(&mut self, id: EntryId) -> Option<Evicted<R>> {
        let mut entry = self.entries[id].lock();
        // If the caller has not begun to dial, the flag has no effect: `begin_dial` clears it.
        entry.close_scheduled = entry.is_acquired; // rule: scheduled-close-reaches-a-connection-in-use
        drop(entry);
        self.evict(id)
    }

    /// Removes the entry of a resource that is gone, as soon as no caller has it. Returns its idle connection, to be
    /// closed.
    pub(super) fn remove_entry(&mut self, id: EntryId) -> Option<Evicted<R>> {
        let mut entry = self.entries[id].lock();
        entry.is_removed = true;
        let is_acquired = entry.is_acquired;
        drop(entry);
        let evicted = self.schedule_close(id);
        // rule: acquired-entry-is-not-removed
        if evicted.is_none() && !is_acquired {
            self.forget(id);
        }
        evicted
    }

    /// Takes out the connection that has been idle for longest, to be closed.
    pub(super) fn evict_oldest(&mut self) -> Option<Evicted<R>> {
        self.evict(self.idle.oldest()?)
    }

    /// Takes it out only if it has been idle since `then` or longer.
    pub(super) fn evict_idle_since(&mut self, then: Instant) -> Option<Evicted<R>> {
        if self.oldest_idle_since()? <= then { self.evict_oldest() } else { None }
    }

    /// Since when the oldest idle connection has been idle, if that was noted.
    pub(super) fn oldest_idle_since(&self) -> Option<Instant> {
        self.idle.oldest_since()
    }

    /// How many connections are idle.
    pub(super) fn idle_count(&self) -> usize {
        self.idle.len()
    }

    /// The resources whose connections are idle.
    pub(super) fn idle_resources(&self) -> impl Iterator<Item = &R> + '_ {
        self.idle.resources()
    }

    /// Whether no connection is open, and none is being opened or closed.
    pub(super) fn is_unused(&self) -> bool {
        self.free == self.max
    }

    /// Closes the table: nothing is granted any more, and all waiters fail. Returns the waiters to wake.
    pub(super) fn close(&mut self, error: impl Fn() -> E) -> Vec<Waker> {
        // First: a caller that locks an entry after its waiters have failed has to see it.
        self.summary.close(); // rule: closed-before-the-waiters-fail
        self.fail_waiters(error)
    }

    /// Counts slots and waiters. Takes time in proportion to the number of resources.
    pub(super) fn counts(&self) -> SlotCounts {
        let (mut waiting, mut counts) = (0, self.counts_of_removed);
        for (_, entry) in &self.entries {
            let entry = entry.lock();
            waiting += entry.waiting();
            counts.add_all(&entry.counts);
        }
        SlotCounts {
            max: self.max,
            in_use: self.max - self.free - self.idle.len() - self.releasing,
            idle: self.idle.len(),
            releasing: self.releasing,
            waiting,
            counts,
        }
    }

    // ===== private: entries =====

    /// Fails all waiters. Returns those to wake.
    fn fail_waiters(&mut self, error: impl Fn() -> E) -> Vec<Waker> {
        let entries = self.entries.iter().map(|(_, entry)| entry);
        let mut wakers: Vec<_> = entries.flat_map(|entry| entry.lock().fail_waiters(&error)).collect();
        // rule: close-fails-slot-waiters
        for id in std::mem::take(&mut self.slot_waiters).into_values() {
            wakers.extend(self.entries[id].lock().end_slot_wait(Grant::Failed(error())));
            self.leave(id);
        }
        wakers
    }

    /// Takes out the connection of an entry, if it is idle. The entry is acquired until the connection is closed.
    fn evict(&mut self, id: EntryId) -> Option<Evicted<R>> {
        let resource = self.idle.remove(id)?;
        self.entries[id].lock().is_acquired = true; // rule: evicted-entry-is-acquired
        self.releasing += 1;
        Some(Evicted { resource, entry: id })
    }

    /// Passes an entry without a connection on to its next waiter, if it has one.
    fn leave(&mut self, id: EntryId) {
        let mut entry = self.entries[id].lock();
        let (next, is_removed) = (entry.leave(), entry.is_removed);
        drop(entry);
        if let Some(seq) = next {
            self.slot_waiters.insert(seq, id);
        } else if is_removed {
            self.forget(id);
        }
        self.summary.set_slot_waiters(self.slot_waiters.len());
    }

    /// Removes an entry that nobody has or will ask for.
    fn forget(&mut self, id: EntryId) {
        let entry = self.entries.remove(id);
        self.counts_of_removed.add_all(&entry.lock().counts);
    }

    // ===== private: slots =====

    /// Takes a free slot, or that of an idle connection, which is returned to be closed. There has to be one.
    fn take_slot(&mut self) -> Option<Evicted<R>> {
        match self.free.checked_sub(1) {
            Some(free) => {
                self.free = free;
                None
            }
            None => self.evict_oldest(),
        }
    }

    /// Gives a slot to the first caller that waits for one, which is to be woken, or else frees it.
    fn return_slot(&mut self) -> Option<Waker> {
        let Some((_, id)) = self.slot_waiters.pop_first() else {
            self.free += 1;
            return None;
        };
        self.summary.set_slot_waiters(self.slot_waiters.len());
        self.entries[id].lock().end_slot_wait(Grant::Slot(None))
    }
}
