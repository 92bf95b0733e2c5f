//! The rules of the reader's queue: what it holds, in which order, and when it is full. No I/O, no clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{Error, Message, WhenFull};

/// How many markers may lie in the queue for a new attempt to begin: each loss adds two.
const MARKERS: usize = 64;

/// The messages that the reader has not taken yet. `N` is a notification.
pub(super) struct Outbox<N> {
    items: VecDeque<Item<N>>,
    /// How many of them are notifications.
    notifications: usize,
    /// How many of them tell of a loss or the end of one.
    markers: usize,
    limit: usize,
    when_full: WhenFull,
    /// The queue was full: nothing is read until half of it is free, lest each message that is taken costs a wake-up.
    is_paused: bool,
}

pub(super) enum Item<N> {
    Notification(N),
    /// Any other message.
    Marker(Message),
}

impl<N> Outbox<N> {
    pub(super) fn new(limit: usize, when_full: WhenFull) -> Self {
        Self { items: VecDeque::new(), notifications: 0, markers: 0, limit, when_full, is_paused: false }
    }

    /// How many notifications may be read from the socket now.
    pub(super) fn room(&mut self) -> usize {
        if self.when_full == WhenFull::Drop {
            return usize::MAX;
        }
        self.is_paused = match self.is_paused {
            true => !self.has_room_again(),
            false => self.notifications >= self.limit,
        };
        if self.is_paused { 0 } else { self.limit.saturating_sub(self.notifications) }
    }

    /// Whether half of the queue is free.
    pub(super) fn has_room_again(&self) -> bool {
        self.notifications <= self.limit / 2
    }

    /// (In a queue that waits, who reads from the socket keeps to the [room](Self::room).)
    pub(super) fn notification(&mut self, notification: N) {
        if self.notifications < self.limit || self.when_full == WhenFull::Wait {
            self.notifications += 1;
            self.items.push_back(Item::Notification(notification));
        } else if let Some(Item::Marker(Message::Dropped { count })) = self.items.back_mut() {
            *count += 1;
        } else {
            self.items.push_back(Item::Marker(Message::Dropped { count: 1 }));
        }
    }

    pub(super) fn lost(&mut self, generation: u64, cause: Arc<Error>) {
        self.markers += 1;
        self.items.push_back(Item::Marker(Message::Lost { generation, cause }));
    }

    pub(super) fn resynced(&mut self, generation: u64, outage: Duration) {
        self.markers += 1;
        self.items.push_back(Item::Marker(Message::Resynced { generation, outage }));
    }

    /// Whether there is room for the markers of one more link.
    pub(super) fn has_room_for_markers(&self) -> bool {
        self.markers + 2 <= MARKERS
    }

    pub(super) fn pop(&mut self) -> Option<Item<N>> {
        let item = self.items.pop_front()?;
        match &item {
            Item::Notification(_) => self.notifications -= 1,
            Item::Marker(Message::Dropped { .. }) => {}
            Item::Marker(_) => self.markers -= 1,
        }
        Some(item)
    }

    /// Throws everything away, its memory too.
    pub(super) fn clear(&mut self) {
        self.items = VecDeque::new();
        (self.notifications, self.markers) = (0, 0);
    }
}

#[cfg(test)]
mod tests;
