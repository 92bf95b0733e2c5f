//! The thread on which the hooks of all blocking connections run.
//!
//! A hook may use a blocking connection, and wait for it: to send a log over it, for example. So it must not run on the
//! background thread, which would make the link that it waits for. It must not keep the crate's own log lines waiting
//! either, so it has another thread than they have.
//!
//! Next: [`CallThread`], which says when a call is dropped.

use std::sync::Arc;

use crate::call_thread::CallThread;
use crate::hooks::{Hook, Hooks, warn};
use crate::per_process::PerProcess;
use crate::{Error, Event};

/// The thread. It makes the calls of all connections, in order.
static HOOKS: PerProcess<CallThread> = PerProcess::new(|| {
    CallThread::new("perconn-hooks", |count| {
        warn(format_args!("perconn dropped calls of blocking connections' hooks, as the hooks are too slow: {count}"));
    })
});

/// Makes hooks that hand each call over to the thread. The default logger has a thread already.
pub(crate) fn on_hook_thread(hooks: Hooks<Error, Event>) -> Hooks<Error, Event> {
    let hooks = Arc::new(hooks);
    let logger = hooks.logger.is_some().then(|| {
        let hooks = OnThread::new(&hooks);
        let logger = move |error: &Arc<Error>| {
            let error = Arc::clone(error);
            hooks.post(move |hooks| hooks.log(&error));
        };
        Box::new(logger) as Hook<Arc<Error>>
    });
    let on_event = hooks.on_event.is_some().then(|| {
        let hooks = OnThread::new(&hooks);
        let on_event = move |event: &Event| {
            let event = event.clone();
            hooks.post(move |hooks| hooks.emit(|| event));
        };
        Box::new(on_event) as Hook<Event>
    });
    Hooks { logger, on_event }
}

/// The same for a single hook.
#[cfg(feature = "outbox")]
pub(crate) fn hook_on_thread<T: Clone + Send + 'static>(hook: Hook<T>) -> Hook<T> {
    let hook = OnThread(Some(Arc::new(hook)));
    Box::new(move |value: &T| {
        let value = value.clone();
        hook.post(move |hook| hook(&value));
    })
}

/// Hooks that are called, and in the end dropped, on the thread.
struct OnThread<H: Send + Sync + 'static>(Option<Arc<H>>);

impl<H: Send + Sync + 'static> OnThread<H> {
    /// One more reference to the hooks.
    fn new(hooks: &Arc<H>) -> Self {
        Self(Some(Arc::clone(hooks)))
    }

    /// Has the thread make a call.
    fn post(&self, call: impl FnOnce(&H) + Send + 'static) {
        let Some(hooks) = self.0.clone() else { return };
        HOOKS.get().post(move || call(&hooks));
    }
}

/// What the hooks own may log or wait when it is dropped, just as they may.
impl<H: Send + Sync + 'static> Drop for OnThread<H> {
    fn drop(&mut self) {
        let hooks = self.0.take();
        HOOKS.get().post(move || drop(hooks));
    }
}
