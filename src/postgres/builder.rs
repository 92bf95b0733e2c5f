//! The settings of a listener.

use std::fmt;
use std::time::Duration;

use super::hooks::Hooks;
use super::{Error, Event, Listener, ListenerConn, ServerConfig, WhenFull};
use crate::Dial;
use crate::dial::BoxedDialer;

/// The settings of a [`Listener`]; made by [`Listener::builder`].
///
/// ```
/// use std::time::Duration;
/// use perconn::postgres::{Listener, WhenFull};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), perconn::postgres::Error> {
/// let listener = Listener::builder("postgres://agent@db.example/orders")
///     .retry_min(Duration::from_secs(1)) // there are a thousand of these programs
///     .retry_max(Duration::from_secs(60))
///     .heartbeat(Duration::from_secs(20))
///     .when_full(WhenFull::Drop)
///     .on_event(|event| println!("{event}"))
///     .build()?;
/// # drop(listener);
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing by itself, use `.build()` or `.connect()`"]
pub struct ListenerBuilder {
    pub(super) config: ServerConfig,
    pub(super) retry_min: Duration,
    pub(super) retry_max: Duration,
    pub(super) dial_timeout: Option<Duration>,
    pub(super) stable_after: Duration,
    pub(super) max_retries: Option<u32>,
    pub(super) queue: usize,
    pub(super) when_full: WhenFull,
    pub(super) heartbeat: Option<Duration>,
    pub(super) ping_timeout: Duration,
    pub(super) hooks: Hooks,
    pub(super) dialer: Option<BoxedDialer>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<crate::Tls>,
}

