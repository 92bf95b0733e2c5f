//! One dial of a resource, and the report of its outcome.
//!
//! Next: [`Open`], the dialer or closure behind it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::connection::Connection;
use super::opener::Open;
use super::resource_inner::ResourceInner;
use super::stats::increment;
use super::{Event, GetError};
use crate::DialLimit;
use crate::hooks::warn;
use crate::panic_as_error::{PanicAsError, complete};
use crate::panics::ignore;
use crate::runtime::has_time;

/// Opens a connection within the dial timeout, for the caller that has acquired the entry and a slot.
///
/// The close of the pool ends it, and so does a drop of the future. Every outcome is counted and reported to the event
/// hook. If the opener is the resource's own (`is_own`), a failure delays its next dial.
pub(super) async fn dial<T: Send + 'static>(
    resource: &ResourceInner<T>,
    opener: &mut dyn Open<T>,
    is_own: bool,
) -> Result<Connection<T>, GetError> {
    let ResourceInner { pool, name, entry, .. } = resource;
    entry.lock().begin_dial();
    let mut closed = pool.close_signal.listen().ok_or(GetError::Closed)?;
    // A caller that leaves now, or a close, has begun no dial.
    let permit = tokio::select! {
        biased;
        () = closed.received() => return Err(GetError::Closed),
        permit = DialLimit::turn_of(pool.settings.dial_limit.as_ref(), name) => permit,
    };
    let began = Instant::now();
    let mut attempt = DialAttempt { resource, opener, is_own, is_over: false };
    let opened = tokio::select! {
        biased;
        () = closed.received() => None,
        opened = attempt.run(pool.settings.dial_timeout) => Some(opened),
    };
    drop(permit);
    let opened = match opened {
        // The pool may have been closed after the look at the signal. A dial that ends later than that lends nothing.
        Some(opened) if !pool.summary.is_closed() => opened, // rule: closed-pool-lends-nothing
        unwanted => {
            ignore(|| drop(unwanted));
            attempt.end(io::Error::new(io::ErrorKind::NotConnected, "the pool was closed"));
            return Err(GetError::Closed);
        }
    };
    attempt.log_warning();
    let value = opened.map_err(|error| attempt.fail(error))?;
    attempt.is_over = true;
    resource.dial_backoff.note_success();
    let now = Instant::now();
    increment(&pool.counters.opened);
    increment(&resource.dial_counters.opened);
    pool.emit(|| Event::Opened { name: Arc::clone(name), took: now - began });
    pool.start_reaper();
    let mut connection = Connection::new(value, now, pool.settings.max_age);
    connection.info.runtime = resource.lifecycle.release.as_ref().and_then(|_| Handle::try_current().ok());
    Ok(connection)
}

/// A dial that is under way. If it is dropped before its end, it has failed.
struct DialAttempt<'a, T: Send + 'static> {
    /// Has the name for events, and the counters of its pool.
    resource: &'a ResourceInner<T>,
    /// Locked by the caller for the whole dial. It learns of a failure, too.
    opener: &'a mut dyn Open<T>,
    /// The opener is that of the resource, and not of one caller.
    is_own: bool,
    /// The outcome was reported.
    is_over: bool,
}

impl<T: Send + 'static> DialAttempt<'_, T> {
    /// Opens the connection within a limit. A panic of the opener is an error.
    async fn run(&mut self, limit: Option<Duration>) -> io::Result<T> {
        let Self { opener, .. } = self;
        let opening = PanicAsError::new(async { complete(opener.open()).await });
        match limit {
            None => opening.await,
            Some(limit) => timeout(limit, opening).await.unwrap_or_else(|_| {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("the dial took longer than {limit:?}")))
            }),
        }
    }

    /// Logs what the opener has to say about this dial. A pool has no logger of its own.
    fn log_warning(&mut self) {
        let mut warning = None;
        ignore(|| warning = self.opener.take_warning());
        if let Some(warning) = warning {
            warn(format_args!("{}: {}", self.resource.name, warning.with_causes()));
        }
    }

    /// Reports a failure, which delays the next dial. Returns the error for the caller.
    fn fail(&mut self, error: io::Error) -> GetError {
        let (error, source) = self.end(error);
        if self.is_own {
            let ResourceInner { pool, dial_backoff, .. } = self.resource;
            dial_backoff.note_failure(&pool.settings, self.opener.addresses(), &source);
        }
        error
    }

    /// Reports the end of an attempt without a connection, first to the opener.
    fn end(&mut self, error: io::Error) -> (GetError, Arc<io::Error>) {
        self.is_over = true;
        let ResourceInner { pool, name, .. } = self.resource;
        let source = Arc::new(self.opener.failed(error));
        increment(&pool.counters.dials_failed);
        increment(&self.resource.dial_counters.dials_failed);
        let error = GetError::Dial { name: Arc::clone(name), source: Arc::clone(&source), retry_in: None };
        pool.emit(|| Event::DialFailed { name: Arc::clone(name), cause: error.clone() });
        (error, source)
    }
}

impl<T: Send + 'static> Drop for DialAttempt<'_, T> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let cancelled = if self.is_own { "the dial was cancelled" } else { "the dial was cancelled by its caller" };
        self.end(io::Error::new(io::ErrorKind::Interrupted, cancelled));
    }
}

/// The runtime in which a connection can be opened here. If there is a dial timeout or limit, it has to have time.
pub(super) fn check_runtime<T>(resource: &ResourceInner<T>) -> Result<Handle, GetError> {
    let settings = &resource.pool.settings;
    check_runtime_for(&resource.name, settings.dial_timeout.is_some() || settings.dial_limit.is_some())
}

/// The same for a caller with a time limit of its own. Tokio's sockets and timers panic where the runtime lacks
/// something.
pub(super) fn check_runtime_for(name: &Arc<str>, has_limit: bool) -> Result<Handle, GetError> {
    let missing = match Handle::try_current() {
        Err(_) => "a connection can only be opened inside of a tokio runtime",
        Ok(_) if has_limit && !has_time() => "a time limit needs a tokio runtime with time enabled",
        Ok(runtime) => return Ok(runtime),
    };
    let source = Arc::new(io::Error::new(io::ErrorKind::Unsupported, missing));
    Err(GetError::Dial { name: Arc::clone(name), source, retry_in: None })
}
