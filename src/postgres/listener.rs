//! A listener that survives the loss of its server.
//!
//! Next: [`ListenerHandle`], which makes its requests, and `listener_shared/receive`, which reads its queue.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio_postgres::SimpleQueryMessage;

use super::end_reason::EndReason;
use super::listener_shared::Inbox;
use super::start::{start, start_and_wait};
use super::{Error, ListenerBuilder, ListenerHandle, Message, ServerConfig, Subscription};
use crate::{ConnStats, Status, StatusWatch};

/// Listens to channels of a PostgreSQL server, and reconnects after a loss; see [the module](super).
///
/// Dropping it closes it.
///
/// # Examples
///
/// A handle adds and removes channels while another task reads:
///
/// ```no_run
/// use futures_util::StreamExt;
/// use perconn::postgres::Listener;
///
/// # async fn example() -> Result<(), perconn::postgres::Error> {
/// let mut listener = Listener::connect("host=/run/postgresql user=agent").await?;
/// let handle = listener.handle();
/// tokio::spawn(async move {
///     while let Some(Ok(message)) = listener.next().await {
///         println!("{message:?}");
///     }
/// });
/// handle.listen("orders").await?;
/// handle.ping().await?;
/// handle.unlisten("orders").await?;
/// handle.close().await;
/// # Ok(())
/// # }
/// ```
#[must_use = "it is closed as soon as it is dropped"]
#[derive(Debug)]
pub struct Listener {
    /// Makes the requests.
    handle: ListenerHandle,
    /// The stream has returned its error.
    is_stream_done: bool,
    /// Counts the calls of `recv`; see `poll_recv`.
    recv_calls: u32,
}

impl Listener {
    /// Begins the settings of a listener.
    pub fn builder(config: impl Into<ServerConfig>) -> ListenerBuilder {
        ListenerBuilder::new(config.into())
    }

    /// Connects to a server with the default settings, and waits for the outcome of the first attempt.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] for invalid settings, [`Error::Connect`] if the first attempt fails, for example
    /// because of a wrong password.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future ends its attempt.
    pub async fn connect(config: impl Into<ServerConfig>) -> Result<Self, Error> {
        Self::builder(config).connect().await
    }

    /// Starts a listener; see [`ListenerBuilder::build`].
    pub(super) fn start(builder: ListenerBuilder) -> Result<Self, Error> {
        Ok(Self { handle: ListenerHandle { shared: start(builder)? }, is_stream_done: false, recv_calls: 0 })
    }

    /// Starts a listener and waits; see [`ListenerBuilder::connect`].
    pub(super) async fn start_and_wait(builder: ListenerBuilder) -> Result<Self, Error> {
        let shared = start_and_wait(builder, false).await?;
        let listener = Self { handle: ListenerHandle { shared }, is_stream_done: false, recv_calls: 0 };
        listener.handle.shared.wait_for_first_connection().await;
        Ok(listener)
    }

    /// Listens to a channel. Returns when the server has acknowledged it, and waits for that through outages.
    ///
    /// From then on the channel is listened to on every connection. The name is taken literally: case matters, and it
    /// may contain any character except NUL.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidChannel`] unless the name has 1 to 63 bytes, none of them zero, in UTF-8 and in the encoding of the
    ///   database. The server would truncate a longer name.
    /// - [`Error::AlreadyListening`] if the channel is listened to already.
    /// - [`Error::Refused`] if the server refuses, as a standby does. Then it is not tried again. A standby that is one of several
    ///   hosts is left for the next host instead, and the call goes on waiting.
    /// - [`Error::NotListening`] if the channel was unlistened in the meantime.
    /// - [`Error::Backlog`] if no task reads, or if the task takes less than arrives, for
    ///   [`ping_timeout`](ListenerBuilder::ping_timeout).
    /// - A [final](Error::is_final) error if the listener has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future takes the `listen` back. If the server already knows the channel, an
    /// `UNLISTEN` is sent.
    pub async fn listen(&self, channel: &str) -> Result<(), Error> {
        self.handle.listen(channel).await
    }

    /// Stops listening to a channel. Returns when the server has acknowledged it, or at once if there is no connection.
    ///
    /// Notifications that were committed before the call are still returned.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidChannel`] as for [`listen`](Listener::listen).
    /// - [`Error::NotListening`] if the channel is not listened to.
    /// - [`Error::Backlog`] if no task reads. The `UNLISTEN` is sent later.
    /// - A [final](Error::is_final) error if the listener has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, it will be done. Dropping the future only ends the wait.
    pub async fn unlisten(&self, channel: &str) -> Result<(), Error> {
        self.handle.unlisten(channel).await
    }

    /// Stops listening to all channels, as [`unlisten`](Listener::unlisten) does for one.
    ///
    /// # Errors
    ///
    /// - [`Error::Backlog`] if no task reads. The `UNLISTEN` is sent later.
    /// - A [final](Error::is_final) error if the listener has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, it will be done. Dropping the future only ends the wait.
    pub async fn unlisten_all(&self) -> Result<(), Error> {
        self.handle.unlisten_all().await
    }

    /// Listens to several channels, as [`listen`](Listener::listen) does to one. Returns when the server has acknowledged all of
    /// them.
    ///
    /// ```no_run
    /// # async fn example(listener: perconn::postgres::Listener) -> Result<(), perconn::postgres::Error> {
    /// listener.listen_all(["orders", "users"]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`listen`](Listener::listen). Then none of them is listened to by this call.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future takes all of them back.
    pub async fn listen_all(&self, channels: impl IntoIterator<Item = impl AsRef<str>>) -> Result<(), Error> {
        self.handle.listen_all(channels).await
    }

