//! How a thread waits until it can try an operation again.
//!
//! Next: [`runtime_context`](super::runtime_context), why some threads cannot simply sleep.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::process;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::task::unconstrained;

use super::background::{check_may_wait, check_process};
use super::call_timeouts::CallTimeouts;
use super::runtime_context::defers_wake_ups;
use crate::sync::Mutex;

/// The longest sleep of a thread that runs a task of some runtime. Then it tries again.
///
/// Such a runtime defers the wake-ups of tasks that yield to itself until its thread comes back, which it does not
/// while it sleeps here.
const SLEEP_IN_A_TASK: Duration = Duration::from_millis(10);

/// A waker for any number of threads, all of which then try again.
///
/// A thread reads the [count](WakeCounter::count) before it tries. If the count has changed when it is about to
/// sleep, it tries again instead, so no wake-up is lost.
pub(super) struct WakeCounter {
    /// The process whose background thread wakes.
    process: u32,
    /// The number of wake-ups. A thread that reads a new value tries again.
    count: AtomicU64,
    /// How many threads sleep or are about to, so that a wake-up without sleepers takes no lock.
    sleepers: AtomicUsize,
    /// Held from the last look at the count to the sleep, so that no wake-up falls between the two.
    lock: Mutex<()>,
    /// Signalled after the count has changed.
    changed: Condvar,
}

impl WakeCounter {
    /// A counter, and the same as a waker.
    pub(super) fn new() -> (Arc<Self>, Waker) {
        let wakes = Arc::new(Self {
            process: process::id(),
            count: AtomicU64::new(0),
            sleepers: AtomicUsize::new(0),
            lock: Mutex::new(()),
            changed: Condvar::new(),
        });
        (Arc::clone(&wakes), Waker::from(wakes))
    }

    /// The number of wake-ups so far.
    #[inline]
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Lets all threads that wait try again.
    pub(super) fn wake_all(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        // A thread counts itself as a sleeper before its last look at the count.
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(self.lock.lock());
            self.changed.notify_all();
        }
    }

    /// Sleeps until the count is no longer `seen`.
    ///
    /// Fails when a timeout has passed, on the background thread, which must not wait, and in a fork, in which nobody wakes.
    pub(super) fn wait(&self, seen: u64, timeouts: &mut CallTimeouts<'_>) -> io::Result<()> {
        check_may_wait()?;
        check_process(self.process)?;
        let longest = if defers_wake_ups() { SLEEP_IN_A_TASK } else { Duration::MAX };
        let mut time_left = timeouts.time_left()?;
        let _sleeper = Sleeper::new(&self.sleepers);
        let mut guard = self.lock.lock();
        while self.count() == seen {
            if time_left.is_none() && longest == Duration::MAX {
                guard = self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let time = time_left.unwrap_or(Duration::MAX).min(longest);
            let waited = self.changed.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner);
            guard = waited.0;
            if waited.1.timed_out() && time == longest {
                break;
            }
            time_left = timeouts.time_left()?;
        }
        Ok(())
    }
}

impl Wake for WakeCounter {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}

/// Counts a thread among the sleepers as long as it lives.
struct Sleeper<'a>(&'a AtomicUsize);

impl<'a> Sleeper<'a> {
    /// Counts the thread, before it looks at the count for the last time.
    fn new(sleepers: &'a AtomicUsize) -> Self {
        sleepers.fetch_add(1, Ordering::SeqCst);
        Self(sleepers)
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs a future on this thread until it is ready or `limit` has passed.
pub(crate) fn block_on<F: Future>(mut future: Pin<&mut F>, limit: Option<Duration>) -> io::Result<F::Output> {
    let (wakes, waker) = WakeCounter::new();
    let mut timeouts = CallTimeouts::new(limit, None);
    loop {
        let seen = wakes.count();
        if let Poll::Ready(output) = poll_unconstrained(&waker, |cx| future.as_mut().poll(cx)) {
            return Ok(output);
        }
        wakes.wait(seen, &mut timeouts)?;
    }
}

/// Polls once, outside of the cooperative budget of a tokio task that this thread may run.
///
/// A budget that is used up comes back only when the task returns, which it does not while it is here.
#[inline]
pub(super) fn poll_unconstrained<T>(waker: &Waker, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    let future = pin!(unconstrained(poll_fn(|cx| Poll::Ready(poll(cx)))));
    match future.poll(&mut Context::from_waker(waker)) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => Poll::Pending,
    }
}
