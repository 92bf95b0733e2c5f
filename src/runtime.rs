//! The abilities of the current tokio runtime.
//!
//! Used by the pool and the acceptor, which report a runtime without timers instead of panicking. Next: `panics.rs`.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::{Handle, Id};

use crate::panics::catch;
use crate::sync::Mutex;

/// Whether the current runtime has its time driver enabled. Without one, tokio's timers panic.
///
/// Tokio has no other way to ask. Without a driver this prints a panic message, once for each runtime.
pub(crate) fn has_time() -> bool {
    let Ok(runtime) = Handle::try_current() else { return false };
    if HAS_WITHOUT_TIME.load(Ordering::Acquire) && WITHOUT_TIME.lock().contains(&runtime.id()) {
        return false;
    }
    if catch(|| drop(tokio::time::sleep(Duration::ZERO))).is_ok() {
        return true;
    }
    let known = KnownWithoutTime(runtime.id());
    WITHOUT_TIME.lock().push(runtime.id());
    HAS_WITHOUT_TIME.store(true, Ordering::Release);
    // A later runtime may have the same number. So the runtime itself keeps it known: its end drops this task.
    runtime.spawn(async move {
        let _known = known;
        pending::<()>().await;
    });
    false
}

/// The runtimes that have no time driver, as far as this was asked.
static WITHOUT_TIME: Mutex<Vec<Id>> = Mutex::new(Vec::new());

/// There was such a runtime. In most programs there never is, and the lock is not needed.
static HAS_WITHOUT_TIME: AtomicBool = AtomicBool::new(false);

/// Keeps a runtime among them.
struct KnownWithoutTime(Id);

impl Drop for KnownWithoutTime {
    fn drop(&mut self) {
        WITHOUT_TIME.lock().retain(|id| *id != self.0);
    }
}
