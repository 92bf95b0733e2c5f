//! The messages that a reader receives.
//!
//! Next: [`Listener::recv`](super::Listener::recv), which returns them.

use std::sync::Arc;
use std::time::Duration;

use super::Error;

/// A message of [`Listener::recv`](super::Listener::recv). Messages arrive in order.
///
/// Between the notifications of two connections there are always [`Lost`](Message::Lost) and
/// [`Resynced`](Message::Resynced), in this order, once for each lost connection.
///
/// # Examples
///
/// A reader that keeps a copy of a table up to date:
///
/// ```
/// use perconn::postgres::Message;
///
/// /// What the reader has to do after a message.
/// enum Task {
///     LoadRow(String),
///     LoadTable,
///     Nothing,
/// }
///
/// fn task(message: &Message) -> Task {
///     match message {
///         Message::Notification(notification) => Task::LoadRow(notification.payload().to_owned()),
///         // Notifications are missing: during an outage, or because the queue was full.
///         Message::Resynced { .. } | Message::Listening { .. } | Message::Dropped { .. } => Task::LoadTable,
///         _ => Task::Nothing,
///     }
/// }
/// assert!(matches!(task(&Message::dropped(1)), Task::LoadTable));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Message {
    /// A notification.
    Notification(Notification),
    /// The connection was lost. Everything received on it comes before this message.
    #[non_exhaustive]
    Lost {
        /// The number of the connection.
        generation: u64,
        /// Why it was lost.
        cause: Arc<Error>,
    },
    /// A new connection listens to all channels again.
    ///
    /// Notifications sent during the outage were not received: look up now what they would have reported. Everything
    /// after this message was sent after the server had begun to listen to all of the channels.
    #[non_exhaustive]
    Resynced {
        /// The number of the new connection.
        generation: u64,
        /// The time since the loss of the old connection.
        outage: Duration,
    },
    /// A channel is listened to from now on, by the first `LISTEN` for this reader. Look up now what its notifications report:
    /// everything committed later is notified.
    ///
    /// Only with [`report_listening`](super::ListenerBuilder::report_listening). After a loss, `Resynced` says the same of all
    /// channels.
    #[non_exhaustive]
    Listening {
        /// The channel.
        channel: String,
    },
    /// The queue was full, and notifications were dropped at this position ([`WhenFull::Drop`]).
    #[non_exhaustive]
    Dropped {
        /// How many notifications were dropped.
        count: u64,
    },
}

/// Messages for tests of the program's own code. A listener makes its own.
impl Message {
    /// The marker of a lost connection.
    pub fn lost(generation: u64, cause: impl Into<Arc<Error>>) -> Self {
        Self::Lost { generation, cause: cause.into() }
    }

    /// The marker of the end of a loss.
    pub fn resynced(generation: u64, outage: Duration) -> Self {
        Self::Resynced { generation, outage }
    }

    /// The marker of a channel that is listened to.
    pub fn listening(channel: impl Into<String>) -> Self {
        Self::Listening { channel: channel.into() }
    }

    /// The marker of a gap.
    pub fn dropped(count: u64) -> Self {
        Self::Dropped { count }
    }
}

impl From<Notification> for Message {
    fn from(notification: Notification) -> Self {
        Self::Notification(notification)
    }
}

/// A notification, as the server sent it.
///
/// Its text is UTF-8. In a database with the encoding `SQL_ASCII`, any client can send text that is not UTF-8. Then
/// the server ends the session of each listener, which is a loss like any other.
#[derive(Clone)]
pub struct Notification {
    /// The server process that sent it. It lets a program ignore its own notifications.
    process_id: i32,
    /// The length of the channel's name. The payload follows it.
    channel: usize,
    /// The channel's name and the payload, in one allocation.
    text: Box<str>,
}

impl Notification {
    /// A notification, for tests of the program's own code. A listener makes its own.
    ///
    /// ```
    /// use perconn::postgres::{Message, Notification};
    ///
    /// let message = Message::from(Notification::new(4711, "orders", "one"));
    /// assert!(matches!(message, Message::Notification(order) if order.payload() == "one"));
    /// ```
    pub fn new(process_id: i32, channel: &str, payload: &str) -> Self {
        // One allocation for both.
        let mut text = String::with_capacity(channel.len() + payload.len());
        text.push_str(channel);
        text.push_str(payload);
        Self { process_id, channel: channel.len(), text: text.into_boxed_str() }
    }

    /// The process id of the server process whose session sent it.
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// The channel.
    pub fn channel(&self) -> &str {
        &self.text[..self.channel]
    }

    /// The payload; empty if there is none. It is shorter than 8,000 bytes, unless the server was built with another
    /// limit.
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

/// What happens to a notification when the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It waits in the socket, and nothing more is read. This side loses nothing.
    ///
    /// When the socket's buffers are full too, the server keeps the remaining notifications in its notification
    /// queue, which all sessions share (8 GB by default). When that queue is full, `NOTIFY` fails for everybody.
    /// Meanwhile the server's answers cannot be read either: see [`Error::Backlog`].
    #[default]
    Wait,
    /// It is dropped and counted: [`Message::Dropped`] marks the position of the gap.
    Drop,
}
