//! The delays between the dials of a resource whose dials fail.
//!
//! A failed dial closes a gate for a random time, which grows with each failure in a row. Meanwhile nobody dials: a
//! caller gets the last failure at once, with the time that is left. So impatient callers do not hammer a dead server.
//! A dialer with several addresses fails once for each of them before the gate closes, so that the next address is
//! dialed at once.
//!
//! Only the caller that has acquired the entry changes the gate. Everybody else only reads it.
//!
//! Next: [`Backoff`], which draws the delays.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::{GetError, PoolBuilder};
use crate::backoff::{Backoff, Jitter};
use crate::panics::ignore;
use crate::sync::Mutex;

/// The gate of one resource.
#[derive(Debug, Default)]
pub(super) struct DialBackoff {
    /// The last dial failed. Usually this is `false`, and the lock is not needed.
    has_failed: AtomicBool,
    /// `None` until a dial has failed, and after one that has succeeded.
    failures: Mutex<Option<Box<Failures>>>,
}

/// The failures since the last dial that succeeded.
#[derive(Debug)]
struct Failures {
    /// How many there are.
    count: usize,
    /// Draws the next delay.
    backoff: Backoff,
    /// The end of the delay. `None`: the clock ends before it.
    not_before: Option<Instant>,
    /// The last one.
    error: Arc<io::Error>,
}

impl DialBackoff {
    /// The error for a caller that would dial during a delay. `None`: a dial may begin.
    #[inline]
    pub(super) fn refusal(&self, name: &Arc<str>) -> Option<GetError> {
        if self.has_failed.load(Ordering::Relaxed) { self.refusal_after_failure(name) } else { None }
    }

    /// The same, from what is under the lock.
    #[cold]
    fn refusal_after_failure(&self, name: &Arc<str>) -> Option<GetError> {
        let failures = self.failures.lock();
        let failures = failures.as_ref()?;
        let left = failures.not_before.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return None;
        }
        let source = Arc::clone(&failures.error);
        Some(GetError::Dial { name: Arc::clone(name), source, retry_in: Some(left) })
    }

    /// Notes that a dial has failed. `addresses` is the number of addresses that the dialer has.
    pub(super) fn note_failure(&self, settings: &PoolBuilder, addresses: usize, error: &Arc<io::Error>) {
        let now = Instant::now();
        let former = {
            let mut failures = self.failures.lock();
            let failures = failures.get_or_insert_with(|| {
                let backoff = Backoff::new(Jitter::Full, settings.retry_min, settings.retry_max, None);
                Box::new(Failures { count: 0, backoff, not_before: None, error: Arc::clone(error) })
            });
            failures.count = failures.count.saturating_add(1);
            let delay = if failures.count < addresses { Some(Duration::ZERO) } else { failures.backoff.next() };
            failures.not_before = delay.and_then(|delay| now.checked_add(delay));
            self.has_failed.store(true, Ordering::Relaxed);
            mem::replace(&mut failures.error, Arc::clone(error))
        };
        // An error of the program, which runs its code when it is dropped.
        ignore(|| drop(former));
    }

    /// Notes that a dial has succeeded.
    pub(super) fn note_success(&self) {
        if self.has_failed.swap(false, Ordering::Relaxed) {
            let ended = self.failures.lock().take();
            ignore(|| drop(ended));
        }
    }
}
