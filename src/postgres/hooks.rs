//! The logger and the event hook of a listener.
//!
//! Next: [`crate::hooks::Hooks`], which calls them and catches their panics.

use super::{Error, Event};
use crate::hooks::Logged;

/// The hooks of a listener: the logger takes an [`Error`], the event hook an [`Event`].
pub(super) type Hooks = crate::hooks::Hooks<Error, Event>;

impl Logged for Error {
    fn hook_panicked(hook: &'static str, message: String) -> Self {
        Self::HookPanicked { hook, message }
    }
}
