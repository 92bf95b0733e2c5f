//! The queues of the receivers that have one channel each. No I/O, no clock.
//!
//! Next: [`Subscription`](super::Subscription), the program's end of one.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::channels::ListenId;
use super::queue::MessageQueue;
use super::{Error, Notification};

/// All receivers of a listener.
#[derive(Default)]
pub(super) struct Receivers(HashMap<Arc<str>, Vec<Receiver>>);

/// One receiver: its queue, and who waits for it.
pub(super) struct Receiver {
    /// Tells it from the others of its channel: the `listen` that it made.
    id: ListenId,
    /// The messages that it has not taken yet.
    pub(super) queue: MessageQueue<Notification>,
    /// Wakes the task that waits for a message.
    pub(super) waker: Option<Waker>,
    /// The marker of the last loss is in its queue, and that of the end of the loss is not.
    is_loss_reported: bool,
}

impl Receivers {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one.
    pub(super) fn add(&mut self, channel: &str, id: ListenId, queue: MessageQueue<Notification>) {
        let receiver = Receiver { id, queue, waker: None, is_loss_reported: false };
        self.0.entry(Arc::from(channel)).or_default().push(receiver);
    }

    /// Removes one. The caller drops it after it has released its lock.
    pub(super) fn remove(&mut self, channel: &str, id: ListenId) -> Option<Receiver> {
        let of_channel = self.0.get_mut(channel)?;
        let index = of_channel.iter().position(|receiver| receiver.id == id)?;
        let removed = of_channel.swap_remove(index);
        if of_channel.is_empty() {
            self.0.remove(channel);
        }
        Some(removed)
    }

    /// One of them.
    pub(super) fn get_mut(&mut self, channel: &str, id: ListenId) -> Option<&mut Receiver> {
        self.0.get_mut(channel)?.iter_mut().find(|receiver| receiver.id == id)
    }

    /// How many notifications may be read from the socket now, as far as the receivers are concerned.
    pub(super) fn update_room(&mut self) -> usize {
        self.all().map(|receiver| receiver.queue.update_room()).min().unwrap_or(usize::MAX)
    }

    /// Gives a notification to each receiver of its channel, and notes who has to be woken.
    pub(super) fn push_notification(&mut self, notification: &Notification, woken: &mut Vec<Waker>) {
        for receiver in self.0.get_mut(notification.channel()).into_iter().flatten() {
            receiver.queue.push_notification(notification.clone());
            woken.extend(receiver.waker.take());
        }
    }

    /// Gives the marker of a loss to all. One that has the markers of many losses unread gets no more of them: what it looks
    /// up when it reads the last of them includes what it has missed since.
    pub(super) fn push_lost(&mut self, generation: u64, cause: &Arc<Error>, woken: &mut Vec<Waker>) {
        for receiver in self.all() {
            receiver.is_loss_reported = receiver.queue.has_room_for_markers();
            if receiver.is_loss_reported {
                receiver.queue.push_lost(generation, Arc::clone(cause));
                woken.extend(receiver.waker.take());
            }
        }
    }

    /// Gives the marker of the end of a loss to all that have the marker of the loss.
    pub(super) fn push_resynced(&mut self, generation: u64, outage: Duration, woken: &mut Vec<Waker>) {
        for receiver in self.all() {
            if std::mem::take(&mut receiver.is_loss_reported) {
                receiver.queue.push_resynced(generation, outage);
                woken.extend(receiver.waker.take());
            }
        }
    }

    /// All of them.
    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Receiver> {
        self.0.values_mut().flatten()
    }
}
