//! The figures of an acceptor.
//!
//! Next: [`super::registry`], which counts.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How the slots of an acceptor are used, and what has happened so far; by [`Acceptor::stats`](super::Acceptor::stats).
///
/// Each accepted connection is counted once more at its end, as `finished`, `failed`, `timed_out`, `panicked` or `cut`.
///
/// ```
/// use perconn::acceptor::Acceptor;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), perconn::acceptor::Error> {
/// let acceptor = Acceptor::builder("127.0.0.1:0").acceptors(10).handler(async |_stream, _peer| Ok(())).build()?;
/// let stats = acceptor.stats();
/// assert_eq!((stats.acceptors, stats.busy, stats.accepted), (10, 0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Acceptor slots: how many connections can be served at once. With
    /// [`Overflow::Grow`](super::Overflow::Grow), this includes the extra slots of the moment.
    pub acceptors: usize,
    /// Connections that are being served now.
    pub busy: usize,
    /// Handshakes (TLS, PROXY headers) that are going on, or have ended and wait for a slot.
    pub handshaking: usize,
    /// Connections that have got a slot.
    pub accepted: u64,
    /// Connections that were refused.
    pub refused: u64,
    /// Clients that were not let in: by the
    /// [filter](super::AcceptorBuilder::accept_if) or the [limit of their address](super::AcceptorBuilder::max_per_peer).
    pub rejected: u64,
    /// Connections whose handler returned `Ok`, or whose client left without a close_notify while nothing was under way.
    pub finished: u64,
    /// Connections whose handler returned an error.
    pub failed: u64,
    /// Connections that were silent or slow for too long.
    pub timed_out: u64,
    /// Connections whose handler panicked.
    pub panicked: u64,
    /// Connections that were [cut](super#what-a-client-gets).
    pub cut: u64,
    /// Handshakes that failed, or took too long.
    pub handshakes_failed: u64,
    /// Calls of accept(2) that failed, for any reason.
    pub accepts_failed: u64,
}

/// The counters behind [`Stats`], with the same names.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Counted when a connection gets its slot, so after its handshake.
    pub(super) accepted: AtomicU64,
    /// Counted when a client is turned away, whether or not its refusal text arrives.
    pub(super) refused: AtomicU64,
    /// Neither accepted nor refused.
    pub(super) rejected: AtomicU64,
    /// Counted at the end of a connection, like the next four: each connection in one of them.
    pub(super) finished: AtomicU64,
    /// Without those that failed by a time limit.
    pub(super) failed: AtomicU64,
    /// Only if the handler failed, too: one that goes on after a timeout and returns `Ok` has finished.
    pub(super) timed_out: AtomicU64,
    /// The panic of a destructor in the handler counts as well.
    pub(super) panicked: AtomicU64,
    /// By a stop or a drop of the acceptor, or by the end of its runtime.
    pub(super) cut: AtomicU64,
    /// Those that ran out of time or were evicted count as well.
    pub(super) handshakes_failed: AtomicU64,
    /// One for each call, so an outage of the kernel's resources adds one for each retry.
    pub(super) accepts_failed: AtomicU64,
    /// A level and not a sum: it goes down when a client gets its slot or has gone.
    pub(super) handshaking: AtomicUsize,
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    /// Their values, beside the use of the slots.
    pub(super) fn snapshot(&self, acceptors: usize, busy: usize) -> Stats {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            acceptors,
            busy,
            handshaking: self.handshaking.load(Ordering::Relaxed),
            accepted: value(&self.accepted),
            refused: value(&self.refused),
            rejected: value(&self.rejected),
            finished: value(&self.finished),
            failed: value(&self.failed),
            timed_out: value(&self.timed_out),
            panicked: value(&self.panicked),
            cut: value(&self.cut),
            handshakes_failed: value(&self.handshakes_failed),
            accepts_failed: value(&self.accepts_failed),
        }
    }
}
