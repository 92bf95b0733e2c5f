//! The task that closes connections which have been idle for too long.
//!
//! It is started when a connection comes back, and ends when none is idle.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use super::Why;
use super::shared::{Leaving, Shared, State};

/// Whether the task has to be started; if so, it counts as started.
pub(super) fn is_needed(shared: &Shared, state: &mut State) -> bool {
    let is_needed = shared.settings.idle_timeout.is_some()
        && !state.has_reaper
        && state.book.oldest_since().is_some()
        && Handle::try_current().is_ok();
    state.has_reaper |= is_needed;
    is_needed
}

pub(super) fn start(shared: &Arc<Shared>) {
    let Some(limit) = shared.settings.idle_timeout else { return };
    let end = EndGuard { pool: Arc::downgrade(shared), has_said_so: false };
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(reap(end, limit))),
        Err(_) => drop(end),
    }
}

async fn reap(mut end: EndGuard, limit: Duration) {
    while let Some(step) = next_step(&end.pool, limit) {
        match step {
            Step::Close(shared, live) => shared.close_one(live, Why::Idle),
            Step::Sleep(due) => sleep_until(due).await,
        }
    }
    end.has_said_so = true;
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
        state.has_reaper = false;
        return None;
    };
    let expired = Instant::now().checked_sub(limit).and_then(|then| state.book.take_idle_since(then));
    drop(state);
    Some(expired.map_or(Step::Sleep(due), |live| Step::Close(shared, live)))
}

/// However the task ends, another can be started: the runtime drops it when it shuts down.
struct EndGuard {
    pool: Weak<Shared>,
    has_said_so: bool,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        match self.pool.upgrade() {
            Some(shared) if !self.has_said_so => shared.lock().has_reaper = false,
            _ => {}
        }
    }
}
