//! Where the status of a connection is kept, and who waits for it to change.
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
    /// Woken after each change, when no lock is held.
    waiters: Waiters,
}

/// What a task can wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// The newest status.
    pub(crate) status: Status,
    /// What the actor does.
    pub(crate) actor: ActorStage,
}

/// What the actor does, for those who wait for its end.
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
        Self { seen: Mutex::new(seen), waiters: Waiters::new() }
    }

    /// The status and the stage at this moment.
    pub(crate) fn get(&self) -> Seen {
        *self.seen.lock()
    }

    /// Changes the status. A call of [`wake_all`](Self::wake_all) must follow.
    pub(crate) fn set_status(&self, status: Status) {
        self.seen.lock().status = status;
    }

    /// Changes the stage of the actor. Nobody waits for it to be attentive again.
    pub(crate) fn set_actor(&self, actor: ActorStage) {
        self.seen.lock().actor = actor;
        if actor != ActorStage::Attentive {
            self.wake_all();
        }
    }

    /// Wakes the tasks that wait for a change.
    pub(crate) fn wake_all(&self) {
        self.waiters.wake_all();
    }

    /// Waits until `check` returns a value. It is called now and after each change, without a lock.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped wait leaves nothing behind.
    pub(crate) async fn wait_until<T>(&self, mut check: impl FnMut(Seen) -> Option<T>) -> T {
        self.waiters.wait_until(|| check(self.get())).await
    }
}
