//! The types of a model, and how one is played.
//!
//! Next: the models, [`pool::models`](crate::pool).

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use loom::model::Builder;
use tokio::sync::TryLockError;

pub(crate) use loom::future::block_on as wait;
pub(crate) use loom::sync::MutexGuard;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
pub(crate) use loom::thread;

/// The crate's mutex; see [`crate::sync::Mutex`]. A model in which a holder panics has failed, so nothing is poisoned.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// An unlocked mutex.
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    /// Blocks the thread until the lock is free.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("no holder panics")
    }

    /// The value, without its lock.
    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().expect("no holder panics")
    }
}

/// An access to a thing of tokio, which loom does not know: each access is one step of the model.
#[derive(Debug, Default)]
struct Step(AtomicU64);

impl Step {
    /// Takes place in some order with the other accesses, and sees all that was done before these.
    fn take(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// Tokio's channel for one value.
pub(crate) mod oneshot {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use tokio::sync::oneshot;
    use tokio::sync::oneshot::error::RecvError;

    use super::Step;

    /// A new channel.
    pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let (step, (sender, receiver)) = (Arc::<Step>::default(), oneshot::channel());
        (Sender { step: Arc::clone(&step), sender: Some(sender) }, Receiver { step, receiver })
    }

    /// The sending side.
    pub(crate) struct Sender<T> {
        step: Arc<Step>,
        sender: Option<oneshot::Sender<T>>,
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.step.take();
            self.sender = None;
        }
    }

    /// The receiving side.
    pub(crate) struct Receiver<T> {
        step: Arc<Step>,
        receiver: oneshot::Receiver<T>,
    }

    impl<T> Receiver<T> {
        /// Closes the channel.
        pub(crate) fn close(&mut self) {
            self.step.take();
            self.receiver.close();
        }
    }

    impl<T> Future for Receiver<T> {
        type Output = Result<T, RecvError>;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            self.step.take();
            Pin::new(&mut self.receiver).poll(cx)
        }
    }
}

/// Tokio's mutex.
pub(crate) struct AsyncMutex<T> {
    step: Step,
    mutex: tokio::sync::Mutex<T>,
}

/// The lock of an [`AsyncMutex`].
pub(crate) struct AsyncGuard<'a, T> {
    step: &'a Step,
    /// `None` only while it is dropped.
    guard: Option<tokio::sync::MutexGuard<'a, T>>,
}

impl<T> AsyncMutex<T> {
    /// An unlocked mutex.
    pub(crate) fn new(value: T) -> Self {
        Self { step: Step::default(), mutex: tokio::sync::Mutex::new(value) }
    }

    /// Locks it, if it is not locked.
    pub(crate) fn try_lock(&self) -> Result<AsyncGuard<'_, T>, TryLockError> {
        self.step.take();
        Ok(AsyncGuard { step: &self.step, guard: Some(self.mutex.try_lock()?) })
    }
}

impl<T> Deref for AsyncGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("it is not dropped yet")
    }
}

impl<T> DerefMut for AsyncGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("it is not dropped yet")
    }
}

impl<T> Drop for AsyncGuard<'_, T> {
    fn drop(&mut self) {
        self.step.take();
        self.guard = None;
    }
}

/// Tokio's notification of tasks.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    step: Step,
    notify: tokio::sync::Notify,
}

/// A wait for a notification.
pub(crate) struct Notified<'a> {
    step: &'a Step,
    notified: Pin<Box<tokio::sync::futures::Notified<'a>>>,
}

impl Notify {
    /// Nobody waits yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Begins a wait.
    pub(crate) fn notified(&self) -> Notified<'_> {
        self.step.take();
        Notified { step: &self.step, notified: Box::pin(self.notify.notified()) }
    }

    /// Wakes one waiter, now or later.
    pub(crate) fn notify_one(&self) {
        self.step.take();
        self.notify.notify_one();
    }

    /// Wakes all that wait now.
    pub(crate) fn notify_waiters(&self) {
        self.step.take();
        self.notify.notify_waiters();
    }
}

impl Notified<'_> {
    /// Waits from now on. Returns whether it was notified.
    pub(crate) fn enable(mut self: Pin<&mut Self>) -> bool {
        self.step.take();
        self.notified.as_mut().enable()
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.step.take();
        self.notified.as_mut().poll(cx)
    }
}

/// Runs a future on a thread of its own, as a task that nothing aborts.
pub(crate) fn spawn(_: &tokio::runtime::Handle, future: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    drop(thread::spawn(move || wait(Box::pin(future))));
    AbortHandle
}

/// What would abort such a task.
#[derive(Debug)]
pub(crate) struct AbortHandle;

impl AbortHandle {
    /// Does nothing: in a model, every task ends by itself.
    pub(crate) fn abort(&self) {}
}

/// Plays every schedule of a model. Prints how many there are.
pub(crate) fn check(model: impl Fn() + Send + Sync + 'static) {
    play(Builder::new(), model);
}

/// Plays the schedules in which threads are interrupted a limited number of times, for a model that has too many. The variable
/// `LOOM_MAX_PREEMPTIONS` can have a greater number.
pub(crate) fn check_up_to(interruptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(interruptions);
    play(builder, model);
}

fn play(builder: Builder, model: impl Fn() + Send + Sync + 'static) {
    // Code of the crate may ask for the runtime of its thread. Nobody drives this one.
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be built");
    let _entered = runtime.enter();
    let schedules = Arc::new(std::sync::atomic::AtomicU64::new(0));
    builder.check({
        let schedules = Arc::clone(&schedules);
        move || {
            schedules.fetch_add(1, Ordering::Relaxed);
            model();
        }
    });
    println!("{} schedules", schedules.load(Ordering::Relaxed));
}
