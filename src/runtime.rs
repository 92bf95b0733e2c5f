//! The abilities of the current tokio runtime.
//!
//! Used by the pool and the acceptor, which report a runtime without timers instead of panicking. Next: `panics.rs`.

use std::time::Duration;

use crate::panics::catch;

/// Whether the current runtime has its time driver enabled. Without one, tokio's timers panic.
///
/// Tokio has no other way to ask. Without a driver this prints a panic message, so ask once and keep the answer.
pub(crate) fn has_time() -> bool {
    catch(|| drop(tokio::time::sleep(Duration::ZERO))).is_ok()
}
