//! The entry of one resource: whether a caller has acquired it, and which callers wait for it.
//!
//! An entry has a lock of its own, so that callers of different resources meet only where a slot changes hands. These
//! steps need no other lock:
//!
//! - a caller joins the queue of an entry that another caller has acquired;
//! - a waiter takes what it was granted, or leaves the queue;
//! - a connection that comes back goes to the first waiter of the queue.
//!
//! Every other step needs the [table's](super) lock as well, and so does each change of `is_acquired`. In the middle of
//! such a step the entry's lock may be free for a moment. A caller that locks the entry then finds it acquired and
//! joins the queue, or it has to wait for the table's lock.
//!
//! Next: [`WaitQueue`], which holds the waiters.

use std::mem;
use std::task::Waker;

use super::grant::{Admission, Grant, WaiterId};
use super::queue::{WaitQueue, Waiter};
use super::summary::Summary;
use crate::pool::CloseReason;
use crate::pool::wait_stats::{EntryCounts, WaitingFor};

/// The state of one resource in the slot table.
#[derive(Debug)]
pub(in crate::pool) struct Entry<R, E> {
    /// A caller has it: to use its connection, to open one, or to close it.
    pub(super) is_acquired: bool,
    /// The connection is to be closed before its next use.
    pub(super) close_scheduled: bool,
    /// The resource is gone.
    pub(super) is_removed: bool,
    /// What has happened here.
    pub(in crate::pool) counts: EntryCounts,
    /// The waiters, and what they were granted.
    queue: WaitQueue<R, E>,
    /// The caller that has acquired the entry and waits for a slot.
    slot_waiter: Option<WaiterId>,
}

/// What becomes of a connection that comes back.
#[derive(Debug)]
pub(in crate::pool) enum GivenBack {
    /// It belongs to the next caller, which is to be woken.
    HandedOver(Waker),
    /// Nobody waits for it: it is idle.
    Idle,
    /// It has to be closed for this reason. Then its entry is [released](super::SlotTable::release).
    Close(CloseReason),
}

impl<R, E> Entry<R, E> {
    /// The entry of a new resource: nobody has it, and no connection is open.
    pub(super) fn new() -> Self {
        Self {
            is_acquired: false,
            close_scheduled: false,
            is_removed: false,
            counts: EntryCounts::default(),
            queue: WaitQueue::new(),
            slot_waiter: None,
        }
    }

    // ===== under its own lock =====

    /// Queues a caller and takes its waker, if another caller has the entry. Without a waker, the answer is
    /// [`Admission::Busy`]. `None`: nobody has the entry, and the table has to be asked.
    pub(in crate::pool) fn enqueue(&mut self, summary: &Summary, waker: &mut Option<Waker>) -> Option<Admission<R, E>> {
        // rule: free-entry-is-not-waited-for
        if !self.is_acquired {
            return None;
        }
        let Some(waker) = waker.take() else { return Some(Admission::Busy) };
        Some(Admission::Queued(self.queue.push(summary.next_seq(), waker)))
    }

    /// Gives a connection that comes back to the first waiter, if the entry can decide that alone. Returns its waker.
    pub(in crate::pool) fn hand_over(&mut self, summary: &Summary, was_reused: bool) -> Option<Waker> {
        // rule: hand-over-overtakes-no-waiter
        if self.close_scheduled || self.is_removed || !summary.allows_hand_over() {
            return None;
        }
        let (_, waiter) = self.queue.pop()?;
        self.counts.reused += u64::from(was_reused);
        Some(self.queue.grant(waiter, Grant::Reuse))
    }

    /// Gives a connection that was dialed for a caller that has left to the first waiter. Returns its waker.
    ///
    /// The waiter takes the place of the caller that left, which came before all waiters for a slot. Without this rule,
    /// impatient callers of two resources could take one slot from each other again and again.
    pub(in crate::pool) fn hand_over_dialed(&mut self, summary: &Summary) -> Option<Waker> {
        if self.close_scheduled || self.is_removed || summary.is_closed() {
            return None;
        }
        let (_, waiter) = self.queue.pop()?;
        Some(self.queue.grant(waiter, Grant::Reuse))
    }

    /// What a caller of this entry waits for.
    pub(in crate::pool) fn waiting_for(&self, is_being_opened: bool) -> WaitingFor {
        if !self.is_acquired || self.slot_waiter.is_some() {
            WaitingFor::Slot
        } else if is_being_opened {
            WaitingFor::Dial
        } else {
            WaitingFor::User
        }
    }

    /// Whether a caller waits for the entry.
    pub(in crate::pool) fn has_waiters(&self) -> bool {
        self.queue.len() > 0
    }

