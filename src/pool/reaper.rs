//! The tasks that close connections which have been idle for too long, are too old, or are dead.
//!
//! Each runtime in which a connection is opened or given back has one such task, because any runtime may end, or nobody
//! may drive it. A task ends when it has nothing left to do. [`Connection::check`](super::connection::Connection::check)
//! looks at the same limits, so a connection that is not fit is not lent even where no task runs.
//!
//! A connection that has been idle for too long is closed at its time, as the table has the idle ones in that order. For
//! the other reasons a task looks through all idle connections now and then: it *sweeps*.
//!
//! Next: [`SlotTable::evict_idle_since`](super::slots::SlotTable::evict_idle_since) and
//! [`SlotTable::acquire_idle`](super::slots::SlotTable::acquire_idle), which take the connections out.

use std::future::pending;
use std::mem;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{Instant, sleep_until};

use super::CloseReason;
use super::state::{Evicted, IdleResource, PoolInner, PoolState};
use crate::panics::ignore;
use crate::runtime::has_time;

/// The number of connections that a task closes or checks before it yields.
const STEPS_PER_YIELD: u32 = 16;

/// How many sweeps there are within `max_age`, at least. Their time has to be short beside the jitter of the age.
const SWEEPS_PER_AGE: u32 = 200;

/// The shortest time between two sweeps.
const SHORTEST_PERIOD: Duration = Duration::from_millis(1);

/// Starts the task of a runtime, if there is something to do and the runtime has none.
///
/// Returns the tasks that have ended with their runtimes, to be dropped when the lock is released.
pub(super) fn start_if_needed(
    pool: &Arc<PoolInner>,
    state: &mut PoolState,
    runtime: &Handle,
) -> Vec<(runtime::Id, AbortHandle)> {
    let id = runtime.id();
    // A new runtime may have the id of one that is gone, so a finished task does not count.
    let is_running = state.reapers.iter().any(|(other, task)| *other == id && !task.is_finished());
    let plan = Plan::of(pool);
    if is_running || !plan.has_work(state) {
        return Vec::new();
    }
    // The task itself waits for the lock that this caller holds.
    let task = runtime.spawn(reap(Arc::downgrade(pool), id, plan)).abort_handle();
    let (mut running, ended): (Vec<_>, _) =
        mem::take(&mut state.reapers).into_iter().partition(|(_, task)| !task.is_finished());
    running.push((id, task));
    state.reapers = running;
    ended
}

/// What a task looks at.
#[derive(Clone, Copy)]
struct Plan {
    /// How long a connection may be idle.
    idle_timeout: Option<Duration>,
    /// The time between two sweeps. `None`: there are none.
    sweep_every: Option<Duration>,
    /// The time between two sweeps that ask the peers, too.
    check_every: Option<Duration>,
}

impl Plan {
    /// What the settings of a pool ask for.
    fn of(pool: &PoolInner) -> Self {
        let settings = &pool.settings;
        let for_age = settings.max_age.map(|age| (age / SWEEPS_PER_AGE).max(SHORTEST_PERIOD));
        let check_every = settings.check_idle_every;
        let sweep_every = [for_age, check_every].into_iter().flatten().min();
        Self { idle_timeout: settings.idle_timeout, sweep_every, check_every }
    }

    /// Whether there is, or will be, something to do.
    fn has_work(&self, state: &PoolState) -> bool {
        (self.sweep_every.is_some() && !state.slots.is_unused()) || self.next_idle_timeout(state).is_some()
    }

    /// When the oldest idle connection has been idle for too long.
    fn next_idle_timeout(&self, state: &PoolState) -> Option<Instant> {
        state.slots.oldest_idle_since()?.checked_add(self.idle_timeout?)
    }
}

/// The task of one runtime.
async fn reap(pool: Weak<PoolInner>, runtime: runtime::Id, plan: Plan) {
    // In a runtime without time there is nothing to do. The task stays all the same, so that no other one is started.
    if !has_time() {
        return pending().await;
    }
    let now = Instant::now();
    let in_time = |period: Option<Duration>, now: Instant| period.and_then(|period| now.checked_add(period));
    let (mut next_sweep, mut next_check) = (in_time(plan.sweep_every, now), in_time(plan.check_every, now));
    let mut steps = 0;
    while let Some(step) = next_step(&pool, runtime, plan, next_sweep) {
        match step {
            Step::Close(pool, idle) => {
                pool.close_evicted(idle, CloseReason::Idle);
                count_step(&mut steps).await;
            }
            Step::Sweep(resources) => {
                let now = Instant::now();
                let asks_peer = next_check.is_some_and(|due| due <= now);
                for resource in resources {
                    if let Some(resource) = resource.upgrade() {
                        // This may drop the resource, and so code of the program.
                        ignore(|| resource.check_idle(asks_peer));
                        count_step(&mut steps).await;
                    }
                }
                next_sweep = in_time(plan.sweep_every, now);
                if asks_peer {
                    next_check = in_time(plan.check_every, now);
                }
            }
            Step::Sleep(due) => sleep_until(due).await,
        }
    }
}

/// Yields now and then, so that other tasks are not kept waiting.
async fn count_step(steps: &mut u32) {
    *steps += 1;
    if *steps == STEPS_PER_YIELD {
        *steps = 0;
        yield_now().await;
    }
}

/// What a task does next.
enum Step {
    /// This connection is idle for too long.
    Close(Arc<PoolInner>, Evicted),
    /// It is time to look through these, all that are idle.
    Sweep(Vec<Weak<dyn IdleResource>>),
    /// There is nothing to do before this time.
    Sleep(Instant),
}

/// Decides what to do next. `None`: the pool is gone or nothing is open, and the task ends.
fn next_step(pool: &Weak<PoolInner>, runtime: runtime::Id, plan: Plan, next_sweep: Option<Instant>) -> Option<Step> {
    let pool = pool.upgrade()?;
    let mut state = pool.lock();
    if !plan.has_work(&state) {
        // From here on, a caller that opens a connection or gives one back starts another task.
        let own = state.reapers.iter().position(|(other, _)| *other == runtime);
        let own = own.map(|index| state.reapers.swap_remove(index));
        drop(state);
        drop(own);
        return None;
    }
    let now = Instant::now();
    let oldest_allowed = plan.idle_timeout.and_then(|limit| now.checked_sub(limit));
    if let Some(idle) = oldest_allowed.and_then(|then| state.slots.evict_idle_since(then)) {
        drop(state);
        return Some(Step::Close(pool, idle));
    }
    if next_sweep.is_some_and(|due| due <= now) {
        return Some(Step::Sweep(state.slots.idle_resources().map(Arc::downgrade).collect()));
    }
    let due = [next_sweep, plan.next_idle_timeout(&state)].into_iter().flatten().min();
    // A period that ends with the clock has no end.
    Some(Step::Sleep(due.unwrap_or_else(|| now + Duration::from_secs(3600))))
}
