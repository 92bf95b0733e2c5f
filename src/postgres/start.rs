//! From settings to a listener.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_postgres::config::SslMode;

use super::attempts::{Attempts, Slot};
use super::hosts::{self, Host};
use super::outbox::Outbox;
use super::shared::Shared;
use super::task::Task;
use super::{Error, Event, ListenerBuilder, WhenFull};
use crate::{Builder, Conn, Sessions};

/// Starts at once; the first attempt is made behind.
pub(super) fn start(builder: ListenerBuilder) -> Result<Arc<Shared>, Error> {
    let (core, task) = prepare(builder, false)?;
    Ok(task.spawn(core.build().map_err(Error::from_core)?))
}

/// Waits for the outcome of the first attempt.
pub(super) async fn start_and_wait(builder: ListenerBuilder, is_once: bool) -> Result<Arc<Shared>, Error> {
    let (core, task) = prepare(builder, is_once)?;
    match core.connect().await {
        Ok(conn) => Ok(task.spawn(conn)),
        Err(crate::Error::DialFailure { .. }) => Err(task.shared.first_failure()),
        Err(crate::Error::RuntimeShutdown) => Err(Error::RuntimeShutdown),
        Err(error) => Err(Error::from_core(error)),
    }
}

/// What the task is made of, but for the connection.
struct Unborn {
    shared: Arc<Shared>,
    slot: Slot,
    heartbeat: Option<Duration>,
    is_once: bool,
}

impl Unborn {
    fn spawn(self, conn: Conn<crate::dial::BoxedStream>) -> Arc<Shared> {
        let Self { shared, slot, heartbeat, is_once } = self;
        let _ = shared.status.set(conn.watch_status());
        let task = Task { shared: Arc::clone(&shared), sessions: Sessions::new(conn), slot, heartbeat, is_once };
        tokio::spawn(task.run());
        shared
    }
}

fn prepare(builder: ListenerBuilder, is_once: bool) -> Result<(Builder<Attempts>, Unborn), Error> {
    check(&builder)?;
    let mut config = builder.config.into_config()?;
    hosts::check(&config)?;
    let hosts = match builder.dialer {
        Some(dialer) => {
            let host = Host::of(dialer);
            host.check()?;
            vec![host]
        }
        None => hosts::of_config(
            &config,
            #[cfg(feature = "tls")]
            builder.tls.as_ref(),
        )?,
    };
    let is_random = hosts::is_random(&config);
    // TLS is beneath; nothing more is to be negotiated.
    config.ssl_mode(SslMode::Disable);
    let name = hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let when_full = if is_once { WhenFull::Wait } else { builder.when_full };
    let outbox = Outbox::new(builder.queue, when_full);
    let shared = Arc::new(Shared::new(outbox, builder.hooks, builder.ping_timeout));
    let slot = Slot::default();
    let attempts = Attempts {
        shared: Arc::clone(&shared),
        slot: slot.clone(),
        config,
        hosts,
        next: 0,
        is_random,
        limit: builder.dial_timeout,
    };
    let witness = Witness { shared: Arc::clone(&shared), slot: slot.clone(), attempt: AtomicU32::new(0) };
    let core = Conn::builder(name)
        .dialer(attempts)
        // An attempt may have to wait for the reader first, and limits itself.
        .dial_timeout(None)
        .retry_min(builder.retry_min)
        .retry_max(builder.retry_max)
        .equal_jitter()
        .stable_after(builder.stable_after)
        .max_retries(if is_once { Some(0) } else { builder.max_retries })
        .logger(|_| {})
        .on_event(move |event| witness.see(event));
    Ok((core, Unborn { shared, slot, heartbeat: builder.heartbeat, is_once }))
}

/// Tells of the attempts that failed, as the core sees them.
struct Witness {
    shared: Arc<Shared>,
    slot: Slot,
    /// The number of the last one that succeeded.
    attempt: AtomicU32,
}

impl Witness {
    fn see(&self, event: &crate::Event) {
        match event {
            crate::Event::Connected { attempt, .. } | crate::Event::Reconnected { attempt, .. } => {
                self.attempt.store(*attempt, Ordering::Relaxed);
            }
            crate::Event::DialFailed { attempt, cause, retry_in, .. } => {
                let cause = self.shared.failure(|| Error::of_dial(cause));
                self.tell(*attempt, cause, *retry_in);
            }
            crate::Event::Disconnected { cause, retry_in, .. } => {
                // Nobody has used the link yet: it was none.
                let Some(login) = self.slot.take() else { return };
                let cause = Error::Connect { host: login.host, source: Arc::new(EndedAtOnce(Arc::clone(cause))) };
                self.shared.attempt_failed(Arc::new(cause));
                let cause = self.shared.failure(|| Error::Closed);
                self.tell(self.attempt.load(Ordering::Relaxed), cause, *retry_in);
            }
            _ => {}
        }
    }

    fn tell(&self, attempt: u32, cause: Arc<Error>, retry_in: Option<Duration>) {
        let event = Event::AttemptFailed { attempt, cause: Arc::clone(&cause), retry_in };
        self.shared.tell_from_outside(&event, Some(&cause));
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the connection ended right after the login")]
struct EndedAtOnce(#[source] Arc<crate::Error>);

fn check(builder: &ListenerBuilder) -> Result<(), Error> {
    let invalid = |text: &str| Err(Error::InvalidConfig(text.into()));
    let (min, max) = (builder.retry_min, builder.retry_max);
    if max < min {
        let defaults = "unless set, they are 30ms and 700ms";
        return invalid(&format!("retry_max {max:?}: expected at least retry_min, which is {min:?} ({defaults})"));
    }
    if builder.queue == 0 {
        return invalid("queue 0: expected at least 1");
    }
    if builder.dial_timeout == Some(Duration::ZERO) {
        return invalid("dial_timeout 0ns: expected more than zero, or None for no limit");
    }
    if builder.heartbeat == Some(Duration::ZERO) {
        return invalid("heartbeat 0ns: expected more than zero, or None for none");
    }
    if builder.ping_timeout.is_zero() {
        return invalid("ping_timeout 0ns: expected more than zero");
    }
    Ok(())
}
