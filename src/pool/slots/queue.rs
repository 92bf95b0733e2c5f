//! The waiters of one entry.
//!
//! A waiter stays here until it takes its grant or gives up, so its number stays valid while another caller grants it
//! something.
//!
//! Next: [`Grant`], what a waiter gets.

use std::collections::VecDeque;
use std::mem;
use std::task::Waker;

use slab::Slab;

use super::grant::{Grant, WaiterId};

/// One caller that waits, or was granted something and has not taken it yet.
#[derive(Debug)]
pub(in crate::pool) enum Waiter<R, E> {
    /// It waits with this sequence number.
    Waiting {
        /// Its place among all callers of the pool: a lower number came earlier.
        seq: u64,
        /// Called when something is granted. Each poll of the caller replaces it.
        waker: Waker,
    },
    /// It was granted this, and was woken.
    Granted(Grant<R, E>),
}

/// The waiters of an entry, and the order in which they get the entry.
#[derive(Debug)]
pub(super) struct WaitQueue<R, E> {
    /// All waiters, by [`WaiterId`].
    waiters: Slab<Waiter<R, E>>,
    /// The waiters for the entry itself with their sequence numbers, the lowest first.
    order: VecDeque<(u64, WaiterId)>,
}

impl<R, E> WaitQueue<R, E> {
    /// A queue that allocates with the first waiter.
    pub(super) fn new() -> Self {
        Self { waiters: Slab::new(), order: VecDeque::new() }
    }

    /// How many wait for the entry.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// The sequence number of the first waiter. Without one, it is higher than all others.
    pub(super) fn first_seq(&self) -> u64 {
        self.order.front().map_or(u64::MAX, |(seq, _)| *seq)
    }

    /// Adds a waiter at the end of the order.
    pub(super) fn push(&mut self, seq: u64, waker: Waker) -> WaiterId {
        let waiter = self.insert(seq, waker);
        self.order.push_back((seq, waiter));
        waiter
    }

    /// Adds a waiter that is outside of the order, as it has the entry already.
    pub(super) fn insert(&mut self, seq: u64, waker: Waker) -> WaiterId {
        self.waiters.insert(Waiter::Waiting { seq, waker })
    }

    /// Takes the first waiter out of the order. It still waits.
    pub(super) fn pop(&mut self) -> Option<(u64, WaiterId)> {
        self.order.pop_front()
    }

    /// Grants something to a waiter that is not in the order any more. Returns its waker.
    pub(super) fn grant(&mut self, waiter: WaiterId, grant: Grant<R, E>) -> Waker {
        match mem::replace(&mut self.waiters[waiter], Waiter::Granted(grant)) {
            Waiter::Waiting { waker, .. } => waker,
            Waiter::Granted(_) => unreachable!("a waiter is granted one thing"),
        }
    }

    /// Takes out what a waiter was granted, if anything, and the waiter with it.
    pub(super) fn take_grant(&mut self, waiter: WaiterId) -> Option<Grant<R, E>> {
        let Waiter::Granted(_) = self.waiters[waiter] else { return None };
        match self.waiters.remove(waiter) {
            Waiter::Granted(grant) => Some(grant),
            Waiter::Waiting { .. } => None,
        }
    }

    /// Whether `waker` wakes the task that waits.
    pub(super) fn will_wake(&self, waiter: WaiterId, waker: &Waker) -> bool {
        matches!(&self.waiters[waiter], Waiter::Waiting { waker: current, .. } if current.will_wake(waker))
    }

    /// Replaces the waker of a waiter. Returns the one to drop.
    pub(super) fn set_waker(&mut self, waiter: WaiterId, waker: Waker) -> Waker {
        match &mut self.waiters[waiter] {
            Waiter::Waiting { waker: current, .. } => mem::replace(current, waker), // rule: newest-waker-is-woken
            Waiter::Granted(_) => waker,
        }
    }

    /// Takes a waiter out, whether it waits or not.
    pub(super) fn remove(&mut self, waiter: WaiterId) -> Waiter<R, E> {
        let removed = self.waiters.remove(waiter);
        if let Waiter::Waiting { seq, .. } = &removed {
            let index = self.order.binary_search_by_key(seq, |(seq, _)| *seq);
            index.ok().and_then(|index| self.order.remove(index)); // rule: leaving-caller-leaves-the-queue
        }
        removed
    }

    /// Asserts that the order is one of sequence numbers, and of waiters that wait.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert!(self.order.iter().is_sorted());
        let waits_with = |seq, waiter| matches!(&self.waiters[waiter], Waiter::Waiting { seq: own, .. } if *own == seq);
        assert!(self.order.iter().all(|(seq, waiter)| waits_with(*seq, *waiter)));
    }

    #[cfg(test)]
    pub(super) fn is_waiting(&self, waiter: WaiterId) -> bool {
        matches!(self.waiters[waiter], Waiter::Waiting { .. })
    }
}
