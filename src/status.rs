//! The status of a connection, now and as it changes.

use tokio::sync::watch;

/// The state of a connection, as [`Conn::status`](crate::Conn::status) shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// The first link is not up yet; the actor is dialing, or waiting before it dials again.
    Connecting,
    /// A link is up, as far as this machine knows.
    #[non_exhaustive]
    Connected {
        /// Its number.
        generation: u64,
    },
    /// The last link broke; the actor is dialing, or waiting before it dials again.
    #[non_exhaustive]
    Disconnected {
        /// The number of the link that broke.
        generation: u64,
    },
    /// [`max_retries`](crate::Builder::max_retries) are used up.
    GaveUp,
    /// Closed by the program, or by the end of its runtime.
    Closed,
}

impl Status {
    /// Whether a link is up.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }

    /// Whether there will be no link any more.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::GaveUp | Self::Closed)
    }
}

/// Watches the status of a connection; made by [`Conn::watch_status`](crate::Conn::watch_status).
///
/// It sees the newest status, and may miss some in between: a program that has to see each change uses
/// [`Builder::on_event`](crate::Builder::on_event). It does not keep the connection open, and it blocks nobody, however
/// long you keep it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let address = server.local_addr()?;
/// use perconn::{Conn, Status};
///
/// let conn = Conn::builder(address).build()?;
/// let mut watch = conn.watch_status();
/// tokio::spawn(async move {
///     while let Some(status) = watch.changed().await {
///         println!("{status:?}"); // Connected { generation: 1 }, then Closed
///     }
/// });
/// # conn.connected().await?;
/// conn.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct StatusWatch {
    receiver: watch::Receiver<Status>,
    seen: Status,
}

impl StatusWatch {
    pub(crate) fn new(receiver: watch::Receiver<Status>) -> Self {
        let seen = *receiver.borrow();
        Self { receiver, seen }
    }

    /// The status at this moment.
    pub fn current(&self) -> Status {
        *self.receiver.borrow()
    }

    /// Waits for a status other than the one that this watch returned last (or, the first time, the one at its making).
    ///
    /// Returns `None` when there will be no other: the last one was [final](Status::is_final).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future has seen nothing, and the next call returns what it would have returned.
    pub async fn changed(&mut self) -> Option<Status> {
        let seen = self.seen;
        self.wait_for(|status| *status != seen).await
    }

    /// Waits until the status fulfils a condition; ready at once if it does so now.
    ///
    /// Returns `None` when it never will: the status is [final](Status::is_final), and does not fulfil it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future changes nothing.
    pub async fn wait_for(&mut self, mut condition: impl FnMut(&Status) -> bool) -> Option<Status> {
        loop {
            let status = *self.receiver.borrow_and_update();
            if condition(&status) {
                self.seen = status;
                return Some(status);
            }
            // The channel closes when the last handle and the actor are gone.
            if status.is_final() || self.receiver.changed().await.is_err() {
                return None;
            }
        }
    }
}
