//! The program's own code that a listener calls, and what happens when it panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::Chain;
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
            None => log::warn!(target: "perconn", "{}", Chain(error)),
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
    let Err(panic) = catch_unwind(AssertUnwindSafe(call)) else { return };
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned();
    log::warn!(target: "perconn", "the {name} hook of a listener panicked: {text}");
    // What was thrown may panic once more when it is dropped; and what is thrown then is better left alone.
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(another);
    }
}
