//! A handle's timeout.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::deadline::{Deadline, Patience};

/// In nanoseconds; 0 for none. A time of more than 584 years is none.
#[derive(Default)]
pub(super) struct TimeLimit(AtomicU64);

impl TimeLimit {
    pub(super) fn set(&self, what: &str, limit: Option<Duration>) -> io::Result<()> {
        if limit == Some(Duration::ZERO) {
            let text = format!("{what} timeout 0ns: expected more than zero, or None for no limit");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let nanoseconds = limit.and_then(|limit| u64::try_from(limit.as_nanos()).ok());
        self.0.store(nanoseconds.unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn get(&self) -> Option<Duration> {
        Some(self.0.load(Ordering::Relaxed)).filter(|limit| *limit > 0).map(Duration::from_nanos)
    }

    #[inline]
    pub(super) fn deadline<'a>(&self, patience: Option<&'a Patience>) -> Deadline<'a> {
        Deadline::new(self.get(), patience)
    }
}

impl Clone for TimeLimit {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}
