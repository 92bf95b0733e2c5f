//! The program's own code that a listener calls, and what happens when it panics.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Error, Event};

/// The logger and the event hook of one listener.
#[derive(Default)]
pub(super) struct Hooks {
    pub(super) logger: Option<Hook<Error>>,
    pub(super) on_event: Option<Hook<Event>>,
}

type Hook<T> = Box<dyn Fn(&T) + Send + Sync>;

impl Hooks {
    pub(super) fn log(&self, error: &Error) {
        match &self.logger {
            None => warn(&error.with_causes()),
            Some(logger) => caught("logger", || logger(error)),
        }
    }

    pub(super) fn event(&self, event: &Event) {
        if let Some(hook) = &self.on_event {
            caught("event", || hook(event));
        }
    }
}

fn caught(name: &str, call: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
        warn(&format_args!("the {name} hook of a listener panicked: {}", panic_text(panic)));
    }
}

/// A warning. The program's backend of `log` may panic, too, and then there is nobody left to tell.
fn warn(text: &dyn fmt::Display) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| log::warn!(target: "perconn", "{text}"))) {
        panic_text(panic);
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned();
    // What was thrown may panic once more when it is dropped; and what is thrown then is better left alone.
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(another);
    }
    text
}
