//! The behaviour of operations during an outage.
//!
//! Next: [`Builder::when_down`](crate::Builder::when_down), which sets it.

use std::time::Duration;

#[cfg(doc)]
use crate::Error;

/// What an operation does when there is no link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[doc(alias("offline", "fail_fast", "outage"))]
pub enum WhenDown {
    /// It waits until a link is up, without a limit.
    #[default]
    Wait,
    /// It waits for at most this long, then it fails with [`Error::WaitTimeout`].
    ///
    /// Each direction has one limit per outage. The time starts with the first operation that finds no link, and starts
    /// over after an operation has failed with the timeout. The wait of a cancelled operation counts. On a
    /// `blocking::Conn`, and for the jobs of a [`SharedConn`](crate::SharedConn), each call has a limit of its own.
    WaitFor(Duration),
    /// It fails at once with [`Error::Down`].
    Fail,
}
