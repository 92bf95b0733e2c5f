//! The settings of a pool.
//!
//! Next: [`PoolInner`], which keeps them.

use std::fmt;
use std::time::Duration;

use super::hooks::Hooks;
use super::state::PoolInner;
use super::{Event, GLOBAL, Pool};
use crate::{DialLimit, Error, SocketOptions};

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
    /// The number of slots; at least 1 once checked.
    pub(super) max: usize,
    /// The limit of one dial, with its session set-up. Defaults to 20 s; `None`: no limit.
    pub(super) dial_timeout: Option<Duration>,
    /// A limit shared with other connections. Defaults to none.
    pub(super) dial_limit: Option<DialLimit>,
    /// The shortest delay after a failed dial. Defaults to 100 ms.
    pub(super) retry_min: Duration,
    /// The longest delay after a failed dial. Defaults to 10 s.
    pub(super) retry_max: Duration,
    /// How long a connection may be idle. Defaults to `None`: until its slot is needed.
    pub(super) idle_timeout: Option<Duration>,
    /// How old a connection may be when it is lent. Defaults to `None`: no limit.
    pub(super) max_age: Option<Duration>,
    /// The time between two checks of the idle connections. Defaults to 30 s; `None`: they are checked when lent.
    pub(super) check_idle_every: Option<Duration>,
    /// For the sockets of `Pool::resource` only.
    pub(super) socket_options: SocketOptions,
    /// The event hook. It is called without a lock, so it may use the pool.
    pub(super) hooks: Hooks,
}

/// Thirty years: a limit that is at least as long is no limit. No process lives that long, and the clock may end before
/// it.
const NEVER: Duration = Duration::from_secs(30 * 365 * 86_400);

