//! Messages that arrive, or are accounted for: a bounded queue in front of a connection that outlives its sockets.
//!
//! ```no_run
//! use std::time::Duration;
//! use perconn::Conn;
//! use perconn::outbox::Outbox;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let outbox = Outbox::builder(Conn::builder("logs.example:20514")).start()?;
//! outbox.send("a line\n").await?; // and so on, from any number of tasks: an outbox is `Clone`
//! let tally = outbox.close(Duration::from_secs(5)).await;
//! println!("{tally}"); // 1 accepted: 1 written
//! # Ok(())
//! # }
//! ```
//!
//! [`send`](Outbox::send) puts a message into the queue and returns. A task of the outbox owns the connection, and writes
//! many messages with each system call. While there is no link, messages wait. After a break it goes on with the next
//! link, and [`Resend`] says what is sent again there. What arrives is read and dropped, unless answers are asked for.
//!
//! # What becomes of a message
//!
//! Each accepted message ends in exactly one of these [fates](Fate), and [`Tally`] counts them. At every moment,
//! `accepted` is the sum of all fates and of what still waits.
//!
//! | fate | meaning |
//! |---|---|
//! | answered | the peer's program has answered it |
//! | rejected | the peer's program does not want it, or the protocol cannot encode it |
//! | written | the peer's kernel has it (where the system does not tell: this machine's kernel) |
//! | in doubt | its link broke before that, and it is not sent again; it may have arrived |
//! | dropped | the queue was full |
//! | expired | it was too old |
//! | unsent | the outbox ended before it was sent |
//!
//! "Written" is what a client can know without answers: TCP moves bytes from kernel to kernel. A server that is killed
//! loses what its kernel has and its program has not read, and that can be megabytes. What this machine's kernel has taken and
//! cannot send is limited to 64 KiB, where the system can: [`OutboxBuilder::start`].
//!
//! # At least once
//!
//! Only [`Resend::Unanswered`] is at least once. The peer has to answer each message, and the outbox sends what is not
//! answered again, in order, before anything new:
//!
//! ```
//! use std::time::Duration;
//! use perconn::Conn;
//! use perconn::outbox::{Answer, Answers, Outbox, Resend};
//! use perconn::codec::tokio_util::codec::LinesCodec;
//! # use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let address = server.local_addr()?;
//! # tokio::spawn(async move {
//! #     let (read, mut write) = server.accept().await?.0.into_split();
//! #     let mut lines = BufReader::new(read).lines();
//! #     while lines.next_line().await?.is_some() {
//! #         write.write_all(b"ok\n").await?;
//! #     }
//! #     std::io::Result::Ok(())
//! # });
//! let answers = Answers::new(|| LinesCodec::new_with_max_length(1024), |_ok| Answer::Next);
//! let outbox = Outbox::builder(Conn::builder(address)).resend(Resend::Unanswered(answers)).start()?;
//! outbox.send("a line\n").await?;
//! outbox.flush().await; // until the server has answered
//! assert_eq!(outbox.close(Duration::from_secs(5)).await.answered, 1);
//! # Ok(())
//! # }
//! ```
//!
//! What had arrived without its answer arrives twice: at most [`window`](OutboxBuilder::window) messages for each break.
//! Each message has a number, the same on every resend, which [`send`](Outbox::send) returns and a [`Protocol`] can put
//! on the wire. A receiver that remembers the highest number per sender can drop the others.
//!
//! # What is where
//!
//! | you want | use |
//! |---|---|
//! | syslog, RELP, Redis streams, Fluentd | [`protocols`] |
//! | frames instead of raw bytes | [`OutboxBuilder::framing`], [`Protocol`] |
//! | a login on each link | [`Builder::and_then`](crate::Builder::and_then) of the connection |
//! | TLS | [`Builder::tls`](crate::Builder#method.tls) of the connection |
//! | to know of breaks and failed dials | [`Builder::on_event`](crate::Builder::on_event) of the connection, [`Outbox::watch_status`] |
//! | to know what was lost | [`Outbox::tally`], [`OutboxBuilder::on_event`] |
//!
//! Nothing is kept on disk: what waits when the process ends is lost, and counted as unsent by
//! [`close`](Outbox::close).
//!
//! Next: [`Outbox`], the handle.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use self::answer::{Answer, Answers, IntoAnswer};
pub use self::builder::OutboxBuilder;
pub use self::error::{SendError, TrySendError};
pub use self::event::Event;
pub use self::protocol::Protocol;
pub use self::resend::{Resend, WhenFull};
use self::shared::Shared;
pub use self::tally::{Fate, Tally};
use crate::{Builder, ConnStats, Error, StatsWatch, Status, StatusWatch};

mod ack_poll;
mod alarm;
mod answer;
#[cfg(feature = "blocking")]
#[cfg_attr(docsrs, doc(cfg(feature = "blocking")))]
pub mod blocking;
mod builder;
mod codec;
mod error;
mod event;
mod hooks;
mod link_run;
mod look;
mod protocol;
pub mod protocols;
mod report;
mod resend;
mod room;
mod send;
mod shared;
mod store;
mod tally;
mod task;
mod wire;

/// A queue of messages for one peer; see the [module](self).
///
/// Cheap to clone. When the last clone is dropped, the outbox is closed as by [`close`](Outbox::close) and goes on in
/// the background for at most [`close_timeout`](OutboxBuilder::close_timeout).
#[derive(Clone)]
#[doc(alias("queue", "shipper", "sender", "sink", "delivery", "at_least_once"))]
pub struct Outbox {
    /// Closes the outbox with the last handle.
    handle: Arc<Handle>,
}

