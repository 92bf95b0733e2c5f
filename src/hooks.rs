//! The program's own code that the actor calls, and what happens when it panics.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use crate::{Error, Event};

/// The logger and the event hook of one connection.
///
/// Both run on the actor's task: a slow one delays the redial and nothing else. A panic in one is caught and
/// reported, so that it can end neither the actor nor anyone who waits for it.
pub(crate) struct Hooks {
    pub(crate) logger: Hook<Error>,
    pub(crate) on_event: Option<Hook<Event>>,
}

type Hook<T> = Box<dyn Fn(&T) + Send + Sync>;

impl Default for Hooks {
    fn default() -> Self {
        Self { logger: Box::new(warn), on_event: None }
    }
}

impl Hooks {
    pub(crate) fn log(&self, error: &Error) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.logger)(error))) {
            warn(&Error::HookPanicked { hook: "logger", message: panic_message(panic) });
        }
    }

    pub(crate) fn event(&self, event: &Event) {
        let Some(hook) = &self.on_event else { return };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(event))) {
            self.log(&Error::HookPanicked { hook: "event", message: panic_message(panic) });
        }
    }
}

/// Wakes a task. A waker is the program's own code, too, or its executor's.
pub(crate) fn wake(waker: Waker) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        panic_message(panic);
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned();
    // What was thrown may panic once more when it is dropped; and what is thrown then is better left alone.
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(another);
    }
    text
}

/// The default logger: a warning on the target `perconn`, with the chain of causes.
fn warn(error: &Error) {
    log::warn!(target: "perconn", "{}", Chain(error));
}

/// An error and its causes in one line.
struct Chain<'a>(&'a Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn chain_shows_each_level_once() {
        let source = io::ErrorKind::ConnectionRefused.into();
        let error = Error::DialFailure { address: "db:5432".into(), attempt: 2, source };
        assert_eq!(Chain(&error).to_string(), "dial 2 to db:5432 failed: connection refused");
    }
}
