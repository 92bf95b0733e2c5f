//! What the task of a listener is doing, for a close that waits for it.
//!
//! Next: [`ListenerTask`](super::task::ListenerTask), which changes it.

use crate::sync::Mutex;
use crate::waiters::Waiters;

/// The phase of a task, and the callers that wait for its end.
///
/// It owns nothing of the program. So the task can release all else before it says that it has ended.
pub(super) struct TaskWatch {
    /// Locked for one look or one change.
    phase: Mutex<TaskPhase>,
    /// The calls of `close`.
    waiters: Waiters,
}

/// What the task is doing, as far as a close has to wait for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskPhase {
    /// It works; a close waits.
    Working,
    /// It runs a hook of the program, which may block. A close does not wait.
    InHook,
    /// It has ended.
    Ended,
}

impl Default for TaskWatch {
    fn default() -> Self {
        Self { phase: Mutex::new(TaskPhase::Working), waiters: Waiters::new() }
    }
}

impl TaskWatch {
    /// The task enters another phase.
    pub(super) fn set(&self, phase: TaskPhase) {
        *self.phase.lock() = phase;
        if phase != TaskPhase::Working {
            self.waiters.wake_all();
        }
    }

    /// Waits until the task has ended or runs a hook.
    pub(super) async fn ended_or_in_hook(&self) {
        self.waiters.wait_until(|| (*self.phase.lock() != TaskPhase::Working).then_some(())).await;
    }
}
