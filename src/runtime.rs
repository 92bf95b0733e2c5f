//! What a runtime can do.

use std::time::Duration;

use crate::panics::catch;

/// Whether the current runtime has its time driver enabled. Without one, tokio's timers panic.
///
/// Tokio has no other way to ask. (Without a driver this prints a panic, so ask once and remember the answer.)
pub(crate) fn has_time() -> bool {
    catch(|| drop(tokio::time::sleep(Duration::ZERO))).is_ok()
}
