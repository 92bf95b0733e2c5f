//! The start of a listener: from settings to a core connection, a dialer and a task.
//!
//! Next: [`ListenerTask`], which this starts.

use std::sync::Arc;
use std::time::Duration;

use super::attempt_config::{Preparation, Prepared};
use super::attempt_observer::AttemptObserver;
use super::hopeless::Hopeless;
use super::hosts::{self, Host};
use super::listener_shared::ListenerShared;
use super::login::PendingLogin;
use super::login_dialer::LoginDialer;
use super::queue::MessageQueue;
use super::task::ListenerTask;
use super::{Error, ListenerBuilder, WhenFull};
use crate::dial::BoxedStream;
use crate::{Builder, Conn, Sessions};

/// Starts a listener at once. The first attempt is made in the background.
pub(super) fn start(builder: ListenerBuilder) -> Result<Arc<ListenerShared>, Error> {
    let (core, parts) = prepare(builder, false)?;
    Ok(parts.spawn(core.build().map_err(Error::from_core)?))
}

/// Starts a listener, and waits for the outcome of the first attempt.
pub(super) async fn start_and_wait(builder: ListenerBuilder, is_single: bool) -> Result<Arc<ListenerShared>, Error> {
    let (core, parts) = prepare(builder, is_single)?;
    match core.connect().await {
        Ok(conn) => Ok(parts.spawn(conn)),
        Err(crate::Error::DialFailure { .. }) => Err(parts.shared.connect_error()),
        Err(crate::Error::RuntimeShutdown) => Err(Error::RuntimeShutdown),
        Err(error) => Err(Error::from_core(error)),
    }
}

/// The parts of the task, except for the core connection.
struct Parts {
    /// Given to the listener as well, once the task runs.
    shared: Arc<ListenerShared>,
    /// Shared with the dialer, which leaves the login of the next session there.
    pending_login: PendingLogin,
    /// How long the server may be silent before it is asked. `None`: for ever.
    heartbeat: Option<Duration>,
    /// Whether it is the task of a [`ListenerConn`](super::ListenerConn).
    is_single: bool,
}

impl Parts {
    /// Starts the task.
    fn spawn(self, conn: Conn<BoxedStream>) -> Arc<ListenerShared> {
        let Self { shared, pending_login, heartbeat, is_single } = self;
        let _ = shared.conn_stats.set(conn.watch_stats());
        let sessions = Sessions::new(conn);
        let task = ListenerTask { shared: Arc::clone(&shared), sessions, pending_login, heartbeat, is_single };
        tokio::spawn(task.run());
        shared
    }
}

/// Checks the settings, and makes the settings of the core connection and the parts of the task from them.
fn prepare(builder: ListenerBuilder, is_single: bool) -> Result<(Builder<LoginDialer>, Parts), Error> {
    check(&builder)?;
    let (preparation, Prepared { login, hosts }) = Preparation::new(
        builder.config,
        builder.config_source,
        builder.dialer,
        #[cfg(feature = "tls")]
        builder.tls,
    )?;
    let is_random = hosts::is_random(&login.config);
    let name = hosts.iter().map(Host::name).collect::<Vec<_>>().join(",");
    let when_full = if is_single { WhenFull::Wait } else { builder.when_full };
    let queue = MessageQueue::new(builder.queue, when_full);
    let shared = Arc::new(ListenerShared::new(
        queue,
        builder.hooks,
        builder.ping_timeout,
        hosts.len() > 1 && !is_single,
        builder.report_listening,
    ));
    let pending_login = PendingLogin::default();
    let dialer = LoginDialer {
        shared: Arc::clone(&shared),
        pending_login: pending_login.clone(),
        preparation,
        hopeless: Hopeless::new(builder.retry_min, builder.retry_max, builder.hopeless_retry_max),
        login,
        hosts,
        next: 0,
        reached: None,
        last_host: None,
        is_single,
        not_before: None,
        is_random,
        limit: builder.dial_timeout,
        dial_limit: builder.dial_limit,
    };
    let observer = AttemptObserver::new(Arc::clone(&shared), pending_login.clone());
    let log = Arc::clone(&shared);
    let mut core = Conn::builder(name);
    if let Some(name) = builder.name {
        core = core.name(name);
    }
    let core = core
        .dialer(dialer)
        // An attempt may have to wait for the reader first, so it applies its limit itself.
        .dial_timeout(None)
        .retry_min(builder.retry_min)
        .retry_max(builder.retry_max)
        .equal_jitter()
        .stable_after(builder.stable_after)
        .max_retries(if is_single { Some(0) } else { builder.max_retries })
        .logger(move |error| {
            if let Some(warning) = Error::from_logged(error) {
                log.log(&Arc::new(warning));
            }
        })
        .on_event(move |event| observer.observe(event));
    Ok((core, Parts { shared, pending_login, heartbeat: builder.heartbeat, is_single }))
}

/// Checks the settings that the core does not check.
fn check(builder: &ListenerBuilder) -> Result<(), Error> {
    let invalid = |text: &str| Err(Error::InvalidConfig(text.into()));
    let (min, max) = (builder.retry_min, builder.retry_max);
    if max < min {
        let defaults = "unless set, they are 30ms and 700ms";
        return invalid(&format!("retry_max {max:?}: expected at least retry_min, which is {min:?} ({defaults})"));
    }
    if let Some(limit) = builder.hopeless_retry_max.filter(|limit| *limit < max) {
        return invalid(&format!("hopeless_retry_max {limit:?}: expected at least retry_max, which is {max:?}"));
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
