//! The context of a runtime: the background thread's for streams that need one, and another in which a call may be
//! made.
//!
//! Next: [`shared_half`](super::shared_half) and [`wait`](super::wait), which ask here.

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

/// Whether this thread runs a task of some runtime, which then defers the wake-ups of tasks that yield to itself until
/// this thread returns to it.
///
/// A context alone says little: a thread of `spawn_blocking` has one, too, and so has one that has entered a runtime.
/// So this yields, and looks whether the wake-up comes at once.
pub(super) fn defers_wake_ups() -> bool {
    struct WakeFlag(AtomicBool);
    impl Wake for WakeFlag {
        fn wake(self: Arc<Self>) {
            self.wake_by_ref();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    thread_local! {
        // One for the thread's life, as the runtime keeps each waker that it does not know already.
        static FLAG: (Arc<WakeFlag>, Waker) = {
            let flag = Arc::new(WakeFlag(AtomicBool::new(false)));
            (Arc::clone(&flag), Waker::from(flag))
        };
    }
    if Handle::try_current().is_err() {
        return false;
    }
    let yield_and_look = |(flag, waker): &(Arc<WakeFlag>, Waker)| {
        flag.0.store(false, Ordering::Relaxed);
        let is_ready = pin!(yield_now()).poll(&mut Context::from_waker(waker)).is_ready();
        !is_ready && !flag.0.load(Ordering::Relaxed)
    };
    // A thread that ends has dropped its flag already. It may run a task.
    FLAG.try_with(yield_and_look).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;
    use tokio::task::{block_in_place, spawn, spawn_blocking};

    use super::defers_wake_ups;

    #[test]
    fn wake_ups_are_deferred_on_the_threads_that_run_tasks_and_nowhere_else() {
        let one = Builder::new_current_thread().build().unwrap();
        let many = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        assert!(!defers_wake_ups());
        {
            let _context = one.enter();
            assert!(!defers_wake_ups());
        }
        for runtime in [&one, &many] {
            assert!(!runtime.block_on(async { spawn_blocking(defers_wake_ups).await.unwrap() }));
            let twice = async { (defers_wake_ups(), defers_wake_ups()) };
            assert_eq!(runtime.block_on(async { spawn(twice).await.unwrap() }), (true, true));
        }
        // The one runs the future of `block_on` as a task, the other only waits for it.
        assert!(one.block_on(async { defers_wake_ups() }));
        assert!(!many.block_on(async { defers_wake_ups() }));
        assert!(!many.block_on(async { spawn(async { block_in_place(defers_wake_ups) }).await.unwrap() }));
    }
}