    /// Listens to a channel for a receiver of its own; see [`Subscription`]. Returns when the server has acknowledged it, and
    /// waits for that through outages.
    ///
    /// Any number of them may be for the same channel, also beside a [`listen`](Listener::listen) of that channel. What is
    /// notified for receivers only is not returned by [`recv`](Listener::recv). While all channels of a listener are those of
    /// receivers, `recv` returns no markers of losses either, so that nobody has to call it.
    ///
    /// # Errors
    ///
    /// As for [`listen`](Listener::listen), except [`Error::AlreadyListening`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future takes it back.
    pub async fn subscribe(&self, channel: &str) -> Result<Subscription, Error> {
        self.handle.subscribe(channel).await
    }

    /// Sends statements of your own in the session that listens, by the simple query protocol, and returns the server's answers.
    ///
    /// It is meant for short statements that belong to the session: a `SET`, an advisory lock, a `NOTIFY`. While a statement
    /// runs, PostgreSQL sends no notification. Silence is not counted meanwhile: wrap the call in a timeout if the server may
    /// never answer, and set `tcp_user_timeout` or `keepalives` for a network that fails.
    ///
    /// What a statement leaves in the session is gone after a loss. A `LISTEN` or `UNLISTEN` among the statements is executed,
    /// but [`listen`](Listener::listen) and [`unlisten`](Listener::unlisten) do not know of it. While a transaction is open,
    /// `listen` and `unlisten` take effect only when it commits. A `COPY` from or to the client ends the connection.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidConfig`] for a statement with a zero byte.
    /// - [`Error::Down`] if there is no connection.
    /// - [`Error::Refused`] with the server's error.
    /// - [`Error::Backlog`] if no task reads.
    /// - [`Error::Lost`] or [`Error::Silent`] if the connection is lost before the answer. The statements may have been executed.
    /// - A [final](Error::is_final) error if the listener has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future only ends the wait. The statements may have been executed.
    pub async fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        self.handle.simple_query(sql).await
    }

    /// The channels that are listened to, in alphabetical order. They include the ones that the server has not
    /// acknowledged yet.
    pub fn channels(&self) -> Vec<String> {
        self.handle.channels()
    }

    /// Sends an empty query and waits for its answer. `Ok` means that the server has answered after this call.
    ///
    /// The wait ends after [`ping_timeout`](ListenerBuilder::ping_timeout), whether or not a task reads. If nothing
    /// at all arrives from the server within that time, the connection is dropped ([`Error::Silent`]).
    ///
    /// # Errors
    ///
    /// - [`Error::Down`] if there is no connection.
    /// - [`Error::Lost`] or [`Error::Silent`] if the connection is lost before the answer.
    /// - [`Error::PingTimeout`] if no answer arrives in time.
    /// - [`Error::Backlog`] if no task reads.
    /// - A [final](Error::is_final) error if the listener has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future only ends the wait.
    pub async fn ping(&self) -> Result<(), Error> {
        self.handle.ping().await
    }

    /// Receives the next message; see [`Message`].
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] as soon as the listener is closed, whatever its queue holds. After the queue is empty,
    /// [`Error::GaveUp`] or [`Error::RuntimeShutdown`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no message is lost.
    pub async fn recv(&mut self) -> Result<Message, Error> {
        poll_fn(|cx| self.handle.shared.poll_recv(Inbox::Listener, &mut self.recv_calls, cx)).await
    }

    /// Closes the listener, at any moment. Waiting calls and all later calls end with [`Error::Closed`].
    ///
    /// The server gets the message that ends a session, if that takes no wait. When the future is ready, the socket
    /// is closed and there are no more dials. There is one exception: while a hook of the program runs, the close
    /// does not wait for the hook or the socket. Closing twice is harmless.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, the listener is closed. Dropping the future only ends the wait.
    pub async fn close(&self) {
        self.handle.close().await;
    }

    /// A handle for other tasks. It can do everything except receive.
    pub fn handle(&self) -> ListenerHandle {
        self.handle.clone()
    }

    /// The number of the newest connection: 0 before there is one.
    ///
    /// It only increases. Numbers of connections that ended unused are skipped.
    pub fn generation(&self) -> u64 {
        self.handle.generation()
    }

    /// Whether there is a connection, as far as this machine knows.
    pub fn is_connected(&self) -> bool {
        self.handle.is_connected()
    }

    /// The status of the listener at this moment.
    pub fn status(&self) -> Status {
        self.handle.status()
    }

    /// The figures of the listener's connection: attempts, breaks by cause, times, the last failure.
    pub fn conn_stats(&self) -> ConnStats {
        self.handle.conn_stats()
    }

    /// A watch of the status, for a task that waits for a change of it.
    ///
    /// ```no_run
    /// # async fn example(listener: perconn::postgres::Listener) {
    /// let mut watch = listener.watch_status();
    /// tokio::spawn(async move {
    ///     while let Some(status) = watch.changed().await {
    ///         println!("listening: {}", status.is_connected());
    ///     }
    /// });
    /// # }
    /// ```
    pub fn watch_status(&self) -> StatusWatch {
        self.handle.watch_status()
    }
}

/// The messages of [`recv`](Listener::recv). After the listener has ended, the stream returns the error once and then
/// ends.
impl Stream for Listener {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_stream_done {
            return Poll::Ready(None);
        }
        let me = &mut *self;
        let item = ready!(me.handle.shared.poll_recv(Inbox::Listener, &mut me.recv_calls, cx));
        self.is_stream_done = item.is_err();
        Poll::Ready(Some(item))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.handle.shared.end(EndReason::Closed);
    }
}
