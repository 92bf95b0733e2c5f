//! Tasks of the program that wait for a change, each of which is woken on its own.
//!
//! A waker can be code of the program, and can panic. `Notify` and `watch` of tokio would then drop the wakers that are
//! left, and those tasks would wait for ever.
//!
//! Next: [`panics::wake`], which contains such a panic.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::panics;
use crate::sync::modelled::Mutex;

/// The tasks that wait. The change itself is kept elsewhere.
#[derive(Debug)]
pub(crate) struct Waiters(Mutex<Wakers>);

/// What the lock protects. No code of the program runs under it.
#[derive(Debug)]
struct Wakers {
    /// In the order in which the waits began.
    by_wait: BTreeMap<u64, Waker>,
    /// The number of the next wait.
    next_wait: u64,
}

impl Waiters {
    /// Nobody waits.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Wakers { by_wait: BTreeMap::new(), next_wait: 0 }))
    }

    /// Waits until `check` returns a value. It is called now and after each [`wake_all`](Self::wake_all).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped wait leaves nothing behind.
    pub(crate) async fn wait_until<T>(&self, mut check: impl FnMut() -> Option<T>) -> T {
        let mut wait = Wait { waiters: self, number: None };
        poll_fn(|cx| {
            // The waker first: a change that comes after the look finds it.
            wait.store(cx.waker()); // rule: waker-before-the-check
            check().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Wakes all tasks that wait. Call it after the change.
    pub(crate) fn wake_all(&self) {
        let woken = std::mem::take(&mut self.0.lock().by_wait);
        woken.into_values().for_each(panics::wake);
    }
}

/// The wait of one task.
struct Wait<'a> {
    /// Where its waker is stored.
    waiters: &'a Waiters,
    /// Its number there, from the first poll on.
    number: Option<u64>,
}

impl Wait<'_> {
    /// Stores the waker of the task, to be woken once.
    fn store(&mut self, waker: &Waker) {
        // Cloned before the lock is taken, and a replaced one is dropped after that.
        let waker = waker.clone();
        let mut wakers = self.waiters.0.lock();
        let number = *self.number.get_or_insert(wakers.next_wait);
        wakers.next_wait = wakers.next_wait.max(number + 1);
        let replaced = wakers.by_wait.insert(number, waker);
        drop(wakers);
        drop(replaced);
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let waker = self.waiters.0.lock().by_wait.remove(&number);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::task::{Context, Wake};

    use super::*;
    use crate::poll_once::poll_once;

    /// Counts the calls, and then panics if `panics` is set.
    struct Counting {
        calls: AtomicU32,
        panics: bool,
    }

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.calls.fetch_add(1, Ordering::Relaxed);
            assert!(!self.panics, "on purpose");
        }
    }

    #[test]
    fn waker_that_panics_keeps_no_other_task_waiting() {
        let (waiters, is_done) = (Waiters::new(), AtomicBool::new(false));
        let tasks = [false, true, false].map(|panics| Arc::new(Counting { calls: AtomicU32::new(0), panics }));
        let mut waits =
            [(); 3].map(|()| Box::pin(waiters.wait_until(|| is_done.load(Ordering::Relaxed).then_some(()))));
        let mut poll = |number: usize| {
            let waker = Waker::from(Arc::clone(&tasks[number]));
            waits[number].as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
        };
        assert!((0..3).all(|number| !poll(number)));
        is_done.store(true, Ordering::Relaxed);
        waiters.wake_all();
        assert!(tasks.iter().all(|task| task.calls.load(Ordering::Relaxed) == 1));
        assert!((0..3).all(poll));
        waiters.wake_all();
        assert!(tasks.iter().all(|task| task.calls.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn dropped_wait_leaves_no_waker_behind() {
        let waiters = Waiters::new();
        {
            let mut wait = pin!(waiters.wait_until(|| None::<()>));
            assert!(poll_once(wait.as_mut()).is_none());
            assert!(poll_once(wait).is_none());
            assert_eq!(waiters.0.lock().by_wait.len(), 1);
        }
        assert!(waiters.0.lock().by_wait.is_empty());
    }
}
