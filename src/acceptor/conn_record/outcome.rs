//! How a connection ended: what its handler returned, and what its stream has seen.
//!
//! Next: [`super::ConnRecord`], which collects it, and [`crate::acceptor::registry`], which reports it.

use std::io;

use crate::acceptor::EndReason;
use crate::panics;

/// How a connection ended, as far as it is known yet.
#[derive(Debug, Default)]
pub(in crate::acceptor) struct Outcome {
    /// `None` until the handler has ended: its runtime may drop it before that.
    pub(in crate::acceptor) reason: Option<EndReason>,
    /// Filled in by the drop of the stream, which comes before the drop of its registration.
    pub(in crate::acceptor) totals: StreamTotals,
}

/// What a stream reports when it is dropped.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::acceptor) struct StreamTotals {
    /// What the handler has read.
    pub(in crate::acceptor) bytes_read: u64,
    /// What the handler has written.
    pub(in crate::acceptor) bytes_written: u64,
    /// An operation ran out of time, and the peer has made no progress in that direction since.
    pub(in crate::acceptor) timed_out: bool,
    /// The peer ended its TLS session without a close_notify, while nothing was under way.
    pub(in crate::acceptor) unannounced_end: bool,
}

impl Outcome {
    /// Counts a connection as finished whose handler only passes on that its client left without a close_notify.
    ///
    /// Many clients never send one. If nothing was under way, nothing was lost: web servers treat this as the end of the
    /// stream. The handler gets the error all the same, as a truncation looks like it.
    pub(super) fn forgive_unannounced_end(&mut self) {
        let is_end = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
        if self.totals.unannounced_end && matches!(&self.reason, Some(EndReason::Failed(error)) if is_end(error)) {
            let error = self.reason.replace(EndReason::Finished);
            // It may be a value of the program.
            panics::ignore(|| drop(error));
        }
    }
}