impl PoolBuilder {
    /// The default settings.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            dial_timeout: Some(Duration::from_secs(20)),
            dial_limit: None,
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(10),
            idle_timeout: None,
            max_age: None,
            check_idle_every: Some(Duration::from_secs(30)),
            socket_options: SocketOptions::new(),
            hooks: Hooks::default(),
        }
    }

    /// Sets how long a dial may take, from the resolution of the name to the end of the session set-up. Defaults to 20
    /// s; `None` means no limit.
    ///
    /// A dial that its caller has left goes on, and ends at this limit, too.
    ///
    /// A limit needs a runtime with time enabled. Without that, each dial fails with
    /// [`GetError::Dial`](super::GetError::Dial).
    pub fn dial_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.dial_timeout = limit.into();
        self
    }

    /// Shares a limit of dials with other connections and pools: each dial of this pool waits for its turn. Defaults to
    /// none.
    ///
    /// A caller waits as for the dial itself: [`get_timeout`](super::Resource::get_timeout) has it within its limit, and a
    /// caller that leaves leaves the wait to the pool. The [`dial_timeout`](Self::dial_timeout) begins after the wait. See
    /// [`DialLimit`].
    ///
    /// ```
    /// use perconn::DialLimit;
    /// use perconn::pool::Pool;
    ///
    /// let limit = DialLimit::new(20, 100)?;
    /// let pool = Pool::builder(1_000).dial_limit(&limit).build()?;
    /// # drop(pool);
    /// # Ok::<(), perconn::Error>(())
    /// ```
    pub fn dial_limit(mut self, limit: &DialLimit) -> Self {
        self.dial_limit = Some(limit.clone());
        self
    }

    /// Sets the shortest delay between a failed dial of a resource and its next dial. Defaults to 100 ms; zero is not
    /// valid.
    ///
    /// The n-th delay in a row is random, between `retry_min` and `retry_min * 2^n`, and at most
    /// [`retry_max`](Self::retry_max). A dial that succeeds ends the row. A dialer with several addresses dials each
    /// of them once before the first delay.
    ///
    /// [The module](super#when-a-dial-fails) says what callers get during a delay.
    pub fn retry_min(mut self, delay: Duration) -> Self {
        self.retry_min = delay;
        self
    }

    /// Sets the longest delay between a failed dial of a resource and its next dial. Defaults to 10 s. Must not be below
    /// [`retry_min`](Self::retry_min).
    pub fn retry_max(mut self, delay: Duration) -> Self {
        self.retry_max = delay;
        self
    }

    /// Sets how long a connection may be idle before it is closed. Defaults to `None`: it stays open until its slot is
    /// needed.
    ///
    /// A background task closes such connections, one on each runtime in which connections are opened or given back. It
    /// needs time enabled. A connection that is given back outside of a runtime stays open until one of these tasks
    /// finds it. In any case, a connection that was idle for longer than this is not lent again.
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }

    /// Sets how old a connection may become. Defaults to `None`, no limit.
    ///
    /// Each connection has a limit of its own, which is up to a tenth lower and drawn at random when it is opened. So
    /// connections that were opened together do not all expire together.
    ///
    /// A connection that is older is not lent again. In use, it is closed when it is given back; idle, it is closed by a
    /// background task, half a percent of `max_age` later at most, or when a caller asks for it before.
    pub fn max_age(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.max_age = limit.into();
        self
    }

    /// Sets how often a background task checks the idle connections. Defaults to 30 s; `None` means that they are checked
    /// only before they are lent again.
    ///
    /// The task closes those that [would not be lent](super#what-is-never-lent), so that a socket whose peer has closed it
    /// does not stay open until its resource is asked for. A check takes a system call for a socket, and no wait. While
    /// a connection is checked, a caller of its resource waits for that moment, or gets [`GetError::Busy`](super::GetError).
    ///
    /// Each runtime in which connections are opened has one such task. The runtime needs time enabled; otherwise nothing
    /// is closed in the background.
    pub fn check_idle_every(mut self, period: impl Into<Option<Duration>>) -> Self {
        self.check_idle_every = period.into();
        self
    }

    /// Sets the options of the sockets of [`Pool::resource`], which are set before a socket connects. Defaults to none.
    ///
    /// They do not apply to a dialer of your own ([`Pool::resource_with`]).
    pub fn socket_options(mut self, options: SocketOptions) -> Self {
        self.socket_options = options;
        self
    }

    /// Sets a hook that receives an [`Event`] for each connection that is opened or closed, and for each dial that
    /// fails. Defaults to none.
    ///
    /// The task that opens, closes or dials calls the hook, so the hook must not block. A panic of the hook is caught
    /// and logged as a warning on the target `perconn`.
    ///
    /// The hook may use the pool. If the hook closes a connection, it is called again for that within its own call. If
    /// it calls [`Pool::close_idle`], the events may also follow after its own call.
    pub fn on_event(mut self, hook: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.hooks.on_event = Some(Box::new(hook));
        self
    }

    /// Makes the pool.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if the pool has no slots, a limit is zero, `retry_min` is zero or above `retry_max`, or the
    /// socket options contradict each other.
    pub fn build(mut self) -> Result<Pool, Error> {
        let invalid = |text: String| Err(Error::InvalidConfig(text));
        if self.max == 0 {
            return invalid("a pool of 0 slots: expected at least 1".into());
        }
        let times = [
            ("dial_timeout", self.dial_timeout),
            ("idle_timeout", self.idle_timeout),
            ("max_age", self.max_age),
            ("check_idle_every", self.check_idle_every),
        ];
        for (name, time) in times {
            if time == Some(Duration::ZERO) {
                return invalid(format!("{name} 0ns: expected more than zero, or None for no limit"));
            }
        }
        let (min, max) = (self.retry_min, self.retry_max);
        if min.is_zero() {
            return invalid("retry_min 0ns: expected more than zero".into());
        }
        if max < min {
            return invalid(format!("retry_max {max:?}: expected at least retry_min, which is {min:?}"));
        }
        self.socket_options.check()?;
        let is_limit = |limit: &Duration| *limit < NEVER;
        self.dial_timeout = self.dial_timeout.filter(is_limit);
        self.idle_timeout = self.idle_timeout.filter(is_limit);
        self.max_age = self.max_age.filter(is_limit);
        self.check_idle_every = self.check_idle_every.filter(is_limit);
        Ok(Pool { inner: PoolInner::new(self) })
    }
}

impl PoolBuilder {
    /// Makes the pool of this process, which [`Pool::global`] returns from now on.
    ///
    /// This works once, before anything has asked for that pool: call it at the beginning of the program.
    /// [`Pool::global_builder`] has an example.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if the pool of this process exists already, and as for [`build`](Self::build).
    pub fn build_global(self) -> Result<&'static Pool, Error> {
        let pool = self.build()?;
        if GLOBAL.set(pool).is_err() {
            return Err(Error::InvalidConfig(
                "the pool of this process exists already: set it before its first use".into(),
            ));
        }
        Ok(Pool::global())
    }
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("max", &self.max)
            .field("dial_timeout", &self.dial_timeout)
            .field("dial_limit", &self.dial_limit)
            .field("retry_min", &self.retry_min)
            .field("retry_max", &self.retry_max)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_age", &self.max_age)
            .field("check_idle_every", &self.check_idle_every)
            .field("socket_options", &self.socket_options)
            .finish_non_exhaustive()
    }
}
