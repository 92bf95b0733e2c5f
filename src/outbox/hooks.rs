//! The event hook of an outbox, and the log lines without one.
//!
//! Next: [`Event`], what it gets.

use std::fmt;

use super::Event;
use crate::hooks::{Hook, debug, warn};
use crate::panics::catch;

/// The event hook.
#[derive(Default)]
pub(super) struct Hooks {
    /// `None`: what is lost or rejected becomes a warning through the `log` crate.
    pub(super) on_event: Option<Hook<Event>>,
}

impl Hooks {
    /// Calls the hook, or logs.
    pub(super) fn emit(&self, event: &Event) {
        match &self.on_event {
            Some(hook) => {
                if let Err(message) = catch(|| hook(event)) {
                    warn(format_args!("the event hook of an outbox panicked: {message}"));
                }
            }
            None if matches!(event, Event::Ended { .. }) => debug(event),
            None => warn(event),
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("on_event", &self.on_event.is_some()).finish()
    }
}
