//! What [`closed`](super::Acceptor::closed) waits for: the tasks and streams that own values of the program.
//!
//! Each of them holds an [`Alive`], which it drops last. So when `closed` returns, no task holds the handler or a hook.
//!
//! Next: [`super::registry`], which gives one to each connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::waiters::Waiters;

/// Held by the accept loop, by each connection, and by each pending TLS session. The drop of the last one ends the
/// acceptor.
pub(super) struct Alive(Arc<Ended>);

/// Whether the acceptor has ended. It owns nothing of the program, so it may outlive all else.
pub(super) struct Ended {
    /// The last [`Alive`] is dropped, and there will be no other one.
    has_ended: AtomicBool,
    /// The callers of `closed`.
    waiters: Waiters,
}

impl Alive {
    /// The first one, of an acceptor that is being made.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Arc::new(Ended { has_ended: AtomicBool::new(false), waiters: Waiters::new() })))
    }

    /// Where to wait for the end.
    pub(super) fn ended(&self) -> Arc<Ended> {
        Arc::clone(&self.0)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Ordering::SeqCst);
        self.0.waiters.wake_all();
    }
}

impl Ended {
    /// Waits for the end.
    pub(super) async fn wait(&self) {
        self.waiters.wait_until(|| self.has_ended.load(Ordering::SeqCst).then_some(())).await;
    }
}

/// Runs a task that owns values of the program, and drops these before `alive`.
pub(super) async fn hold(alive: Arc<Alive>, task: impl Future<Output = ()>) {
    task.await;
    drop(alive);
}
