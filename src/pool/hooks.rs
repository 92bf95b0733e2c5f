//! The event hook of a pool. What it does wrong goes to the program's backend of `log`, as a pool has no logger.

use super::Event;
use crate::hooks::Logged;

pub(super) type Hooks = crate::hooks::Hooks<HookPanicked, Event>;

/// A panic of the event hook.
#[derive(Debug, thiserror::Error)]
#[error("the {hook} hook of a pool panicked: {message}")]
pub(super) struct HookPanicked {
    hook: &'static str,
    message: String,
}

impl Logged for HookPanicked {
    fn hook_panicked(hook: &'static str, message: String) -> Self {
        Self { hook, message }
    }
}
