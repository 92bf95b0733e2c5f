//! The program's own code that an acceptor tells things to, and what happens when it panics.

use std::any::Any;
use std::error::Error as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Error, Event};

pub(super) struct Hooks {
    pub(super) logger: Hook<Error>,
    pub(super) on_event: Option<Hook<Event>>,
}

type Hook<T> = Box<dyn Fn(&T) + Send + Sync>;

impl Default for Hooks {
    fn default() -> Self {
        Self { logger: Box::new(warn), on_event: None }
    }
}

impl Hooks {
    pub(super) fn log(&self, error: &Error) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.logger)(error))) {
            let error = Error::HookPanicked { hook: "logger", message: panic_message(panic) };
            // The program's backend for `log` may be what panics. Then there is nobody left to tell.
            let _ = catch_unwind(AssertUnwindSafe(|| warn(&error)));
        }
    }

    pub(super) fn tell(&self, event: impl FnOnce() -> Event) {
        let Some(hook) = &self.on_event else { return };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(&event()))) {
            self.log(&Error::HookPanicked { hook: "event", message: panic_message(panic) });
        }
    }
}

/// What a panic said.
pub(super) fn panic_message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned();
    // What was thrown may panic once more when it is dropped.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
    text
}

/// The default logger: a warning on the target `perconn`, with the cause.
fn warn(error: &Error) {
    match error.source() {
        Some(cause) => log::warn!(target: "perconn", "{error}: {cause}"),
        None => log::warn!(target: "perconn", "{error}"),
    }
}
