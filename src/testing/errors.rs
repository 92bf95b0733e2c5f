//! Errors as a connection returns and logs them, for tests of the code that handles them.
//!
//! Their address is `server.test:1`. As an [`io::Error`], they are what a read or a write returns:
//!
//! ```
//! use std::io;
//!
//! use perconn::testing::errors;
//! use perconn::{Error, Op};
//!
//! /// The code under test.
//! fn is_worth_a_retry(error: &io::Error) -> bool {
//!     Error::of(error).is_some_and(|error| !error.is_final())
//! }
//!
//! let broken: io::Error = errors::io_error(Op::Read, 1, io::ErrorKind::ConnectionReset).into();
//! assert!(is_worth_a_retry(&broken));
//! assert!(!is_worth_a_retry(&errors::gave_up(3).into()));
//! ```
//!
//! Next: [`Error`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::{Error, Op};

/// The address in all of them.
const ADDRESS: &str = "server.test:1";

/// An [`Error::DialFailure`]: this dial has failed for this reason.
pub fn dial_failure(attempt: u32, source: impl Into<io::Error>) -> Error {
    Error::DialFailure { address: ADDRESS.into(), attempt, source: source.into() }
}

/// An [`Error::IoError`]: this operation has found this link broken, for this reason.
pub fn io_error(op: Op, generation: u64, source: impl Into<io::Error>) -> Error {
    Error::IoError { op, generation, unacknowledged: None, address: ADDRESS.into(), source: source.into() }
}

/// An [`Error::ShortLink`]: the jobs on this link may be lost.
pub fn short_link(generation: u64, source: impl Into<io::Error>) -> Error {
    Error::ShortLink { generation, address: ADDRESS.into(), source: source.into() }
}

/// An [`Error::GaveUp`] after this many dials, the last of which was refused.
pub fn gave_up(attempts: u32) -> Error {
    let source = Arc::new(dial_failure(attempts, io::ErrorKind::ConnectionRefused));
    Error::GaveUp { address: ADDRESS.into(), attempts, source }
}

/// An [`Error::Down`].
pub fn down() -> Error {
    Error::Down { address: ADDRESS.into() }
}

/// An [`Error::WaitTimeout`] after this time.
pub fn wait_timeout(limit: Duration) -> Error {
    Error::WaitTimeout { address: ADDRESS.into(), limit }
}
