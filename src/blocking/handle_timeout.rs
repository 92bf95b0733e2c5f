//! The read or write timeout of a handle, which any thread may change.
//!
//! Next: [`call_timeouts`](super::call_timeouts), the timeouts of one call.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::call_timeouts::{CallTimeouts, LinkTimeout};

/// A timeout in nanoseconds; 0 for none. One of more than 584 years, which do not fit, is none.
#[derive(Default)]
pub(super) struct HandleTimeout(AtomicU64);

impl HandleTimeout {
    /// Sets the timeout of a `direction`, which the error's text names. Zero is an error, as for std's `TcpStream`.
    pub(super) fn set(&self, direction: &str, timeout: Option<Duration>) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            let text = format!("{direction} timeout 0ns: expected more than zero, or None for no limit");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let nanoseconds = timeout.and_then(|timeout| u64::try_from(timeout.as_nanos()).ok());
        self.0.store(nanoseconds.unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }

    /// The timeout that was set.
    pub(super) fn get(&self) -> Option<Duration> {
        Some(self.0.load(Ordering::Relaxed)).filter(|timeout| *timeout > 0).map(Duration::from_nanos)
    }

    /// The timeouts of a call that begins now.
    #[inline]
    pub(super) fn for_call<'a>(&self, link_timeout: Option<&'a LinkTimeout>) -> CallTimeouts<'a> {
        CallTimeouts::new(self.get(), link_timeout)
    }
}

impl Clone for HandleTimeout {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}
