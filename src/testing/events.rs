//! Events to call a hook with, in a test of the hook.
//!
//! The variants of [`Event`] are non-exhaustive, so that they may get more fields; that also keeps programs from making
//! them.
//!
//! ```
//! use perconn::Event;
//! use perconn::testing::events;
//!
//! /// The hook under test.
//! fn is_alarming(event: &Event) -> bool {
//!     matches!(event, Event::DialFailed { attempt, .. } if *attempt > 3)
//! }
//!
//! let cause = std::io::ErrorKind::ConnectionRefused;
//! assert!(!is_alarming(&events::dial_failed(3, cause, None)));
//! assert!(is_alarming(&events::dial_failed(4, cause, None)));
//! ```
//!
//! Next: [`errors`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::errors;
use crate::{Event, Op};

/// An [`Event::Connected`] of link 1, after this many dials.
pub fn connected(attempt: u32) -> Event {
    Event::Connected { generation: 1, attempt }
}

/// An [`Event::Disconnected`]: this link has broken for this reason, in a read.
///
/// It had been up for an hour, and had carried a thousand bytes each way.
pub fn disconnected(generation: u64, cause: impl Into<io::Error>, retry_in: impl Into<Option<Duration>>) -> Event {
    let cause = Arc::new(errors::io_error(Op::Read, generation, cause));
    let (lived, retry_in) = (Duration::from_secs(3600), retry_in.into());
    Event::Disconnected { generation, cause, lived, bytes_read: 1000, bytes_written: 1000, retry_in }
}

/// An [`Event::Reconnected`]: this link is up after this many dials.
pub fn reconnected(generation: u64, attempt: u32) -> Event {
    Event::Reconnected { generation, attempt }
}

/// An [`Event::DialFailed`]: this dial has failed for this reason.
pub fn dial_failed(attempt: u32, cause: impl Into<io::Error>, retry_in: impl Into<Option<Duration>>) -> Event {
    let cause = Arc::new(errors::dial_failure(attempt, cause));
    Event::DialFailed { attempt, cause, retry_in: retry_in.into() }
}

/// An [`Event::GaveUp`] after this many dials, the last of which was refused.
pub fn gave_up(attempts: u32) -> Event {
    let cause = Arc::new(errors::dial_failure(attempts, io::ErrorKind::ConnectionRefused));
    Event::GaveUp { attempts, cause }
}
