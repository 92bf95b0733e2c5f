//! A receiver of one channel, beside others of the same listener.
//!
//! Next: `listener_shared/receive`, which reads its queue.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::channels::ListenId;
use super::listener_shared::{Inbox, ListenerShared};
use super::{Error, Message};

/// Receives the notifications of one channel; made by [`Listener::subscribe`](super::Listener::subscribe).
///
/// A listener has any number of them, on the same channels or on others, each with a queue of its own. They share its one
/// connection. The listener sends `LISTEN` when the first of a channel begins, and `UNLISTEN` after the last was dropped.
///
/// It receives what a [`Listener`](super::Listener) would: the notifications of its channel, and the markers of each loss. It
/// does not keep the listener alive.
///
/// With [`WhenFull::Wait`](super::WhenFull::Wait), one full queue stops the reading for all. Where one slow receiver must not
/// hold up the others, set [`WhenFull::Drop`](super::WhenFull::Drop). A receiver that has the markers of 32 losses unread
/// gets no more of them, and the listener goes on.
///
/// # Examples
///
/// ```no_run
/// use futures_util::StreamExt;
/// use perconn::postgres::{Listener, Message};
///
/// # async fn example() -> Result<(), perconn::postgres::Error> {
/// let listener = Listener::connect("host=/run/postgresql user=agent").await?;
/// let mut orders = listener.subscribe("orders").await?;
/// tokio::spawn(async move {
///     while let Some(Ok(message)) = orders.next().await {
///         match message {
///             Message::Notification(order) => println!("{}", order.payload()),
///             Message::Resynced { .. } => println!("what was missed?"),
///             _ => {}
///         }
///     }
/// });
/// # Ok(())
/// # }
/// ```
#[must_use = "it ends as soon as it is dropped"]
pub struct Subscription {
    /// Has the queue.
    shared: Arc<ListenerShared>,
    /// Together with `id`, what the queue is looked up by.
    channel: Arc<str>,
    /// The `listen` that it has made.
    id: ListenId,
    /// The stream has returned its error.
    is_stream_done: bool,
    /// Counts the calls of `recv`; see `poll_recv`.
    recv_calls: u32,
}

impl Subscription {
    /// The end of a receiver whose queue is there already.
    pub(super) fn new(shared: Arc<ListenerShared>, channel: &str, id: ListenId) -> Self {
        Self { shared, channel: Arc::from(channel), id, is_stream_done: false, recv_calls: 0 }
    }

    /// The channel.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Receives the next message; see [`Message`].
    ///
    /// # Errors
    ///
    /// As for [`Listener::recv`](super::Listener::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no message is lost.
    pub async fn recv(&mut self) -> Result<Message, Error> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the next message.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        let inbox = Inbox::Receiver { channel: &self.channel, id: self.id };
        self.shared.poll_recv(inbox, &mut self.recv_calls, cx)
    }
}

/// Returns what [`recv`](Subscription::recv) returns, and ends after its first error.
impl Stream for Subscription {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_stream_done {
            return Poll::Ready(None);
        }
        let item = ready!(self.poll_recv(cx));
        self.is_stream_done = item.is_err();
        Poll::Ready(Some(item))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.remove_receiver(&self.channel, self.id);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("channel", &self.channel).finish_non_exhaustive()
    }
}
