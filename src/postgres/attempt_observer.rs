//! The observer of the core connection's events, which reports the attempts that failed.
//!
//! Next: [`ListenerShared`], which calls the hooks of the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::listener_shared::{FailedAttempt, ListenerShared};
use super::login::PendingLogin;
use super::{Error, Event};

/// Reports failed attempts to the hooks of the program. It runs in the event hook of the core connection.
pub(super) struct AttemptObserver {
    /// Has the hooks, and the cause that the dialer noted for the attempt.
    shared: Arc<ListenerShared>,
    /// The login of a connection that nothing has used yet.
    pending_login: PendingLogin,
    /// The number of the last attempt that succeeded.
    attempt: AtomicU32,
}

impl AttemptObserver {
    /// An observer of the connection whose dialer leaves its logins in `pending_login`.
    pub(super) fn new(shared: Arc<ListenerShared>, pending_login: PendingLogin) -> Self {
        Self { shared, pending_login, attempt: AtomicU32::new(0) }
    }

    /// Takes an event of the core connection.
    pub(super) fn observe(&self, event: &crate::Event) {
        match event {
            crate::Event::Connected { attempt, .. } | crate::Event::Reconnected { attempt, .. } => {
                self.attempt.store(*attempt, Ordering::Relaxed);
            }
            crate::Event::DialFailed { attempt, cause, retry_in, .. } => {
                let cause = self.shared.take_attempt_cause(|| Error::from_dial(cause));
                self.report(*attempt, cause, *retry_in);
            }
            crate::Event::Disconnected { cause, retry_in, .. } => {
                // If the login is still there, nothing has used the connection: it counts as a failed attempt.
                let Some(login) = self.pending_login.take() else { return };
                let source = Arc::new(EndedAtOnce(Arc::clone(cause)));
                let cause = self.shared.take_attempt_cause(|| Error::Connect { host: login.host, source });
                self.report(self.attempt.load(Ordering::Relaxed), cause, *retry_in);
            }
            _ => {}
        }
    }

    /// Calls the hooks of the program.
    fn report(&self, attempt: u32, failed: FailedAttempt, retry_in: Option<Duration>) {
        let FailedAttempt { error: cause, hopeless, delay } = failed;
        let retry_in = retry_in.map(|usual| usual.max(delay));
        let event = Event::AttemptFailed { attempt, cause: Arc::clone(&cause), retry_in, hopeless };
        // Those that follow say the same.
        self.shared.report(&event, (hopeless <= 1).then_some(&cause));
    }
}

/// The cause of an attempt whose connection ended before it was used.
#[derive(Debug, thiserror::Error)]
#[error("the connection ended right after the login")]
struct EndedAtOnce(#[source] Arc<crate::Error>);
