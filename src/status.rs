//! The status of a connection, at one moment and as it changes.
//!
//! Next: `cell`, where it is kept.

use std::sync::Arc;

pub(crate) use self::cell::{ActorStage, StatusCell};

mod cell;

/// The state of a connection, as [`Conn::status`](crate::Conn::status) shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// The first link is not up yet: the actor dials, or waits before the next dial, or for its turn of a
    /// [`DialLimit`](crate::DialLimit).
    Connecting,
    /// A link is up, as far as this machine knows.
    #[non_exhaustive]
    Connected {
        /// The number of the link.
        generation: u64,
    },
    /// The last link broke: the actor dials, or waits before the next dial, or for its turn of a
    /// [`DialLimit`](crate::DialLimit).
    #[non_exhaustive]
    Disconnected {
        /// The number of the link that broke.
        generation: u64,
    },
    /// The [`max_retries`](crate::Builder::max_retries) are used up.
    GaveUp,
    /// The program closed the connection, or its runtime shut down.
    Closed,
}

impl Status {
    /// Whether a link is up, as far as this machine knows.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }

    /// Whether there will be no further link.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::GaveUp | Self::Closed)
    }
}

/// Watches the status of a connection; made by [`Conn::watch_status`](crate::Conn::watch_status).
///
/// A watch sees the newest status and may miss some in between. To see each change, use
/// [`Builder::on_event`](crate::Builder::on_event). A watch does not keep the connection open. You can keep it for any
/// time; it blocks nothing.
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
    /// Has the newest status; older ones are skipped.
    cell: Arc<StatusCell>,
    /// The status that this watch returned last.
    seen: Status,
}

impl StatusWatch {
    /// Counts the present status as returned already, so that `changed` waits for another.
    pub(crate) fn new(cell: Arc<StatusCell>) -> Self {
        let seen = cell.get();
        Self { cell, seen }
    }

    /// The status at this moment.
    ///
    /// It is a copy, so nothing waits for you while you look at it. [`changed`](Self::changed) does not count it as
    /// seen.
    pub fn current(&self) -> Status {
        self.cell.get()
    }

    /// Waits for a status other than the one that this watch returned last.
    ///
    /// The first call waits for a status other than the one at the time the watch was made. Returns `None` when no
    /// other status will follow, because the last one was [final](Status::is_final).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call returns what a dropped future would have returned.
    pub async fn changed(&mut self) -> Option<Status> {
        let seen = self.seen;
        self.wait_for(|status| *status != seen).await
    }

    /// Waits until the status meets a condition. Returns at once if it does so now.
    ///
    /// Returns `None` if it never will: the status is [final](Status::is_final) and does not meet the condition. A
    /// status that comes and goes while this future is not polled may be missed. The status that it returns counts as
    /// seen by [`changed`](Self::changed); one that does not meet the condition does not.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let address = server.local_addr()?;
    /// let conn = perconn::Conn::connect(address).await?;
    /// let mut watch = conn.watch_status();
    /// drop(server.accept().await?); // the server closes
    /// assert!(watch.wait_for(|status| !status.is_connected()).await.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future changes nothing.
    pub async fn wait_for(&mut self, mut condition: impl FnMut(&Status) -> bool) -> Option<Status> {
        let check = |status: Status| match condition(&status) {
            true => Some(Some(status)),
            false => status.is_final().then_some(None),
        };
        let met = self.cell.wait_until(check).await?;
        self.seen = met;
        Some(met)
    }
}
