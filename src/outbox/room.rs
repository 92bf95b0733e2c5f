//! The senders that wait for room, in the order in which they came.
//!
//! Room that becomes free is promised to the first of them, and only then are they woken. So a later sender cannot take
//! it, and a sender that is dropped gives it on.
//!
//! Next: [`Store::reserve`], which keeps the promised room.

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

use super::store::Store;

/// The senders that wait.
#[derive(Debug, Default)]
pub(super) struct RoomQueue {
    /// Those without room, in ascending order of their tickets.
    waiting: VecDeque<RoomWait>,
    /// Those with room that have not come for it yet: their tickets, and the lengths of their messages.
    granted: BTreeMap<u64, usize>,
    /// The next ticket.
    next_ticket: u64,
}

/// A sender without room.
#[derive(Debug)]
struct RoomWait {
    /// Its ticket.
    ticket: u64,
    /// The length of its message.
    len: usize,
    /// Its task; `None` once it was woken without room, as the outbox has ended.
    waker: Option<Waker>,
}

impl RoomQueue {
    /// Whether nobody waits without room.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Begins to wait. Returns the ticket.
    pub(super) fn join(&mut self, len: usize, waker: Waker) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push_back(RoomWait { ticket, len, waker: Some(waker) });
        ticket
    }

    /// Takes the room that was promised. Returns whether there was any; otherwise the waker is stored, and the replaced
    /// one is in its place.
    pub(super) fn take(&mut self, ticket: u64, store: &mut Store, waker: &mut Option<Waker>) -> bool {
        if let Some(len) = self.granted.remove(&ticket) {
            store.unreserve(len);
            return true;
        }
        if let Some(wait) = self.find(ticket).and_then(|index| self.waiting.get_mut(index)) {
            std::mem::swap(&mut wait.waker, waker);
        }
        false
    }

    /// Waits no more. Promised room is free again. Returns the waker, to be dropped without the lock.
    pub(super) fn leave(&mut self, ticket: u64, store: &mut Store) -> Option<Waker> {
        if let Some(len) = self.granted.remove(&ticket) {
            store.unreserve(len);
            return None;
        }
        let index = self.find(ticket)?;
        self.waiting.remove(index)?.waker
    }

    /// Promises the room that there is, in order.
    pub(super) fn grant(&mut self, store: &mut Store, wakers: &mut Vec<Waker>) {
        while let Some(first) = self.waiting.front().filter(|first| store.has_room(first.len)) {
            store.reserve(first.len);
            self.granted.insert(first.ticket, first.len);
            wakers.extend(self.waiting.pop_front().and_then(|wait| wait.waker));
        }
    }

    /// Wakes all, as there will be no room.
    pub(super) fn wake_all(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.waiting.drain(..).filter_map(|wait| wait.waker));
    }

    /// The place of a ticket.
    fn find(&self, ticket: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&ticket, |wait| wait.ticket).ok()
    }
}
