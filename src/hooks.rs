//! The logger and the event hook of the program.
//!
//! One type for every part of the crate: connection, acceptor, pool and listener. Next: `panics.rs`, which keeps a
//! panic of a hook from the task that called it, and `call_thread.rs`, where the log lines are written.

use std::borrow::Borrow;
use std::error::Error;
use std::fmt::Display;
use std::sync::Arc;

use log::Level;

use crate::call_thread::CallThread;
use crate::causes::WithCauses;
use crate::panics::{catch, ignore};
use crate::per_process::PerProcess;

/// The logger and the event hook of a connection, an acceptor, a pool or a listener.
///
/// They run on the task that calls them: a slow hook delays that task and nothing else. (Those of a blocking connection
/// hand each call over to a thread.) A panic of a hook is caught and reported, and so ends neither the task nor an
/// operation that waits for it.
pub(crate) struct Hooks<E, V> {
    /// Gets each error that is to be logged. `None`: the error becomes a warning through the `log` crate.
    pub(crate) logger: Option<Hook<Arc<E>>>,
    /// Gets each event. `None`: no events are made.
    pub(crate) on_event: Option<Hook<V>>,
}

/// A function of the program.
pub(crate) type Hook<T> = Box<dyn Fn(&T) + Send + Sync>;

/// The error type of a logger. It has an error for a panic of a hook.
pub(crate) trait Logged: Error + 'static {
    /// `hook` is `"logger"` or `"event"`.
    fn hook_panicked(hook: &'static str, message: String) -> Self;
}

/// A warning through the `log` crate, and no event hook.
impl<E, V> Default for Hooks<E, V> {
    fn default() -> Self {
        Self { logger: None, on_event: None }
    }
}

impl<E: Logged, V> Hooks<E, V> {
    /// Calls the logger. Its panic goes to the `log` crate.
    pub(crate) fn log(&self, error: &Arc<E>) {
        let Some(logger) = &self.logger else { return warn(WithCauses(&**error)) };
        if let Err(message) = catch(|| logger(error)) {
            warn(WithCauses(&E::hook_panicked("logger", message)));
        }
    }

    /// Calls the event hook. Its panic goes to the logger. Without a hook, `event` is not called.
    pub(crate) fn emit<B: Borrow<V>>(&self, event: impl FnOnce() -> B) {
        let Some(hook) = &self.on_event else { return };
        // rule: panic-of-a-hook-is-caught
        if let Err(message) = catch(|| hook(event().borrow())) {
            self.log(&Arc::new(E::hook_panicked("event", message)));
        }
    }
}

/// The only thread on which this crate calls the program's backend of `log`.
static LOG: PerProcess<CallThread> = PerProcess::new(|| {
    CallThread::new("perconn-log", |count| {
        log::warn!(target: "perconn", "perconn dropped log lines, as the log backend is too slow: {count}");
    })
});

/// Logs a warning on the target `perconn`.
pub(crate) fn warn(text: impl Display) {
    hand_over(Level::Warn, text);
}

/// Logs a line that says that all is well again, on the target `perconn`.
pub(crate) fn info(text: impl Display) {
    hand_over(Level::Info, text);
}

/// Logs a line for a person who looks for a fault, on the target `perconn`.
pub(crate) fn debug(text: impl Display) {
    hand_over(Level::Debug, text);
}

/// Has the thread for it log a line. The text is made at once, and only if the level is enabled.
///
/// The backend may wait for a connection of this crate, so not even its `enabled` may be called here. It can panic,
/// too; then nothing is left to report that to.
fn hand_over(level: Level, text: impl Display) {
    if level > log::STATIC_MAX_LEVEL || level > log::max_level() {
        return;
    }
    ignore(|| {
        let text = text.to_string();
        LOG.get().post(move || log::log!(target: "perconn", level, "{text}"));
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the {0} hook panicked: {1}")]
    struct Panicked(&'static str, String);

    impl Logged for Panicked {
        fn hook_panicked(hook: &'static str, message: String) -> Self {
            Self(hook, message)
        }
    }

    #[test]
    fn panic_of_the_event_hook_goes_to_the_logger_and_a_panic_of_the_logger_is_caught() {
        let logged: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&logged);
        let hooks = Hooks {
            logger: Some(Box::new(move |error: &Arc<Panicked>| {
                log.lock().unwrap().push(error.to_string());
                assert_ne!(log.lock().unwrap().len(), 2, "the second time it panics");
            })),
            on_event: Some(Box::new(|event: &u8| assert_eq!(*event, 1, "no other event"))),
        };
        (1..4).for_each(|event| hooks.emit(|| event));
        let logged = logged.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        assert_eq!(logged.len(), 2, "{logged:?}");
        assert!(logged[0].contains("the event hook panicked") && logged[0].contains("no other event"), "{logged:?}");
    }
}
