//! One connection that listens.

use std::future::poll_fn;

use tokio_postgres::SimpleQueryMessage;

use super::end::End;
use super::start::start_and_wait;
use super::{Error, ListenerBuilder, ListenerHandle, Message, Notification, ServerConfig};

/// One connection that listens, and does not come back when it is lost. For programs that see to that themselves. Every error
/// of [`recv`](ListenerConn::recv) is the last.
///
/// It has the settings of a [`Listener`](super::Listener) that concern one connection; see
/// [`ListenerBuilder::connect_once`].
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
    handle: ListenerHandle,
    turn: u32,
}

impl ListenerConn {
    /// Connects to a server with the default settings.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] for settings that cannot work, [`Error::Connect`] if the attempt fails.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future takes its attempt with it.
    pub async fn connect(config: impl Into<ServerConfig>) -> Result<Self, Error> {
        ListenerBuilder::new(config.into()).connect_once().await
    }

    pub(super) async fn start(builder: ListenerBuilder) -> Result<Self, Error> {
        let conn = Self { handle: ListenerHandle { shared: start_and_wait(builder, true).await? }, turn: 0 };
        conn.handle.shared.begun().await;
        Ok(conn)
    }

    /// Listens to a channel; see [`Listener::listen`](super::Listener::listen).
    ///
    /// # Errors
    ///
    /// As there; and [`Error::Lost`] or [`Error::Silent`] once the connection is lost.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn listen(&self, channel: &str) -> Result<(), Error> {
        self.handle.listen(channel).await
    }

    /// Stops listening to a channel; see [`Listener::unlisten`](super::Listener::unlisten).
    ///
    /// # Errors
    ///
    /// As there; and [`Error::Lost`] or [`Error::Silent`] once the connection is lost.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn unlisten(&self, channel: &str) -> Result<(), Error> {
        self.handle.unlisten(channel).await
    }

    /// Stops listening to all channels.
    ///
    /// # Errors
    ///
    /// As [`unlisten`](ListenerConn::unlisten).
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn unlisten_all(&self) -> Result<(), Error> {
        self.handle.unlisten_all().await
    }

    /// Asks the server whether it is there; see [`Listener::ping`](super::Listener::ping).
    ///
    /// # Errors
    ///
    /// As there; and [`Error::Lost`] or [`Error::Silent`] once the connection is lost.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn ping(&self) -> Result<(), Error> {
        self.handle.ping().await
    }

    /// Sends statements of your own by the simple protocol, and returns what the server answers.
    ///
    /// A `LISTEN` or `UNLISTEN` among them is carried out, but not known to [`listen`](ListenerConn::listen) and
    /// [`unlisten`](ListenerConn::unlisten). While a transaction is open, what `listen` and `unlisten` do is in force from its
    /// commit on only. A `COPY` from or to the client ends the connection.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] for a zero byte in it, [`Error::Refused`] with the server's words, [`Error::Backlog`], or what says that it is over.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future only ends the wait; the statements may have been carried out.
    pub async fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        if sql.contains('\0') {
            return Err(Error::InvalidConfig("simple_query: a statement with a zero byte: expected none".into()));
        }
        self.handle.question(sql).await
    }

    /// The next notification.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] as soon as it is closed; after all that was received before is handed out,
    /// [`Error::Lost`] or [`Error::Silent`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no notification is lost.
    pub async fn recv(&mut self) -> Result<Notification, Error> {
        loop {
            // (There are no other messages: what is full waits, and there is one link only.)
            if let Message::Notification(notification) =
                poll_fn(|cx| self.handle.shared.poll_recv(&mut self.turn, cx)).await?
            {
                return Ok(notification);
            }
        }
    }

    /// Why it has ended: [`Error::Lost`], [`Error::Silent`], [`Error::Closed`]; `None` while it has not.
    pub fn error(&self) -> Option<Error> {
        self.handle.shared.lock().end.as_ref().map(End::error)
    }

    /// Closes the connection; see [`Listener::close`](super::Listener::close).
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn close(&self) {
        self.handle.close().await;
    }
}

impl Drop for ListenerConn {
    fn drop(&mut self) {
        self.handle.shared.end(End::Closed);
    }
}
