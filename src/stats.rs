//! What has become of a connection so far, in figures.
//!
//! Next: `conn_state/figures.rs`, which keeps them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Error;

/// The figures of a connection since it was built; returned by [`Conn::stats`](crate::Conn::stats).
///
/// Counting costs nothing on the way of reads and writes: their bytes are counted anyway. A call of `stats` takes a lock for a
/// moment, so ask as often as a person or a scraper looks, not for each message.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), perconn::Error> {
/// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
/// # let address = server.local_addr().unwrap();
/// let conn = perconn::Conn::builder(address).name("billing-db").connect().await?;
/// let stats = conn.stats();
/// println!("{} dials, {} failed, {} breaks", stats.dials, stats.failed_dials, stats.breaks.total());
/// println!("up {:?}, down {:?}", stats.time_up, stats.time_down);
/// if let Some(error) = &stats.last_error {
///     println!("the last failure: {}", error.with_causes());
/// }
/// # assert_eq!((stats.generation, stats.dials, stats.failed_dials, stats.breaks.total()), (1, 1, 0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
#[doc(alias("metrics", "statistics", "counters", "telemetry"))]
pub struct ConnStats {
    /// Whether a link is up, as far as this machine knows.
    pub is_connected: bool,
    /// The number of the newest link, which is how many links there have been.
    pub generation: u64,
    /// How many dials were begun.
    pub dials: u64,
    /// How many of them have failed.
    pub failed_dials: u64,
    /// How many links broke, by cause.
    pub breaks: Breaks,
    /// How long there was a link, in all.
    pub time_up: Duration,
    /// How long there was none, from the build to the end of the connection.
    pub time_down: Duration,
    /// How many bytes the program has read, on all links.
    pub bytes_read: u64,
    /// How many bytes the program has written, on all links. Those of session set-ups are not counted.
    pub bytes_written: u64,
    /// The last failure: an [`Error::DialFailure`], or an [`Error::IoError`] for a break. It stays while the next link is up.
    pub last_error: Option<Arc<Error>>,
}

/// Asks a connection for its figures, from any task; made by [`Conn::watch_stats`](crate::Conn::watch_stats).
///
/// It does not keep the connection open, and has its last figures after the end.
#[derive(Clone)]
pub struct StatsWatch(Arc<dyn StatsSource + Send + Sync>);

impl StatsWatch {
    /// A watch of the connection with this state.
    pub(crate) fn new(source: Arc<dyn StatsSource + Send + Sync>) -> Self {
        Self(source)
    }

    /// The figures at this moment.
    pub fn current(&self) -> ConnStats {
        self.0.stats()
    }
}

impl fmt::Debug for StatsWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StatsWatch").field(&self.current()).finish()
    }
}

/// What has figures, whatever its stream is.
pub(crate) trait StatsSource {
    /// The figures at this moment.
    fn stats(&self) -> ConnStats;
}

/// How many links broke, by cause; a part of [`ConnStats`].
///
/// A link counts as soon as the break is noticed, for the cause that was noticed first. A connection that the program closes has
/// no break.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Breaks {
    /// The peer closed the link.
    pub closed: u64,
    /// The peer or something on the way reset it, or nobody took the bytes any more: the kinds
    /// [`ConnectionReset`](std::io::ErrorKind::ConnectionReset), `ConnectionAborted` and `BrokenPipe`.
    pub reset: u64,
    /// The kernel got no answer ([`keepalive`](crate::Builder::keepalive), [`user_timeout`](crate::Builder::user_timeout)), or
    /// a read received nothing within the [`idle_timeout`](crate::Builder::idle_timeout).
    pub timed_out: u64,
    /// The program broke it, with `break_link` or `abandon`.
    pub requested: u64,
    /// Any other error: of a session such as TLS, or of the network.
    pub other: u64,
}

impl Breaks {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.closed + self.reset + self.timed_out + self.requested + self.other
    }
}
