//! The probe for an abandoned write, used while the acceptor stops.
//!
//! A stop waits for a blocked write, and must not wait for one whose future was dropped. Tokio's traits do not show
//! that, so the probe wakes the waiting tasks: a write that is still wanted is polled, and says that it is blocked.
//! The socket cannot answer the question, because both kinds of write leave it full.
//!
//! Next: [`super::stream`], which probes before a read ends a connection that drains.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::conn_record::ConnRecord;

/// How long a wanted write may take to be polled after a wake-up. Its task needs one turn for that.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(50);

/// A probe, which may be running.
#[derive(Debug, Default)]
pub(super) struct AbandonedProbe {
    /// Set while a probe waits for its answer.
    timeout: Option<Pin<Box<Sleep>>>,
}

impl AbandonedProbe {
    /// Whether a probe waits for its answer. It has cleared the mark of the blocked write, which proves nothing now.
    pub(super) fn is_running(&self) -> bool {
        self.timeout.is_some()
    }

    /// `Ready` if the blocked write was abandoned. Otherwise the task is woken to ask again.
    pub(super) fn poll_abandoned(&mut self, record: &ConnRecord, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(timeout) = &mut self.timeout else {
                record.forget_blocked_write();
                // A write that still waits is polled now, and is noted as blocked again.
                record.wake_all();
                self.timeout = Some(Box::pin(sleep(ANSWER_TIMEOUT)));
                continue;
            };
            if timeout.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timeout = None;
            if !record.activity().has_write() {
                return Poll::Ready(());
            }
        }
    }
}
