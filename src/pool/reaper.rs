//! The tasks that close connections which have been idle for too long.
//!
//! Each runtime in which a connection is given back has one such task, because any runtime may end, or nobody may drive
//! it. A task ends when no connection is idle. [`Connection::check`](super::connection::Connection::check) looks at the
//! idle time as well, so a connection that was idle for too long is not lent even where no task runs.
//!
//! Next: [`SlotTable::evict_idle_since`](super::slots::SlotTable::evict_idle_since), which takes the connections out.

use std::future::pending;
use std::mem;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{Instant, sleep_until};

use super::CloseReason;
use super::state::{Evicted, PoolInner, PoolState};
use crate::runtime::has_time;

/// The number of connections that a task closes before it yields.
const CLOSES_PER_YIELD: u32 = 16;

/// Starts the task of a runtime, if connections are idle and the runtime has none.
///
/// Returns the tasks that have ended with their runtimes, to be dropped when the lock is released.
pub(super) fn start_if_needed(
    pool: &Arc<PoolInner>,
    state: &mut PoolState,
    runtime: &Handle,
) -> Vec<(runtime::Id, AbortHandle)> {
    let Some(limit) = pool.settings.idle_timeout else { return Vec::new() };
    let id = runtime.id();
    // A new runtime may have the id of one that is gone, so a finished task does not count.
    let is_running = state.reapers.iter().any(|(other, task)| *other == id && !task.is_finished());
    if is_running || state.slots.oldest_idle_since().is_none() {
        return Vec::new();
    }
    // The task itself waits for the lock that this caller holds.
    let task = runtime.spawn(reap(Arc::downgrade(pool), id, limit)).abort_handle();
    let (mut running, ended): (Vec<_>, _) =
        mem::take(&mut state.reapers).into_iter().partition(|(_, task)| !task.is_finished());
    running.push((id, task));
    state.reapers = running;
    ended
}

/// The task of one runtime.
async fn reap(pool: Weak<PoolInner>, runtime: runtime::Id, limit: Duration) {
    // In a runtime without time there is nothing to do. The task stays all the same, so that no other one is started.
    if !has_time() {
        return pending().await;
    }
    let mut closed = 0;
    while let Some(step) = next_step(&pool, runtime, limit) {
        match step {
            Step::Close(pool, idle) => {
                pool.close_evicted(idle, CloseReason::Idle);
                closed += 1;
            }
            Step::Sleep(due) => sleep_until(due).await,
        }
        if closed == CLOSES_PER_YIELD {
            closed = 0;
            yield_now().await;
        }
    }
}

/// What a task does next.
enum Step {
    /// This connection is idle for too long.
    Close(Arc<PoolInner>, Evicted),
    /// The oldest connection reaches its limit at this time.
    Sleep(Instant),
}

/// Decides what to do next. `None`: the pool is gone or no connection is idle, and the task ends.
fn next_step(pool: &Weak<PoolInner>, runtime: runtime::Id, limit: Duration) -> Option<Step> {
    let pool = pool.upgrade()?;
    let mut state = pool.lock();
    let Some(due) = state.slots.oldest_idle_since().and_then(|since| since.checked_add(limit)) else {
        // From here on, a caller that gives a connection back starts another task.
        let own = state.reapers.iter().position(|(other, _)| *other == runtime);
        let own = own.map(|index| state.reapers.swap_remove(index));
        drop(state);
        drop(own);
        return None;
    };
    let expired = Instant::now().checked_sub(limit).and_then(|then| state.slots.evict_idle_since(then));
    drop(state);
    Some(expired.map_or(Step::Sleep(due), |idle| Step::Close(pool, idle)))
}
