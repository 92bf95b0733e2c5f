//! A listener that survives the server.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::end::End;
use super::start::{start, start_and_wait};
use super::{Error, ListenerBuilder, ListenerHandle, Message, ServerConfig};
use crate::Status;

/// Listens to channels of a PostgreSQL server, and goes on after the server was away; see [the module](super).
///
/// Dropping it closes it.
///
/// # Examples
///
/// Channels come and go by a handle, while another task reads:
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
    handle: ListenerHandle,
    /// The stream has given its error.
    is_over: bool,
    turn: u32,
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
    /// [`Error::InvalidConfig`] for settings that cannot work, [`Error::Connect`] if the first attempt fails, be it for a
    /// wrong password.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future takes its attempt with it.
    pub async fn connect(config: impl Into<ServerConfig>) -> Result<Self, Error> {
        Self::builder(config).connect().await
    }

    pub(super) fn start(builder: ListenerBuilder) -> Result<Self, Error> {
        Ok(Self { handle: ListenerHandle { shared: start(builder)? }, is_over: false, turn: 0 })
    }

    pub(super) async fn start_and_wait(builder: ListenerBuilder) -> Result<Self, Error> {
        let shared = start_and_wait(builder, false).await?;
        let listener = Self { handle: ListenerHandle { shared }, is_over: false, turn: 0 };
        listener.handle.shared.begun().await;
        Ok(listener)
    }

    /// Listens to a channel. Returns when the server has acknowledged it, and waits for that through outages.
    ///
    /// From then on the channel is listened to on every connection. The name is taken as it is: case matters, and any
    /// character may be in it but NUL.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidChannel`] unless the name has 1 to 63 bytes, none of them zero (a longer name the server would cut);
    /// [`Error::AlreadyListening`]; [`Error::Refused`] if the server refuses, a standby for one, and then it is not tried again;
    /// [`Error::NotListening`] if it was unlistened meanwhile; [`Error::Backlog`]; or what says that it is over.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future leaves nothing behind. If the server knows of the channel by then, it is told to
    /// forget it.
    pub async fn listen(&self, channel: &str) -> Result<(), Error> {
        self.handle.listen(channel).await
    }

    /// Stops listening to a channel. Returns when the server has acknowledged it; if there is no connection, at once.
    ///
    /// Notifications that were received before are still handed out.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidChannel`] as for [`listen`](Listener::listen), [`Error::NotListening`], [`Error::Backlog`] (it will
    /// be done nevertheless), or what says that it is over.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, it will be done, and dropping the future only ends the wait.
    pub async fn unlisten(&self, channel: &str) -> Result<(), Error> {
        self.handle.unlisten(channel).await
    }

    /// Stops listening to all channels, as [`unlisten`](Listener::unlisten) does to one.
    ///
    /// # Errors
    ///
    /// [`Error::Backlog`] (it will be done nevertheless), or what says that it is over.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, it will be done, and dropping the future only ends the wait.
    pub async fn unlisten_all(&self) -> Result<(), Error> {
        self.handle.unlisten_all().await
    }

    /// The channels that are listened to, in alphabetical order; those too that the server has not acknowledged yet.
    pub fn channels(&self) -> Vec<String> {
        self.handle.channels()
    }

    /// Asks the server whether it is there. `Ok`: it has answered after this was called.
    ///
    /// It takes [`ping_timeout`](ListenerBuilder::ping_timeout) at most, whether or not anybody reads. If nothing at all came
    /// from the server meanwhile, the connection is given up ([`Error::Silent`]).
    ///
    /// # Errors
    ///
    /// [`Error::Down`] if there is no connection, [`Error::Lost`] if it is lost before the answer, [`Error::PingTimeout`],
    /// [`Error::Backlog`], or what says that it is over.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future only ends the wait.
    pub async fn ping(&self) -> Result<(), Error> {
        self.handle.ping().await
    }

    /// The next message; see [`Message`].
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] as soon as the listener is closed, whatever lies in its queue. After the queue is empty,
    /// [`Error::GaveUp`] or [`Error::RuntimeShutdown`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no message is lost.
    pub async fn recv(&mut self) -> Result<Message, Error> {
        poll_fn(|cx| self.handle.shared.poll_recv(&mut self.turn, cx)).await
    }

    /// Closes the listener, at any moment: what waits ends with [`Error::Closed`], and so does every later call.
    ///
    /// The server is told goodbye if that takes no wait. When the future is ready, the socket is closed and nothing dials
    /// any more; only a hook of the program that is running is not waited for, nor is the socket then. Closing twice does no harm.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, it is closed, and dropping the future only ends the wait.
    pub async fn close(&self) {
        self.handle.close().await;
    }

    /// A handle for other tasks, which can do all of this but receive.
    pub fn handle(&self) -> ListenerHandle {
        self.handle.clone()
    }

    /// The number of the newest connection: 0 before there is one. It grows, and skips those that ended before they
    /// were used.
    pub fn generation(&self) -> u64 {
        self.handle.generation()
    }

    /// Whether there is a connection, as far as this machine knows.
    pub fn is_connected(&self) -> bool {
        self.handle.is_connected()
    }

    /// The state of the listener at this moment.
    pub fn status(&self) -> Status {
        self.handle.status()
    }
}

/// The messages of [`recv`](Listener::recv). When it is over: the error once, then the end.
impl Stream for Listener {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let me = &mut *self;
        let item = ready!(me.handle.shared.poll_recv(&mut me.turn, cx));
        self.is_over = item.is_err();
        Poll::Ready(Some(item))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.handle.shared.end(End::Closed);
    }
}
