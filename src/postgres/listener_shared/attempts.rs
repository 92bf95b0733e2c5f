//! The attempts of a listener: when the next one may begin, and why the last one failed.
//!
//! A cause may have an error of the program inside, so it is dropped without the lock.
//!
//! Next: [`AttemptObserver`](crate::postgres::attempt_observer::AttemptObserver), which reports the failures.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::{ListenerShared, register_waker};
use crate::panics::wake;
use crate::postgres::Error;
use crate::postgres::reply::drop_quietly;

/// Why an attempt has failed, and what follows from that.
pub(in crate::postgres) struct FailedAttempt {
    /// Why.
    pub(in crate::postgres) error: Arc<Error>,
    /// How many attempts in a row have failed for a reason that time alone does not mend, this one included.
    pub(in crate::postgres) hopeless: u32,
    /// The next attempt begins no earlier than this after it.
    pub(in crate::postgres) delay: Duration,
}

impl FailedAttempt {
    /// One that adds nothing.
    fn new(error: Error) -> Self {
        Self { error: Arc::new(error), hopeless: 0, delay: Duration::ZERO }
    }
}

impl ListenerShared {
    /// Waits until the task has finished with the last connection, and until the queue has room for two more markers.
    pub(in crate::postgres) async fn wait_until_dial_allowed(&self) {
        poll_fn(|cx| {
            let mut state = self.lock();
            let has_room = state.queue.has_room_for_markers();
            if !state.is_link_in_use && has_room {
                state.full_since = None;
                return Poll::Ready(());
            }
            if !has_room {
                state.full_since.get_or_insert_with(Instant::now);
            }
            register_waker(&mut state.dial_waker, cx);
            Poll::Pending
        })
        .await;
    }

    /// The task has finished with the last connection: the next dial may begin.
    pub(in crate::postgres) fn release_link(&self) {
        let dialer = {
            let mut state = self.lock();
            state.is_link_in_use = false;
            state.dial_waker.take()
        };
        dialer.into_iter().for_each(wake);
    }

    /// An attempt begins; it has not failed yet.
    pub(in crate::postgres) fn begin_attempt(&self) {
        let replaced = self.lock().attempt_cause.take();
        drop_quietly(replaced);
    }

    /// The dialer, or the observer of an early end, says why the attempt failed.
    pub(in crate::postgres) fn note_attempt_failed(&self, failed: FailedAttempt) {
        let replaced = self.lock().attempt_cause.replace(failed);
        drop_quietly(replaced);
    }

    /// Takes the reason why the last attempt failed. A dialer that panicked has left none; then it is `otherwise`.
    pub(in crate::postgres) fn take_attempt_cause(&self, otherwise: impl FnOnce() -> Error) -> FailedAttempt {
        let failed = self.lock().attempt_cause.take();
        let failed = failed.unwrap_or_else(|| FailedAttempt::new(otherwise()));
        let replaced = self.lock().last_cause.replace(Arc::clone(&failed.error));
        drop_quietly(replaced);
        failed
    }

    /// The error of `connect()`, whose only attempt has failed.
    pub(in crate::postgres) fn connect_error(&self) -> Error {
        let cause = self.lock().last_cause.clone();
        cause.as_deref().map_or(Error::Closed, Error::copy_of_attempt)
    }
}
