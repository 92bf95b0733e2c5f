//! The context of a runtime: ours, for streams that ask for it, and another in which a call may be made.

use std::any::TypeId;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use tokio::net::TcpStream;
use tokio::runtime::{EnterGuard, Handle};
use tokio::task::yield_now;

/// Enters the runtime for a stream that may start timers or tasks of its own when it is polled. A bare socket does not.
#[inline]
pub(super) fn enter_for<S: 'static>(runtime: &Handle) -> Option<EnterGuard<'_>> {
    (TypeId::of::<S>() != TypeId::of::<TcpStream>()).then(|| runtime.enter())
}

/// Whether this thread is running a task of some runtime, which keeps the wake-ups of whoever yields to itself until the
/// thread comes back to it.
///
/// A context alone says little: a thread of `spawn_blocking` has one, too, and one that has entered a runtime. So this
/// yields, and looks whether it is woken at once.
pub(super) fn keeps_wake_ups_back() -> bool {
    struct Bell(AtomicBool);
    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.wake_by_ref();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    thread_local! {
        // Always the same one, as the runtime keeps each that it does not know already.
        static BELL: (Arc<Bell>, Waker) = {
            let bell = Arc::new(Bell(AtomicBool::new(false)));
            (Arc::clone(&bell), Waker::from(bell))
        };
    }
    if Handle::try_current().is_err() {
        return false;
    }
    let look = |(bell, waker): &(Arc<Bell>, Waker)| {
        bell.0.store(false, Ordering::Relaxed);
        let is_done = pin!(yield_now()).poll(&mut Context::from_waker(waker)).is_ready();
        !is_done && !bell.0.load(Ordering::Relaxed)
    };
    // Where it cannot be found out, it may be so.
    BELL.try_with(look).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;
    use tokio::task::{block_in_place, spawn, spawn_blocking};

    use super::keeps_wake_ups_back as keeps;

    #[test]
    fn wake_ups_are_kept_back_on_the_threads_that_run_tasks_and_nowhere_else() {
        let one = Builder::new_current_thread().build().unwrap();
        let many = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        assert!(!keeps());
        {
            let _guard = one.enter();
            assert!(!keeps());
        }
        for runtime in [&one, &many] {
            assert!(!runtime.block_on(async { spawn_blocking(keeps).await.unwrap() }));
            assert_eq!(runtime.block_on(async { spawn(async { (keeps(), keeps()) }).await.unwrap() }), (true, true));
        }
        // Its own future is run by the one, and waited for by the other.
        assert!(one.block_on(async { keeps() }));
        assert!(!many.block_on(async { keeps() }));
        assert!(!many.block_on(async { spawn(async { block_in_place(keeps) }).await.unwrap() }));
    }
}
