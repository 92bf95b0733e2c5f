//! The queue between the task of a listener and its reader: contents, order and limits. No I/O, no clock.
//!
//! Next: `listener_shared/receive`, where the reader takes from it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{Error, Message, WhenFull};

/// How many markers may be in the queue when an attempt begins. Each loss adds two: 64 are the markers of 32 losses.
const MAX_MARKERS: usize = 64;

/// An empty queue keeps room for up to this many messages.
const KEPT_CAPACITY: usize = 1024;

/// The messages that the reader has not taken yet. `N` is a notification.
pub(super) struct MessageQueue<N> {
    /// In the order in which the reader takes them.
    items: VecDeque<Item<N>>,
    /// How many items are notifications.
    notifications: usize,
    /// How many items are markers of a loss or of its end.
    markers: usize,
    /// How many notifications fit.
    limit: usize,
    /// Whether a full queue pauses the reading or drops notifications.
    when_full: WhenFull,
    /// The queue was full. Reading stays paused until half of the queue is free; otherwise each message taken would
    /// cost a wake-up of the task.
    is_paused: bool,
}

/// One entry of the queue.
pub(super) enum Item<N> {
    /// Counts against the limit.
    Notification(N),
    /// Any other message.
    Marker(Message),
}

impl<N> MessageQueue<N> {
    /// An empty queue for up to `limit` notifications.
    pub(super) fn new(limit: usize, when_full: WhenFull) -> Self {
        Self { items: VecDeque::new(), notifications: 0, markers: 0, limit, when_full, is_paused: false }
    }

    /// An empty queue with the same limits.
    pub(super) fn empty_copy(&self) -> Self {
        Self::new(self.limit, self.when_full)
    }

    /// Pauses or resumes reading, and returns how many notifications may be read from the socket now.
    pub(super) fn update_room(&mut self) -> usize {
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

    /// Adds a notification, or counts it as dropped.
    ///
    /// With [`WhenFull::Wait`] the caller must not read more than the [room](Self::update_room).
    pub(super) fn push_notification(&mut self, notification: N) {
        if self.notifications < self.limit || self.when_full == WhenFull::Wait {
            self.notifications += 1;
            self.items.push_back(Item::Notification(notification));
        } else {
            self.push_dropped();
        }
    }

    /// Adds the marker of a loss.
    pub(super) fn push_lost(&mut self, generation: u64, cause: Arc<Error>) {
        self.markers += 1;
        self.items.push_back(Item::Marker(Message::Lost { generation, cause }));
    }

    /// Adds the marker of the end of a loss.
    pub(super) fn push_resynced(&mut self, generation: u64, outage: Duration) {
        self.markers += 1;
        self.items.push_back(Item::Marker(Message::Resynced { generation, outage }));
    }

    /// Adds the marker of a channel that is listened to from now on. It takes the place of a notification, or counts as one
    /// that was dropped: both say that it is time to look.
    pub(super) fn push_listening(&mut self, channel: &str) {
        if self.notifications < self.limit || self.when_full == WhenFull::Wait {
            self.notifications += 1;
            self.items.push_back(Item::Marker(Message::Listening { channel: channel.to_owned() }));
        } else {
            self.push_dropped();
        }
    }

    /// Counts a message as dropped.
    fn push_dropped(&mut self) {
        if let Some(Item::Marker(Message::Dropped { count })) = self.items.back_mut() {
            *count += 1;
        } else {
            self.items.push_back(Item::Marker(Message::Dropped { count: 1 }));
        }
    }

    /// Whether there is room for the markers of one more connection.
    pub(super) fn has_room_for_markers(&self) -> bool {
        self.markers + 2 <= MAX_MARKERS
    }

    /// Takes the first message.
    pub(super) fn pop(&mut self) -> Option<Item<N>> {
        let item = self.items.pop_front()?;
        match &item {
            Item::Notification(_) | Item::Marker(Message::Listening { .. }) => self.notifications -= 1,
            Item::Marker(Message::Dropped { .. }) => {}
            Item::Marker(_) => self.markers -= 1,
        }
        if self.items.is_empty() && self.items.capacity() > KEPT_CAPACITY {
            // One long backlog must not hold the memory for ever.
            self.items = VecDeque::new();
        }
        Some(item)
    }

    /// Takes everything out. The caller drops it after it has released its lock.
    pub(super) fn take_all(&mut self) -> VecDeque<Item<N>> {
        (self.notifications, self.markers) = (0, 0);
        std::mem::take(&mut self.items)
    }
}

#[cfg(test)]
mod tests;
