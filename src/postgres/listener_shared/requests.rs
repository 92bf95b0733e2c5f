//! The callers of a listener that wait for the server: how a request reaches the task and how its answer comes back.
//!
//! Next: [`ListenerHandle`](crate::postgres::ListenerHandle), which makes the requests.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::{ListenerShared, ListenerState};
use crate::panics::wake;
use crate::postgres::Error;
use crate::postgres::end_reason::EndReason;

impl ListenerShared {
    /// Changes what is wanted of the server and wakes the task, unless the listener has ended.
    pub(in crate::postgres) fn request<T>(&self, change: impl FnOnce(&mut ListenerState) -> T) -> Result<T, Error> {
        let mut state = self.lock();
        state.check()?;
        let outcome = change(&mut state);
        let task = state.task_waker.take();
        drop(state);
        task.into_iter().for_each(wake);
        Ok(outcome)
    }

    /// Waits for an answer from the task. Ends with [`Error::Backlog`] when the reader has been behind for
    /// `ping_timeout`: since then, not everything that has arrived could be read.
    pub(in crate::postgres) async fn wait_for_answer<T>(
        &self,
        mut answer: oneshot::Receiver<Result<T, Error>>,
    ) -> Result<T, Error> {
        let begin = Instant::now();
        loop {
            let now = Instant::now();
            let since = self.lock().blocked_since().map_or(now, |since| since.max(begin));
            tokio::select! {
                biased;
                outcome = &mut answer => return outcome.unwrap_or_else(|_| Err(self.end_error())),
                () = sleep_until(saturating_add(since, self.ping_timeout)) => {}
            }
            if let Some(since) = self.lock().blocked_since() {
                if since.max(begin).elapsed() >= self.ping_timeout {
                    return Err(Error::Backlog { limit: self.ping_timeout });
                }
            }
        }
    }

    /// Whether the reader has been behind for this long.
    pub(in crate::postgres) fn has_been_blocked_for(&self, time: Duration) -> bool {
        self.lock().blocked_since().is_some_and(|since| since.elapsed() >= time)
    }

    /// The error of a call whose answer will not come because the listener has ended.
    fn end_error(&self) -> Error {
        self.lock().end_reason.as_ref().map_or(Error::Closed, EndReason::error)
    }
}

/// The time after `begin`, a century later at most: no clock reaches that.
pub(in crate::postgres) fn saturating_add(begin: Instant, time: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    begin + time.min(CENTURY)
}
