//! The tasks that close connections which have been idle for too long.
//!
//! Each runtime in which a connection comes back has one, as any of them may end, or be driven by nobody. They end when
//! none is idle. A connection that has been idle for too long is not handed out either, whatever has become of the tasks.

use std::future::pending;
use std::mem;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{Instant, sleep_until};

use super::CloseReason;
use super::book::Taken;
use super::shared::{Leaving, Shared, State};
use crate::runtime::has_time;

/// After so many closings, others of the runtime have their turn.
const AT_ONCE: u32 = 16;

/// Starts the task of a runtime, if connections are idle and it has none. Returns those that have ended with their runtimes,
/// to be dropped when the lock is released.
pub(super) fn start_if_needed(
    shared: &Arc<Shared>,
    state: &mut State,
    runtime: &Handle,
) -> Vec<(runtime::Id, AbortHandle)> {
    let Some(limit) = shared.settings.idle_timeout else { return Vec::new() };
    let id = runtime.id();
    // (Another runtime may have the number of one that is gone.)
    let is_there = state.reapers.iter().any(|(other, task)| *other == id && !task.is_finished());
    if is_there || state.book.oldest_since().is_none() {
        return Vec::new();
    }
    // (It begins when the lock is released.)
    let task = runtime.spawn(reap(Arc::downgrade(shared), id, limit)).abort_handle();
    let (mut alive, ended): (Vec<_>, _) =
        mem::take(&mut state.reapers).into_iter().partition(|(_, task)| !task.is_finished());
    alive.push((id, task));
    state.reapers = alive;
    ended
}

async fn reap(pool: Weak<Shared>, runtime: runtime::Id, limit: Duration) {
    // In a runtime without time, which says so by a panic only, it can do nothing but stay, so that no other is started.
    if !has_time() {
        return pending().await;
    }
    let mut closed = 0;
    while let Some(step) = next_step(&pool, runtime, limit) {
        match step {
            Step::Close(shared, idle) => {
                shared.close_one(idle, CloseReason::Idle);
                closed += 1;
            }
            Step::Sleep(due) => sleep_until(due).await,
        }
        if closed == AT_ONCE {
            closed = 0;
            yield_now().await;
        }
    }
}

enum Step {
    Close(Arc<Shared>, Taken<Box<dyn Leaving>>),
    Sleep(Instant),
}

/// `None`: there is nothing to be done any more.
fn next_step(pool: &Weak<Shared>, runtime: runtime::Id, limit: Duration) -> Option<Step> {
    let shared = pool.upgrade()?;
    let mut state = shared.lock();
    let Some(due) = state.book.oldest_since().and_then(|since| since.checked_add(limit)) else {
        // From here on, whoever puts one back starts another task.
        let own = state.reapers.iter().position(|(other, _)| *other == runtime);
        let own = own.map(|index| state.reapers.swap_remove(index));
        drop(state);
        drop(own);
        return None;
    };
    let expired = Instant::now().checked_sub(limit).and_then(|then| state.book.take_idle_since(then));
    drop(state);
    Some(expired.map_or(Step::Sleep(due), |idle| Step::Close(shared, idle)))
}
