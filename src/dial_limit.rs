//! A limit that many connections share: how many of them dial at once, and how many begin to dial in a second.
//!
//! `rules` are pure and decide whose turn it is, `queue` has those that wait and the time. Next: [`Queue`].

use std::fmt;
use std::sync::Arc;

pub(crate) use self::queue::DialPermit;
use self::queue::Queue;
use crate::Error;

mod queue;
mod rules;

/// A limit of dials that connections share: how many may be under way, and how many may begin in a second.
///
/// After a restart of a server, all connections of a process dial it again, each on its own. Give them one limit, and they do
/// so one after the other. A clone is the same limit. Connections ([`Builder::dial_limit`](crate::Builder::dial_limit)),
/// pools, listeners and outboxes can share it, on any number of runtimes.
///
/// - **First come, first served.** A connection waits behind those that began to wait before.
/// - **A dial counts from its start to its end**: the name, all its addresses, TLS, the session set-up.
/// - **In any second, at most `per_second` dials begin.** They are spaced evenly, and a quiet time does not add up. A burst is
///   what begins within ten milliseconds: one dial for up to 100 a second, ten for 1,000. Over a long time, the rate is a hundredth
///   lower than `per_second`. After a quiet time, the second dial is later by a random part of the spacing: limits of many processes do
///   not dial in step.
/// - **The wait is no attempt.** It costs none of the [`max_retries`](crate::Builder::max_retries), and the
///   [`dial_timeout`](crate::Builder::dial_timeout) begins after it. It comes after the delay of the backoff.
/// - **A close ends the wait** at once. So does the drop of the connection, of a `connect()` or of a runtime. The place goes to the
///   next. [`dial_now`](crate::Conn::dial_now) cuts the delay before the wait, and not the wait.
///
/// While a connection waits, its [`Status`](crate::Status) is that of any outage, and there is no event. [`waiting`](Self::waiting)
/// and [`dialing`](Self::dialing) have the numbers, and each wait is a line at the level `debug`.
///
/// It needs a runtime with time enabled. Do not share a limit between a connection and another one that its dialer uses, such as a tunnel. The first would hold its
/// place until the other has one.
///
/// ```
/// use perconn::{Conn, DialLimit};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), perconn::Error> {
/// let limit = DialLimit::new(10, 50)?; // for this process: 10 dials under way, 50 begun in a second
/// let mut conns = Vec::new();
/// for number in 0..1_000 {
///     conns.push(Conn::builder(format!("agent-{number}.example:4000")).dial_limit(&limit).build()?);
/// }
/// println!("{limit:?}"); // DialLimit { at_once: 10, per_second: 50, dialing: 1, waiting: 999 }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[doc(alias("rate_limit", "throttle", "concurrency", "thundering_herd", "semaphore"))]
pub struct DialLimit {
    /// How many dials may be under way.
    at_once: usize,
    /// How many may begin in a second.
    per_second: u32,
    /// Those that dial and wait, shared by all clones.
    queue: Arc<Queue>,
}

impl DialLimit {
    /// A limit of `at_once` dials under way, and of `per_second` dials that begin in any second.
    ///
    /// For one limit alone, make the other one large: `usize::MAX`, `u32::MAX`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if one of the numbers is zero.
    pub fn new(at_once: usize, per_second: u32) -> Result<Self, Error> {
        let invalid = |name| Err(Error::InvalidConfig(format!("{name} 0 of a dial limit: expected at least 1")));
        if at_once == 0 {
            return invalid("at_once");
        }
        if per_second == 0 {
            return invalid("per_second");
        }
        Ok(Self { at_once, per_second, queue: Queue::new(at_once, per_second) })
    }

    /// How many connections wait for their turn now.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// How many dials are under way now; at most `at_once`.
    pub fn dialing(&self) -> usize {
        self.queue.dialing()
    }

    /// Waits for the turn of a dial, which lasts until the permit is dropped. `name` is that of the connection, for the log.
    ///
    /// Panics outside of a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future gives up its place.
    pub(crate) async fn turn(&self, name: &str) -> DialPermit {
        self.queue.turn(name).await
    }

    /// The same, where there may be no limit.
    #[cfg(any(feature = "pool", feature = "postgres"))]
    pub(crate) async fn turn_of(limit: Option<&Self>, name: &str) -> Option<DialPermit> {
        match limit {
            Some(limit) => Some(limit.turn(name).await),
            None => None,
        }
    }
}

impl fmt::Debug for DialLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DialLimit")
            .field("at_once", &self.at_once)
            .field("per_second", &self.per_second)
            .field("dialing", &self.dialing())
            .field("waiting", &self.waiting())
            .finish()
    }
}

#[cfg(test)]
mod tests;
