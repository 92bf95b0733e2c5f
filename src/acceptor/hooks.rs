//! The logger and the event hook of an acceptor.
//!
//! Next: [`super::event`] and [`super::error`], which they receive.

use super::{Error, Event};
use crate::hooks::Logged;

/// The hooks of one acceptor, called on the task that causes an error or event.
pub(super) type Hooks = crate::hooks::Hooks<Error, Event>;

impl Logged for Error {
    fn hook_panicked(hook: &'static str, message: String) -> Self {
        Self::HookPanicked { hook, message }
    }
}