impl ListenerBuilder {
    pub(super) fn new(config: ServerConfig) -> Self {
        Self {
            config,
            retry_min: Duration::from_millis(30),
            retry_max: Duration::from_millis(700),
            dial_timeout: Some(Duration::from_secs(20)),
            stable_after: Duration::from_secs(10),
            max_retries: None,
            queue: 1024,
            when_full: WhenFull::Wait,
            heartbeat: Some(Duration::from_secs(60)),
            ping_timeout: Duration::from_secs(10),
            hooks: Hooks::default(),
            dialer: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The shortest delay before an attempt, once one has failed. The first attempt after the loss of a
    /// [stable](ListenerBuilder::stable_after) connection comes after a random part of it.
    ///
    /// Defaults to 30 milliseconds: a program has few listeners, and what they tell of is late for as long as they are away.
    /// Where many programs listen to one server, set both delays as to what it can bear. Zero is not valid.
    ///
    /// The first three delays are random, between `retry_min` and twice as long. Then both ends of that window grow
    /// 2.5-fold each time, as far as [`retry_max`](ListenerBuilder::retry_max) and the half of it.
    pub fn retry_min(mut self, delay: Duration) -> Self {
        self.retry_min = delay;
        self
    }

    /// The longest delay before an attempt. With the defaults there are about six in the first second of an outage, and two in
    /// each one after it.
    ///
    /// Defaults to 700 milliseconds. Must not be below [`retry_min`](ListenerBuilder::retry_min).
    pub fn retry_max(mut self, delay: Duration) -> Self {
        self.retry_max = delay;
        self
    }

    /// The longest that one attempt may take: the dial, TLS, the login, and the `LISTEN` of all channels.
    ///
    /// Defaults to 20 seconds. `None`: no limit. Zero is not valid. If there are several hosts, they are tried in one attempt,
    /// and each gets an equal part of the time that is left.
    pub fn dial_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.dial_timeout = limit.into();
        self
    }

    /// How long a connection must live for the delays and [`max_retries`](ListenerBuilder::max_retries) to start over.
    ///
    /// Defaults to 10 seconds. With zero, every connection that got through the login counts.
    pub fn stable_after(mut self, life: Duration) -> Self {
        self.stable_after = life;
        self
    }

    /// How many attempts in a row, without a [stable](ListenerBuilder::stable_after) connection between them, are made
    /// after a loss, or after the first attempt, before the listener gives up.
    ///
    /// Defaults to `None`: it never does.
    pub fn max_retries(mut self, retries: impl Into<Option<u32>>) -> Self {
        self.max_retries = retries.into();
        self
    }

    /// How many notifications are held for the reader. Defaults to 1,024. Zero is not valid.
    ///
    /// Markers are held beside them, those of 32 losses at most. While a reader leaves as many untaken, whatever
    /// [`when_full`](ListenerBuilder::when_full) says, no attempt is made, and what waits for the server ends with
    /// [`Error::Backlog`].
    pub fn queue(mut self, size: usize) -> Self {
        self.queue = size;
        self
    }

    /// What happens when the queue is full. Defaults to [`WhenFull::Wait`].
    pub fn when_full(mut self, policy: WhenFull) -> Self {
        self.when_full = policy;
        self
    }

    /// Asks the server whether it is there when nothing has come from it for so long. If then nothing comes within
    /// [`ping_timeout`](ListenerBuilder::ping_timeout), the connection is given up, as [`Error::Silent`].
    ///
    /// Defaults to 60 seconds. `None`: never. Zero is not valid. Only what *comes in* counts, be it a part of a message. While
    /// this side does not read, as the queue is full, no time runs.
    pub fn heartbeat(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.heartbeat = interval.into();
        self
    }

    /// How long an answer to a heartbeat or a [`ping`](Listener::ping) is waited for. Defaults to 10 seconds. Zero is not
    /// valid.
    pub fn ping_timeout(mut self, limit: Duration) -> Self {
        self.ping_timeout = limit;
        self
    }

    /// Is told of each failed attempt ([`Error::Connect`]), each loss ([`Error::Lost`], [`Error::Silent`]) and of giving up
    /// ([`Error::GaveUp`]).
    ///
    /// Defaults to a warning through the [`log`] crate, on the target `perconn`, with the chain of causes. It must not block.
    /// A panic in it is caught and logged.
    pub fn logger(mut self, logger: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.hooks.logger = Box::new(logger);
        self
    }

    /// Is told of each [`Event`], in order.
    ///
    /// Defaults to nothing. It runs on a thread of the runtime and must not block; a slow hook delays this listener. A panic
    /// in it is caught and logged.
    pub fn on_event(mut self, hook: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.hooks.on_event = Some(Box::new(hook));
        self
    }

    /// Speaks TLS with these settings, as the `sslmode` of the configuration has it: `disable` never, `prefer` (the default
    /// of tokio-postgres) if the server does, `require` always.
    ///
    /// Defaults to none: then `require` is an error of `build()`. The server's certificate is verified in every mode, for
    /// the host's name, or the [`server_name`](crate::Tls::server_name) of the settings. With `prefer`, an attacker on the way can
    /// make the connection one without TLS. On sockets of the Unix domain there is no TLS. A
    /// [dialer](ListenerBuilder::dialer) of your own sees to TLS itself.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls(mut self, tls: crate::Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Makes the connections with a dialer of your own, in place of the hosts, ports, TLS and socket settings of the configuration.
    pub fn dialer(mut self, dialer: impl Dial) -> Self {
        self.dialer = Some(BoxedDialer::new(dialer));
        self
    }

    /// Checks the settings and returns at once; a task connects in the background, until it succeeds.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if a setting cannot work, or outside of a tokio runtime.
    pub fn build(self) -> Result<Listener, Error> {
        Listener::start(self)
    }

    /// Builds the listener and waits for the outcome of the first attempt.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] as for [`build`](ListenerBuilder::build); [`Error::Connect`] if the first attempt fails, be
    /// it for a wrong password, and then there is no second.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future takes its attempt with it.
    pub async fn connect(self) -> Result<Listener, Error> {
        Listener::start_and_wait(self).await
    }

    /// Makes one connection that does not come back; see [`ListenerConn`]. Of the queue, what is full always waits.
    ///
    /// # Errors
    ///
    /// As [`connect`](ListenerBuilder::connect).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future takes its attempt with it.
    pub async fn connect_once(self) -> Result<ListenerConn, Error> {
        ListenerConn::start(self).await
    }
}

impl fmt::Debug for ListenerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerBuilder")
            .field("config", &self.config)
            .field("retry_min", &self.retry_min)
            .field("retry_max", &self.retry_max)
            .field("dial_timeout", &self.dial_timeout)
            .field("stable_after", &self.stable_after)
            .field("max_retries", &self.max_retries)
            .field("queue", &self.queue)
            .field("when_full", &self.when_full)
            .field("heartbeat", &self.heartbeat)
            .field("ping_timeout", &self.ping_timeout)
            .finish_non_exhaustive()
    }
}
