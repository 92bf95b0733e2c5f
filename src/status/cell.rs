//! Where the status of a connection is kept, and who waits for it to change.
//!
//! A change takes the wakers of all waiting tasks under the lock and wakes them after it, each on its own: a waker that
//! panics keeps no other task waiting. A task stores its waker before it looks at the status. So either it sees a change,
//! or the change finds its waker.
//!
//! No code of the program runs under the lock.
//!
//! Next: [`conn_state`](crate::conn_state), which sets the status with each change that it makes.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use super::Status;
use crate::sync::Mutex;

/// The newest status, the stage of the actor, and the tasks that wait for either.
#[derive(Debug)]
pub(crate) struct StatusCell(Mutex<Inner>);

/// What a task can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// What a [`StatusCell`] keeps behind its lock.
#[derive(Debug)]
struct Inner {
    /// What the waiting tasks look at.
    seen: Seen,
    /// The wakers of the waiting tasks, in the order in which the waits began.
    wakers: BTreeMap<u64, Waker>,
    /// The number of the next wait.
    next_wait: u64,
}

/// The tasks to wake after a change, when no lock is held.
pub(crate) type Waiting = BTreeMap<u64, Waker>;

impl StatusCell {
    /// The status of a connection that has just begun.
    pub(crate) fn new() -> Self {
        let seen = Seen { status: Status::Connecting, actor: ActorStage::Attentive };
        Self(Mutex::new(Inner { seen, wakers: BTreeMap::new(), next_wait: 0 }))
    }

    /// The status and the stage at this moment.
    pub(crate) fn get(&self) -> Seen {
        self.0.lock().seen
    }

    /// Changes the status. Returns the tasks to wake.
    #[must_use]
    pub(crate) fn set_status(&self, status: Status) -> Waiting {
        self.set(|seen| seen.status = status)
    }

    /// Changes the stage of the actor. Returns the tasks to wake.
    #[must_use]
    pub(crate) fn set_actor(&self, actor: ActorStage) -> Waiting {
        self.set(|seen| seen.actor = actor)
    }

    /// The actor sees commands again, which nobody waits for.
    pub(crate) fn actor_is_back(&self) {
        self.0.lock().seen.actor = ActorStage::Attentive;
    }

    /// Makes a change. Returns the tasks to wake, which are none if it changes nothing.
    fn set(&self, change: impl FnOnce(&mut Seen)) -> Waiting {
        let mut inner = self.0.lock();
        let before = inner.seen;
        change(&mut inner.seen);
        if inner.seen == before { Waiting::new() } else { std::mem::take(&mut inner.wakers) }
    }

    /// Waits until `check` returns a value. It is called now and after each change, without the lock.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped wait leaves nothing behind.
    pub(crate) async fn wait_until<T>(&self, mut check: impl FnMut(Seen) -> Option<T>) -> T {
        let mut wait = Wait { cell: self, number: None };
        poll_fn(|cx| check(wait.store(cx.waker())).map_or(Poll::Pending, Poll::Ready)).await
    }
}

/// One task's wait, whose waker goes when it ends.
struct Wait<'a> {
    /// Where the waker is stored.
    cell: &'a StatusCell,
    /// Its number there, once it has one.
    number: Option<u64>,
}

impl Wait<'_> {
    /// Stores the waker for the next change. Returns what there is to see now.
    fn store(&mut self, waker: &Waker) -> Seen {
        // Cloned before the lock is taken, and a replaced one is dropped after: a waker is code of the program.
        let waker = waker.clone();
        let mut inner = self.cell.0.lock();
        let number = *self.number.get_or_insert(inner.next_wait);
        inner.next_wait = inner.next_wait.max(number + 1);
        let _replaced = inner.wakers.insert(number, waker);
        let seen = inner.seen;
        drop(inner);
        seen
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let _waker = self.cell.0.lock().wakers.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Wake};

    use super::*;
    use crate::panics::wake;

    /// A waker that counts its calls, and panics in them if asked to.
    struct Counting(AtomicU32, bool);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
            assert!(!self.1, "the waker's own panic");
        }
    }

    fn counting(panics: bool) -> Arc<Counting> {
        Arc::new(Counting(AtomicU32::new(0), panics))
    }

    #[test]
    fn change_wakes_each_waiting_task_once_even_if_the_first_waker_panics() {
        let cell = StatusCell::new();
        let wakers = [counting(true), counting(false), counting(false)];
        let mut waits: Vec<_> =
            wakers.iter().map(|_| Box::pin(cell.wait_until(|seen| seen.status.is_final().then_some(())))).collect();
        for (wait, waker) in waits.iter_mut().zip(&wakers) {
            let waker = Waker::from(Arc::clone(waker));
            assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        cell.set_status(Status::Closed).into_values().for_each(wake);
        for (wait, waker) in waits.iter_mut().zip(&wakers) {
            assert_eq!(waker.0.load(Ordering::Relaxed), 1);
            assert!(wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
        assert!(cell.set_status(Status::Closed).is_empty(), "nothing has changed");
    }

    #[test]
    fn dropped_wait_leaves_no_waker() {
        let cell = StatusCell::new();
        let waker = counting(false);
        {
            let mut wait = pin!(cell.wait_until(|_| None::<()>));
            let waker = Waker::from(Arc::clone(&waker));
            assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert_eq!(Arc::strong_count(&waker), 1);
        assert!(cell.set_status(Status::Closed).is_empty());
    }
}
