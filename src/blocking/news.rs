//! How a thread waits until an operation can be tried again.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::task::unconstrained;

use super::background;
use super::deadline::Deadline;
use super::guard::keeps_wake_ups_back;

/// How long a thread that runs a task of some runtime sleeps at most before it tries again. Such a runtime keeps the
/// wake-ups of tasks that yield to itself until its thread comes back, which it does not as long as it sleeps here.
const SLEEP_IN_A_TASK: Duration = Duration::from_millis(10);

/// A waker for any number of threads: all of those that wait try again.
///
/// A thread looks at the [count](News::count) before it tries. If the count has changed when it is about to sleep, it tries
/// again instead, so that no wake-up is lost.
#[derive(Default)]
pub(super) struct News {
    count: AtomicU64,
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

impl News {
    pub(super) fn new() -> (Arc<Self>, Waker) {
        let news = Arc::new(Self::default());
        (Arc::clone(&news), Waker::from(news))
    }

    #[inline]
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Lets all who wait try again.
    pub(super) fn tell(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        // A sleeper counts itself before it looks at the count of news for the last time.
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(self.lock());
            self.changed.notify_all();
        }
    }

    /// Sleeps until the count is no longer `seen`.
    ///
    /// Fails when the time is up, and on the one thread that must not wait.
    pub(super) fn wait(&self, seen: u64, deadline: &mut Deadline<'_>) -> io::Result<()> {
        background::check_that_waiting_is_safe()?;
        let longest = if keeps_wake_ups_back() { SLEEP_IN_A_TASK } else { Duration::MAX };
        let mut time_left = deadline.time_left()?;
        let _sleeper = Sleeper::new(&self.sleepers);
        let mut guard = self.lock();
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
            time_left = deadline.time_left()?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for News {
    fn wake(self: Arc<Self>) {
        self.tell();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.tell();
    }
}

/// Counts a thread among those that sleep.
struct Sleeper<'a>(&'a AtomicUsize);

impl<'a> Sleeper<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs a future on this thread until it is ready or the time is up.
pub(super) fn block_on<F: Future>(mut future: Pin<&mut F>, limit: Option<Duration>) -> io::Result<F::Output> {
    let (news, waker) = News::new();
    let mut deadline = Deadline::new(limit, None);
    loop {
        let seen = news.count();
        if let Poll::Ready(output) = attempt(&waker, |cx| future.as_mut().poll(cx)) {
            return Ok(output);
        }
        news.wait(seen, &mut deadline)?;
    }
}

/// Polls once, without regard to the budget of a tokio task that this thread may be running: a budget that is used up comes
/// back only when the task returns, which it does not as long as it is here.
#[inline]
pub(super) fn attempt<T>(waker: &Waker, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    let future = pin!(unconstrained(poll_fn(|cx| Poll::Ready(poll(cx)))));
    match future.poll(&mut Context::from_waker(waker)) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => Poll::Pending,
    }
}
