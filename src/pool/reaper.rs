//! The task that closes connections which have been idle for too long.
//!
//! It is started when a connection comes back, and ends when none is idle. A connection that has been idle for too long is
//! not handed out either, whatever has become of the task.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::Why;
use super::shared::{Leaving, Shared, State};

/// How late the task may be before it counts as lost, with a runtime that nobody drives.
const LATE: Duration = Duration::from_secs(1);

/// Starts the task if connections are idle and there is none that looks after them. Returns the one that is replaced, to be
/// dropped when the lock is released.
pub(super) fn start_if_needed(shared: &Arc<Shared>, state: &mut State, now: Instant) -> Option<AbortHandle> {
    let limit = shared.settings.idle_timeout?;
    let is_on_time = state.reaper.as_ref().is_some_and(|(task, due)| !task.is_finished() && now < *due + LATE);
    if is_on_time || state.book.oldest_since().is_none() {
        return None;
    }
    let runtime = Handle::try_current().ok()?;
    // (It begins when the lock is released.)
    let task = runtime.spawn(reap(Arc::downgrade(shared), limit)).abort_handle();
    let (replaced, _) = state.reaper.replace((task, now))?;
    replaced.abort();
    Some(replaced)
}

async fn reap(pool: Weak<Shared>, limit: Duration) {
    while let Some(step) = next_step(&pool, limit) {
        match step {
            Step::Close(shared, live) => shared.close_one(live, Why::Idle),
            Step::Sleep(due) => sleep_until(due).await,
        }
    }
}

enum Step {
    Close(Arc<Shared>, Box<dyn Leaving>),
    Sleep(Instant),
}

/// `None`: there is nothing to be done any more.
fn next_step(pool: &Weak<Shared>, limit: Duration) -> Option<Step> {
    let shared = pool.upgrade()?;
    let mut state = shared.lock();
    let Some(due) = state.book.oldest_since().and_then(|since| since.checked_add(limit)) else {
        // From here on, whoever puts one back starts another task.
        let own = state.reaper.take();
        drop(state);
        drop(own);
        return None;
    };
    if let Some((_, looks_at)) = &mut state.reaper {
        *looks_at = due;
    }
    let expired = Instant::now().checked_sub(limit).and_then(|then| state.book.take_idle_since(then));
    drop(state);
    Some(expired.map_or(Step::Sleep(due), |live| Step::Close(shared, live)))
}
