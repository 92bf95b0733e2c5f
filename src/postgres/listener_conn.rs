//! A single listening connection, which does not reconnect.
//!
//! Next: [`Listener`](super::Listener), which does.

use std::future::poll_fn;

use tokio_postgres::SimpleQueryMessage;

use super::end_reason::EndReason;
use super::listener_shared::Inbox;
use super::start::start_and_wait;
use super::{Error, ListenerBuilder, ListenerHandle, Message, Notification, ServerConfig};

/// A single connection that listens, and that does not reconnect when it is lost. For programs that reconnect
/// themselves.
///
/// Every error of [`recv`](ListenerConn::recv) is final. The settings of a [`Listener`](super::Listener) that concern
/// one connection apply; see [`ListenerBuilder::connect_once`].
///
/// ```no_run
/// use perconn::postgres::ListenerConn;
///
/// # async fn example() -> Result<(), perconn::postgres::Error> {
/// let mut conn = ListenerConn::connect("postgres://agent@db.example/orders").await?;
/// conn.listen("orders").await?;
/// conn.simple_query("NOTIFY orders, 'one'").await?;
/// assert_eq!(conn.recv().await?.payload(), "one");
/// # Ok(())
/// # }
/// ```
#[must_use = "it is closed as soon as it is dropped"]
#[derive(Debug)]
pub struct ListenerConn {
    /// Sends the commands and queries. Other than a handle on a `Listener`, it ends the connection by its drop.
    handle: ListenerHandle,
    /// Counts the polls of `recv`: many messages spend one unit of the task's budget.
    recv_calls: u32,
}

impl ListenerConn {
    /// Connects to a server with the default settings.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] for invalid settings, [`Error::Connect`] if the attempt fails.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future ends its attempt.
    pub async fn connect(config: impl Into<ServerConfig>) -> Result<Self, Error> {
        ListenerBuilder::new(config.into()).connect_once().await
    }

    /// Makes the connection; see [`ListenerBuilder::connect_once`].
    pub(super) async fn start(builder: ListenerBuilder) -> Result<Self, Error> {
        let shared = start_and_wait(builder, true).await?;
        let conn = Self { handle: ListenerHandle { shared }, recv_calls: 0 };
        conn.handle.shared.wait_for_first_connection().await;
        Ok(conn)
    }

    /// Listens to a channel; see [`Listener::listen`](super::Listener::listen).
    ///
    /// # Errors
    ///
    /// See there; and [`Error::Lost`] or [`Error::Silent`] once the connection is lost.
    ///
    /// # Cancel safety
    ///
    /// See there.
    pub async fn listen(&self, channel: &str) -> Result<(), Error> {
        self.handle.listen(channel).await
    }

    /// Stops listening to a channel; see [`Listener::unlisten`](super::Listener::unlisten).
    ///
    /// # Errors
    ///
    /// See there; and [`Error::Lost`] or [`Error::Silent`] once the connection is lost.
    ///
    /// # Cancel safety
    ///
    /// See there.
    pub async fn unlisten(&self, channel: &str) -> Result<(), Error> {
        self.handle.unlisten(channel).await
    }

    /// Stops listening to all channels; see [`Listener::unlisten_all`](super::Listener::unlisten_all).
    ///
    /// # Errors
    ///
    /// See there; and [`Error::Lost`] or [`Error::Silent`] once the connection is lost.
    ///
    /// # Cancel safety
    ///
    /// See there.
    pub async fn unlisten_all(&self) -> Result<(), Error> {
        self.handle.unlisten_all().await
    }

    /// Sends an empty query and waits for its answer; see [`Listener::ping`](super::Listener::ping).
    ///
    /// # Errors
    ///
    /// See there; and [`Error::Lost`] or [`Error::Silent`] once the connection is lost.
    ///
    /// # Cancel safety
    ///
    /// See there.
    pub async fn ping(&self) -> Result<(), Error> {
        self.handle.ping().await
    }

    /// Sends statements of your own by the simple query protocol, and returns the server's answers.
    ///
    /// A `LISTEN` or `UNLISTEN` among them is executed, but [`listen`](ListenerConn::listen) and
    /// [`unlisten`](ListenerConn::unlisten) do not know of it. While a transaction is open, `listen` and `unlisten`
    /// take effect only when it commits. A `COPY` from or to the client ends the connection.
    ///
    /// A statement may take any time. While the server works on it, silence is not counted: wrap the call in a timeout if the
    /// server may never answer, and set `tcp_user_timeout` or `keepalives` for a network that fails.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidConfig`] for a statement with a zero byte.
    /// - [`Error::Refused`] with the server's error.
    /// - [`Error::Backlog`] if no task reads.
    /// - [`Error::Lost`], [`Error::Silent`] or [`Error::Closed`] if the connection has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future only ends the wait. The statements may have been executed.
    pub async fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        self.handle.simple_query(sql).await
    }

    /// Receives the next notification.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] as soon as the connection is closed. [`Error::Lost`] or [`Error::Silent`] after everything
    /// received before the loss was returned.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no notification is lost.
    pub async fn recv(&mut self) -> Result<Notification, Error> {
        loop {
            // There are no other messages: a full queue always waits, and there is only one connection.
            if let Message::Notification(notification) =
                poll_fn(|cx| self.handle.shared.poll_recv(Inbox::Listener, &mut self.recv_calls, cx)).await?
            {
                return Ok(notification);
            }
        }
    }

    /// Why the connection has ended: [`Error::Lost`], [`Error::Silent`] or [`Error::Closed`]. `None` while it is up.
    pub fn error(&self) -> Option<Error> {
        self.handle.shared.lock().end_reason.as_ref().map(EndReason::error)
    }

    /// Closes the connection; see [`Listener::close`](super::Listener::close).
    ///
    /// # Cancel safety
    ///
    /// See there.
    pub async fn close(&self) {
        self.handle.close().await;
    }
}

impl Drop for ListenerConn {
    fn drop(&mut self) {
        self.handle.shared.end(EndReason::Closed);
    }
}
