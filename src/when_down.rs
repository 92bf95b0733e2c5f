//! What an outage means to operations.

use std::time::Duration;

#[cfg(doc)]
use crate::Error;

/// What an operation does that finds no link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenDown {
    /// It waits until a link is up, however long that takes.
    #[default]
    Wait,
    /// It waits for this long at most, then it fails with [`Error::WaitTimeout`].
    ///
    /// The time runs per direction and outage, from the first operation that found no link until one was told of
    /// the timeout; a cancelled operation's wait counts. (Each call of a `blocking::Conn` has a time of its own.)
    WaitFor(Duration),
    /// It fails at once with [`Error::Down`].
    Fail,
}
