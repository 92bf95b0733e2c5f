//! The settings of a pool.

use std::fmt;
use std::time::Duration;

use super::hooks::Hooks;
use super::shared::Shared;
use super::{Event, Pool};
use crate::{Error, SocketOptions};

/// The settings of a [`Pool`]; made by [`Pool::builder`].
///
/// ```
/// use std::time::Duration;
/// use perconn::pool::Pool;
///
/// let pool = Pool::builder(200)
///     .dial_timeout(Duration::from_secs(5))
///     .idle_timeout(Duration::from_secs(60))
///     .on_event(|event| println!("{event}"))
///     .build()?;
/// # drop(pool);
/// # Ok::<(), perconn::Error>(())
/// ```
#[must_use = "a builder does nothing by itself, use `.build()`"]
pub struct PoolBuilder {
    pub(super) max: usize,
    pub(super) dial_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_age: Option<Duration>,
    pub(super) socket_options: SocketOptions,
    pub(super) hooks: Hooks,
}

/// Thirty years. A clock may not reach what is farther away, and no process does.
const NEVER: Duration = Duration::from_secs(30 * 365 * 86_400);

impl PoolBuilder {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            dial_timeout: Some(Duration::from_secs(20)),
            idle_timeout: None,
            max_age: None,
            socket_options: SocketOptions::new(),
            hooks: Hooks::default(),
        }
    }

    /// How long a dial may take, with everything that belongs to it. Defaults to 20 s; `None` for no limit.
    ///
    /// A limit needs a runtime with time enabled; in another one, [`GetError::Dial`](super::GetError::Dial) says so.
    pub fn dial_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.dial_timeout = limit.into();
        self
    }

    /// How long a connection may be idle before it is closed. Defaults to `None`: until its slot is needed.
    ///
    /// A task sees to that, on each runtime (with time enabled) in which connections are given back; given back outside of
    /// any, one stays open until such a task comes across it. But it is not handed out any more.
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }

    /// How old a connection may become. One that is older is not handed out again, and closed when it is given back or asked
    /// for. Defaults to `None`.
    pub fn max_age(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.max_age = limit.into();
        self
    }

    /// What is set on the sockets of [`Pool::resource`], before they connect. (Not on those of a dialer of your own.)
    pub fn socket_options(mut self, options: SocketOptions) -> Self {
        self.socket_options = options;
        self
    }

    /// Is told of each connection that is opened or closed, and each dial that fails, by the task that does it. It must not
    /// block. A panic in it is caught, and logged as a warning on the target `perconn`.
    ///
    /// It may use the pool. Of what it closes itself, it is told within that call or, by [`Pool::close_idle`], after it.
    pub fn on_event(mut self, hook: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.hooks.on_event = Some(Box::new(hook));
        self
    }

    /// Makes the pool.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if a setting cannot work.
    pub fn build(mut self) -> Result<Pool, Error> {
        let invalid = |text: String| Err(Error::InvalidConfig(text));
        if self.max == 0 {
            return invalid("a pool of 0 slots: expected at least 1".into());
        }
        let times =
            [("dial_timeout", self.dial_timeout), ("idle_timeout", self.idle_timeout), ("max_age", self.max_age)];
        for (name, time) in times {
            if time == Some(Duration::ZERO) {
                return invalid(format!("{name} 0ns: expected more than zero, or None for no limit"));
            }
        }
        self.socket_options.check()?;
        let has_end = |limit: &Duration| *limit < NEVER;
        (self.dial_timeout, self.idle_timeout) = (self.dial_timeout.filter(has_end), self.idle_timeout.filter(has_end));
        Ok(Pool { shared: Shared::new(self) })
    }
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("max", &self.max)
            .field("dial_timeout", &self.dial_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_age", &self.max_age)
            .field("socket_options", &self.socket_options)
            .finish_non_exhaustive()
    }
}
