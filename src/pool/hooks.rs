//! The event hook of a pool.
//!
//! A pool has no logger: a panic of the hook goes to the program's `log` backend, as a warning.
//!
//! Next: [`Event`], which the hook receives.

use super::Event;
use crate::hooks::Logged;

/// The hooks of one pool.
pub(super) type Hooks = crate::hooks::Hooks<HookPanicked, Event>;

/// A panic of the event hook, as it is logged.
#[derive(Debug, thiserror::Error)]
#[error("the {hook} hook of a pool panicked: {message}")]
pub(super) struct HookPanicked {
    /// Always `"event"`: a pool has no logger of the program.
    hook: &'static str,
    /// The panic's message, or a substitute if it was not text.
    message: String,
}

impl Logged for HookPanicked {
    fn hook_panicked(hook: &'static str, message: String) -> Self {
        Self { hook, message }
    }
}
