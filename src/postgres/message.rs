//! What a reader is given.

use std::sync::Arc;
use std::time::Duration;

use super::Error;

/// What [`Listener::recv`](super::Listener::recv) gives, in order.
///
/// Between the notifications of two connections there are always [`Lost`](Message::Lost) and
/// [`Resynced`](Message::Resynced), in this order, once for each connection that was lost.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Message {
    /// A notification.
    Notification(Notification),
    /// The connection was lost. All that was received on it has been handed out before this.
    #[non_exhaustive]
    Lost {
        /// The number of the connection.
        generation: u64,
        /// Why.
        cause: Arc<Error>,
    },
    /// A new connection listens to all channels again. Notifications sent in between were not received: what they tell of has
    /// to be looked up now. All that follows was sent after the server had taken up all of the channels.
    #[non_exhaustive]
    Resynced {
        /// The number of the new connection.
        generation: u64,
        /// The time since the old one was lost.
        outage: Duration,
    },
    /// The queue was full, and at this very place so many notifications were dropped ([`WhenFull::Drop`](super::WhenFull::Drop)).
    #[non_exhaustive]
    Dropped {
        /// How many.
        count: u64,
    },
}

/// A notification, as the server sent it.
///
/// It is text, in UTF-8. In a database whose encoding is `SQL_ASCII`, anybody may send what is none: then the server ends the
/// session of each listener, which is a loss like any other.
#[derive(Clone)]
pub struct Notification {
    process_id: i32,
    /// How long the channel's name is. The payload follows it.
    channel: usize,
    text: Box<str>,
}

impl Notification {
    pub(super) fn new(process_id: i32, channel: &str, payload: &str) -> Self {
        // One piece of memory for both.
        let mut text = String::with_capacity(channel.len() + payload.len());
        text.push_str(channel);
        text.push_str(payload);
        Self { process_id, channel: channel.len(), text: text.into_boxed_str() }
    }

    /// The process of the server whose session has sent it.
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// The channel.
    pub fn channel(&self) -> &str {
        &self.text[..self.channel]
    }

    /// The payload, empty if there is none; below 8,000 bytes, unless the server was built otherwise.
    pub fn payload(&self) -> &str {
        &self.text[self.channel..]
    }
}

impl std::fmt::Debug for Notification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notification")
            .field("process_id", &self.process_id())
            .field("channel", &self.channel())
            .field("payload", &self.payload())
            .finish()
    }
}

impl PartialEq for Notification {
    fn eq(&self, other: &Self) -> bool {
        self.process_id() == other.process_id()
            && self.channel() == other.channel()
            && self.payload() == other.payload()
    }
}

impl Eq for Notification {}

/// What happens to a notification that finds the queue full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It waits in the socket, and nothing more is read. Nothing is lost on this side.
    ///
    /// When the socket's buffers are full, too, the server keeps what is still to be sent in its queue of notifications, which
    /// all sessions share (8 GB unless set otherwise). When that is full, `NOTIFY` fails, for everybody. Meanwhile the
    /// server's answers cannot be read, either: see [`Error::Backlog`].
    #[default]
    Wait,
    /// It is dropped, and counted: [`Message::Dropped`] stands at the place of the gap.
    Drop,
}