/// What all clones share.
struct Handle {
    /// The store and the waits.
    shared: Arc<Shared>,
    /// The status of the connection.
    status: StatusWatch,
    /// The figures of the connection.
    conn_stats: StatsWatch,
    /// How long the outbox goes on without a handle.
    close_timeout: Duration,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.begin_close(Instant::now().checked_add(self.close_timeout));
    }
}

impl Outbox {
    /// Begins with the default settings. The outbox will own the connection that `conn` describes.
    pub fn builder<D>(conn: Builder<D>) -> OutboxBuilder<D> {
        OutboxBuilder::new(conn)
    }

    /// The first handle.
    fn new(shared: Arc<Shared>, status: StatusWatch, conn_stats: StatsWatch, close_timeout: Duration) -> Self {
        Self { handle: Arc::new(Handle { shared, status, conn_stats, close_timeout }) }
    }

    /// Accepts a message and returns its number. It is sent in the background.
    ///
    /// The bytes are copied: send a reference (`&line`, `&buf[..n]`) and use the memory again.
    ///
    /// If there is no room, this waits for it, and senders get their room in the order in which they came; with another
    /// [`WhenFull`], it returns at once. Messages go out in the order of their numbers.
    ///
    /// # Errors
    ///
    /// The message was not accepted: it is too long or empty, or the outbox has ended or is being closed. See
    /// [`SendError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the message is accepted if this returns `Ok`, and only then. A future that waits for room, and is kept
    /// without being polled, holds up all senders behind it.
    #[inline]
    pub async fn send(&self, message: impl AsRef<[u8]>) -> Result<u64, SendError> {
        self.handle.shared.send(message.as_ref(), false).await
    }

    /// Accepts a message and returns its number, without waiting.
    ///
    /// It takes no part in the runtime: it can be called from any thread.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`TrySendError::Full`] where `send` would wait.
    #[inline]
    pub fn try_send(&self, message: impl AsRef<[u8]>) -> Result<u64, TrySendError> {
        self.handle.shared.try_send(message.as_ref())
    }

    /// Sends a message and waits for its fate.
    ///
    /// In an outage this waits for as long as it takes, unless messages [expire](OutboxBuilder::expire_after). Use
    /// [`send`](Self::send) unless you need the fate of this message: waiting for each one makes one message a round trip.
    ///
    /// ```
    /// use perconn::Conn;
    /// use perconn::outbox::{Fate, Outbox};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let address = server.local_addr()?;
    /// let outbox = Outbox::builder(Conn::builder(address)).start()?;
    /// assert_eq!(outbox.send_and_wait("one line\n").await?, Fate::Written);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// If this is dropped before the message is accepted, it is not sent. Later, dropping this changes nothing for the
    /// message. You cannot tell which; use [`send`](Self::send) where that matters.
    pub async fn send_and_wait(&self, message: impl AsRef<[u8]>) -> Result<Fate, SendError> {
        let shared = &self.handle.shared;
        let number = shared.send(message.as_ref(), true).await?;
        Ok(shared.wait_for_fate(number).await)
    }

    /// Waits until each message that was accepted before this call has its fate.
    ///
    /// In an outage this waits for as long as it takes.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future only ends the wait.
    pub async fn flush(&self) {
        self.handle.shared.flush().await;
    }

    /// How many messages were accepted, and what has become of them, at this moment.
    pub fn tally(&self) -> Tally {
        self.handle.shared.look().store.tally()
    }

    /// Closes the outbox for all clones, and returns the final tally.
    ///
    /// No more messages are accepted: every later send fails, and so does one that waits for room. What waits is sent,
    /// for at most `limit`. Then the link is closed, so that what the kernel has is still delivered, and everything left
    /// becomes [unsent](Fate::Unsent), or [in doubt](Fate::InDoubt) if it had been handed over.
    ///
    /// If several calls overlap, the earliest deadline counts, and all get the same tally. After the end, this returns the
    /// tally at once. It may take a little longer than `limit`, for the close of the link and for hooks that run.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, the outbox closes, and dropping the future only ends the wait.
    #[doc(alias("shutdown", "drain"))]
    pub async fn close(&self, limit: Duration) -> Tally {
        let shared = &self.handle.shared;
        shared.begin_close(Instant::now().checked_add(limit));
        shared.ended.wait_until(|| shared.final_tally()).await
    }

    /// Waits for the end.
    #[cfg(feature = "blocking")]
    fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::clone(&self.handle.shared);
        async move { shared.ended.wait_until(|| shared.final_tally().map(drop)).await }
    }

    /// The number of the oldest message that has no fate yet. `None`: each accepted message has one.
    ///
    /// For a program that reads its messages from somewhere else (a file, a queue on disk): everything before this message need
    /// not be read again after a restart.
    #[doc(alias("checkpoint", "offset", "watermark"))]
    pub fn oldest_waiting(&self) -> Option<u64> {
        self.handle.shared.look().store.oldest_waiting()
    }

    /// The status of the connection at this moment.
    pub fn status(&self) -> Status {
        self.handle.status.current()
    }

    /// The figures of the connection: dials, breaks by cause, times, bytes, the last failure.
    pub fn conn_stats(&self) -> ConnStats {
        self.handle.conn_stats.current()
    }

    /// Watches the status of the connection.
    pub fn watch_status(&self) -> StatusWatch {
        self.handle.status.clone()
    }

    /// Why the outbox takes no messages: it has ended or is being closed. `None` while it takes them.
    pub fn end_cause(&self) -> Option<Arc<Error>> {
        self.handle.shared.end_cause()
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("tally", &self.tally()).field("status", &self.status()).finish_non_exhaustive()
    }
}
