//! The status of a connection, and the tasks that wait for it to change.
//!
//! Next: [`conn_state`](crate::conn_state), which sets the status with each change that it makes.

use super::Status;
use crate::sync::modelled::Mutex;
use crate::waiters::Waiters;

/// The newest status, the stage of the actor, and the tasks that wait for either.
#[derive(Debug)]
pub(crate) struct StatusCell {
    /// The innermost of all locks.
    seen: Mutex<Seen>,
    /// The tasks that wait for a status; woken after each change of it, when no lock is held.
    waiters: Waiters,
    /// The tasks that wait for the actor. Apart from the others: before a hook, the actor wakes only these. A task that it wakes
    /// may stay behind it on its thread until the hook returns.
    closers: Waiters,
}

/// What a task can wait for.
#[derive(Debug)]
struct Seen {
    /// The newest status.
    status: Status,
    /// What the actor does.
    actor: ActorStage,
}

/// What the actor does, for tasks that wait for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ActorStage {
    /// It sees each command within a moment.
    Attentive,
    /// It runs a hook of the program, which can take any time.
    InHook,
    /// It has ended, and dropped its dialer and its hooks.
    Gone,
}

impl StatusCell {
    /// The status of a connection that has just begun.
    pub(crate) fn new() -> Self {
        let seen = Seen { status: Status::Connecting, actor: ActorStage::Attentive };
        Self { seen: Mutex::new(seen), waiters: Waiters::new(), closers: Waiters::new() }
    }

    /// The status at this moment.
    pub(crate) fn get(&self) -> Status {
        self.seen.lock().status
    }

    /// Changes the status. A call of [`wake_all`](Self::wake_all) must follow.
    pub(crate) fn set_status(&self, status: Status) {
        self.seen.lock().status = status;
    }

    /// Changes the stage of the actor. Nobody waits for it to be attentive again.
    pub(crate) fn set_actor(&self, actor: ActorStage) {
        self.seen.lock().actor = actor;
        if actor != ActorStage::Attentive {
            self.closers.wake_all();
        }
    }

    /// Wakes the tasks that wait for a status.
    pub(crate) fn wake_all(&self) {
        self.waiters.wake_all();
    }

    /// Waits until `check` returns a value. It is called now and after each change of the status, without a lock.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped wait leaves nothing behind.
    pub(crate) async fn wait_until<T>(&self, mut check: impl FnMut(Status) -> Option<T>) -> T {
        self.waiters.wait_until(|| check(self.get())).await
    }

    /// Waits until the actor has ended, or runs a hook.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped wait leaves nothing behind.
    pub(crate) async fn actor_gone(&self) {
        self.closers.wait_until(|| (self.seen.lock().actor != ActorStage::Attentive).then_some(())).await;
    }
}