    /// Takes what a waiter was granted, if anything.
    pub(in crate::pool) fn take_grant(&mut self, waiter: WaiterId) -> Option<Grant<R, E>> {
        match self.queue.take_grant(waiter)? {
            Grant::Reuse => Some(self.confirm_reuse()),
            grant => Some(grant),
        }
    }

    /// The grant of a connection, as it stands now: a close may have been scheduled since it was given.
    pub(in crate::pool) fn confirm_reuse(&mut self) -> Grant<R, E> {
        if mem::take(&mut self.close_scheduled) { Grant::Replace } else { Grant::Reuse }
    }

    /// Whether `waker` wakes the task of a waiter.
    pub(in crate::pool) fn will_wake(&self, waiter: WaiterId, waker: &Waker) -> bool {
        self.queue.will_wake(waiter, waker)
    }

    /// Replaces the waker of a waiter that was granted nothing yet. Returns the one to drop.
    pub(in crate::pool) fn set_waker(&mut self, waiter: WaiterId, waker: Waker) -> Waker {
        self.queue.set_waker(waiter, waker)
    }

    /// Takes out a waiter that gives up. What it was granted before that is still its own. `None`: it waits for a slot,
    /// and the table has to [cancel](super::SlotTable::cancel) that.
    pub(in crate::pool) fn cancel(&mut self, waiter: WaiterId) -> Option<Waiter<R, E>> {
        if self.slot_waiter == Some(waiter) { None } else { Some(self.queue.remove(waiter)) }
    }

    /// Fails all that wait for the entry. Returns the waiters to wake.
    pub(in crate::pool) fn fail_waiters(&mut self, error: impl Fn() -> E) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some((_, waiter)) = self.queue.pop() {
            wakers.push(self.queue.grant(waiter, Grant::Failed(error())));
        }
        wakers
    }

    /// Notes that the caller that has the entry and a slot begins to open a connection. A close that was scheduled
    /// before was not for this connection.
    pub(in crate::pool) fn begin_dial(&mut self) {
        self.close_scheduled = false;
    }

    // ===== under the table's lock, too =====

    /// How many callers wait here, for the entry or for a slot.
    pub(in crate::pool) fn waiting(&self) -> usize {
        self.queue.len() + usize::from(self.slot_waiter.is_some())
    }

    /// Acquires the entry for a caller that then waits for a slot.
    pub(super) fn wait_for_slot(&mut self, summary: &Summary, waker: Waker) -> (u64, WaiterId) {
        self.is_acquired = true;
        let seq = summary.next_seq();
        let waiter = self.queue.insert(seq, waker);
        self.slot_waiter = Some(waiter);
        (seq, waiter)
    }

    /// Ends the wait for a slot, with one or without. Returns the waker.
    pub(super) fn end_slot_wait(&mut self, grant: Grant<R, E>) -> Option<Waker> {
        let waiter = self.slot_waiter.take()?;
        Some(self.queue.grant(waiter, grant))
    }

    /// Takes out the caller that waits for a slot, which gives up.
    pub(super) fn cancel_slot_wait(&mut self, waiter: WaiterId) -> Waiter<R, E> {
        self.slot_waiter = None;
        self.queue.remove(waiter)
    }

    /// Takes back a connection. `first_slot_waiter` is the lowest sequence number of the waiters for
    /// a slot at other entries.
    pub(super) fn give_back(&mut self, is_closed: bool, first_slot_waiter: u64) -> GivenBack {
        if is_closed || self.is_removed {
            return GivenBack::Close(CloseReason::Gone);
        }
        if mem::take(&mut self.close_scheduled) {
            return GivenBack::Close(CloseReason::Scheduled);
        }
        // rule: oldest-waiter-first
        if first_slot_waiter < self.queue.first_seq() {
            return GivenBack::Close(CloseReason::Evicted);
        }
        // rule: first-waiter-gets-the-connection
        match self.queue.pop() {
            Some((_, waiter)) => GivenBack::HandedOver(self.queue.grant(waiter, Grant::Reuse)),
            None => {
                self.is_acquired = false;
                GivenBack::Idle
            }
        }
    }

    /// Takes back the entry without a connection. The first waiter, if there is one, acquires it and waits for a slot:
    /// returns its sequence number.
    pub(super) fn leave(&mut self) -> Option<u64> {
        self.close_scheduled = false;
        let next = self.queue.pop();
        self.is_acquired = next.is_some();
        self.slot_waiter = next.map(|(_, waiter)| waiter);
        next.map(|(seq, _)| seq)
    }

    // ===== for the tests =====

    #[cfg(test)]
    pub(super) fn first_seq(&self) -> u64 {
        self.queue.first_seq()
    }

    /// Asserts what always has to hold.
    #[cfg(test)]
    pub(super) fn check(&self) {
        self.queue.check();
        assert!(self.slot_waiter.is_none_or(|waiter| self.queue.is_waiting(waiter)));
    }
}
