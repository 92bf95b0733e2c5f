//! The settings of a listener.
//!
//! Next: [`start`](super::start), which checks and uses them.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use super::attempt_config::ConfigSource;
use super::hooks::Hooks;
use super::{Error, Event, Listener, ListenerConn, ServerConfig, WhenFull};
use crate::dial::BoxedDialer;
use crate::{Dial, DialLimit};

/// The settings of a [`Listener`]; made by [`Listener::builder`].
///
/// ```
/// use std::time::Duration;
/// use perconn::postgres::{Listener, WhenFull};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), perconn::postgres::Error> {
/// let listener = Listener::builder("postgres://agent@db.example/orders")
///     .retry_min(Duration::from_secs(1)) // a thousand copies of this program run
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
    /// Hosts, login and `sslmode`. A text is parsed by `build`, so a malformed one is its error.
    pub(super) config: ServerConfig,
    /// The shortest delay after a failed attempt. Defaults to 30 ms; not zero.
    pub(super) retry_min: Duration,
    /// The longest delay. Defaults to 700 ms; not below `retry_min`.
    pub(super) retry_max: Duration,
    /// The longest delay while time alone does not help. Defaults to 60 s; not below `retry_max`. `None`: the default.
    pub(super) hopeless_retry_max: Option<Duration>,
    /// Asked for the configuration of each attempt. `None`: `config` is that of all.
    pub(super) config_source: Option<ConfigSource>,
    /// The limit of one attempt at all hosts, with login and `LISTEN`s. Defaults to 20 s; `None`: no limit.
    pub(super) dial_timeout: Option<Duration>,
    /// A limit shared with other connections. Defaults to none.
    pub(super) dial_limit: Option<DialLimit>,
    /// How long a connection must live for delays and retries to start over. Defaults to 10 s.
    pub(super) stable_after: Duration,
    /// Attempts in a row before it gives up. Defaults to `None`: it never does.
    pub(super) max_retries: Option<u32>,
    /// How many notifications wait for the reader; markers do not count. Defaults to 1024; not zero.
    pub(super) queue: usize,
    /// What happens to notifications when the queue is full. Defaults to waiting; `connect_once` always waits.
    pub(super) when_full: WhenFull,
    /// Whether the reader gets [`Message::Listening`](super::Message::Listening). Defaults to no.
    pub(super) report_listening: bool,
    /// How long the server may be silent, or this side, before it is asked. Defaults to 60 s; `None`: never.
    pub(super) heartbeat: Option<Duration>,
    /// How long an answer to a heartbeat or a `ping` may take. Defaults to 10 s; not zero.
    pub(super) ping_timeout: Duration,
    /// What people call the listener.
    pub(super) name: Option<String>,
    /// The logger and the event hook of the listener, not those of the core connection below.
    pub(super) hooks: Hooks,
    /// Replaces the hosts, TLS and the socket options of the configuration. `None`: these apply.
    pub(super) dialer: Option<BoxedDialer>,
    /// Used over TCP, as `sslmode` says. `None`: plain text.
    #[cfg(feature = "tls")]
    pub(super) tls: Option<crate::Tls>,
}

impl ListenerBuilder {
    /// The default settings for this server.
    pub(super) fn new(config: ServerConfig) -> Self {
        Self {
            config,
            retry_min: Duration::from_millis(30),
            retry_max: Duration::from_millis(700),
            hopeless_retry_max: None,
            config_source: None,
            dial_timeout: Some(Duration::from_secs(20)),
            dial_limit: None,
            stable_after: Duration::from_secs(10),
            max_retries: None,
            queue: 1024,
            when_full: WhenFull::Wait,
            report_listening: false,
            heartbeat: Some(Duration::from_secs(60)),
            ping_timeout: Duration::from_secs(10),
            name: None,
            hooks: Hooks::default(),
            dialer: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Names the listener in spans and metrics; see [`Builder::name`](crate::Builder::name). Defaults to none.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The shortest delay before an attempt, after an attempt has failed.
    ///
    /// Defaults to 30 milliseconds: a program has few listeners, and notifications are late for as long as a listener
    /// is away. If many programs listen to one server, set both delays to what the server can bear. Zero is not
    /// valid.
    ///
    /// The first attempt after the loss of a [stable](ListenerBuilder::stable_after) connection comes after a random
    /// part of `retry_min`. The first delays after failed attempts are random, between `retry_min` and twice as long: three
    /// of them, or as many as [`retry_max`](ListenerBuilder::retry_max) fits into 0.7 seconds, fifty at most. Then both ends
    /// of that window grow 2.5-fold each time: the upper end up to `retry_max`, the lower end up to half of it.
    pub fn retry_min(mut self, delay: Duration) -> Self {
        self.retry_min = delay;
        self
    }

    /// The longest delay before an attempt.
    ///
    /// Defaults to 700 milliseconds. Must not be below [`retry_min`](ListenerBuilder::retry_min). With the defaults
    /// there are about six attempts in the first second of an outage, and two in each later second.
    pub fn retry_max(mut self, delay: Duration) -> Self {
        self.retry_max = delay;
        self
    }

    /// The longest delay while attempts fail for a reason that time alone does not mend: a wrong password, a user that may not
    /// log in, a database that does not exist; see [`Error::is_hopeless`].
    ///
    /// Defaults to 60 seconds, or to [`retry_max`](ListenerBuilder::retry_max) if that is longer. Must not be below it. The
    /// delays grow up to this limit in about a dozen attempts. The [`logger`](ListenerBuilder::logger) gets the first such
    /// failure in a row; [`Event::AttemptFailed`] counts them.
    pub fn hopeless_retry_max(mut self, delay: Duration) -> Self {
        self.hopeless_retry_max = Some(delay);
        self
    }

    /// Asks a function for the configuration of each attempt: for passwords that expire (tokens of a cloud provider, leases of
    /// a vault), and for hosts that are found out anew.
    ///
    /// It is called when an attempt begins, also for the first one, and its time counts towards the limit of the attempt. Its
    /// error is a failed attempt, and so is a panic. The configuration that the builder was made with is checked by
    /// [`build`](ListenerBuilder::build), and not used. With a [dialer](ListenerBuilder::dialer) of your own, only the settings
    /// of the session apply.
    ///
    /// ```no_run
    /// use perconn::postgres::Listener;
    /// use perconn::postgres::tokio_postgres::Config;
    ///
    /// # async fn token() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// # async fn example() -> Result<(), perconn::postgres::Error> {
    /// let mut config = Config::new();
    /// config.host("db.example").user("agent").dbname("orders");
    /// let listener = Listener::builder(&config)
    ///     .config_for_each_attempt(move || {
    ///         let mut config = config.clone();
    ///         async move {
    ///             config.password(token().await?);
    ///             Ok::<_, std::io::Error>(config)
    ///         }
    ///     })
    ///     .connect()
    ///     .await?;
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// ```
    pub fn config_for_each_attempt<F, T, C, E>(mut self, source: F) -> Self
    where
        F: FnMut() -> T + Send + 'static,
        T: Future<Output = Result<C, E>> + Send + 'static,
        C: Into<ServerConfig>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.config_source = Some(ConfigSource::new(source));
        self
    }

    /// Whether the reader gets [`Message::Listening`](super::Message::Listening) for each channel that is listened to for the
    /// first time.
    ///
    /// Defaults to no. With it, a program has one place where it looks up what notifications would have reported:
    ///
    /// ```no_run
    /// use perconn::postgres::{Listener, Message};
    ///
    /// # async fn load_orders() {}
    /// # async fn example() -> Result<(), perconn::postgres::Error> {
    /// let builder = Listener::builder("postgres://agent@db.example/orders").report_listening(true);
    /// let mut listener = builder.connect().await?;
    /// listener.listen("orders").await?;
    /// loop {
    ///     match listener.recv().await? {
    ///         Message::Notification(order) => println!("{}", order.payload()),
    ///         Message::Listening { .. } | Message::Resynced { .. } | Message::Dropped { .. } => load_orders().await,
    ///         _ => {}
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// In a full queue that [drops](WhenFull::Drop), it counts as dropped.
    pub fn report_listening(mut self, is_reported: bool) -> Self {
        self.report_listening = is_reported;
        self
    }

    /// The time limit of one attempt: the dial, TLS, the login, and the `LISTEN` of all channels.
    ///
    /// Defaults to 20 seconds. `None`: no limit. Zero is not valid. One attempt tries all hosts, and each host gets
    /// an equal part of the remaining time. Of more than 1,000 channels, each further thousand has the part of its host
    /// again: a server that goes on answering has the time that it needs.
    pub fn dial_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.dial_timeout = limit.into();
        self
    }

    /// Shares a limit of dials with other connections and listeners: each attempt waits for its turn.
    ///
    /// Defaults to none. An attempt is one dial, however many hosts it tries; its
    /// [time limit](ListenerBuilder::dial_timeout) begins after the wait. See [`DialLimit`].
    pub fn dial_limit(mut self, limit: &DialLimit) -> Self {
        self.dial_limit = Some(limit.clone());
        self
    }

    /// How long a connection must live before the delays and [`max_retries`](ListenerBuilder::max_retries) start over.
    ///
    /// Defaults to 10 seconds. With several hosts, the attempt after a shorter connection begins with the next host.
    /// With zero, every connection that completes the login counts as stable.
    pub fn stable_after(mut self, life: Duration) -> Self {
        self.stable_after = life;
        self
    }

    /// How many attempts the listener makes in a row before it gives up.
    ///
    /// Defaults to `None`: it never gives up. The attempts are counted after a loss, or after the first attempt. A
    /// [stable](ListenerBuilder::stable_after) connection starts the count over.
    pub fn max_retries(mut self, retries: impl Into<Option<u32>>) -> Self {
        self.max_retries = retries.into();
        self
    }

    /// How many notifications the queue holds for the reader. Defaults to 1,024. Zero is not valid.
    ///
    /// Markers do not count. The queue holds the markers of up to 32 losses, whatever
    /// [`when_full`](ListenerBuilder::when_full) says. While it holds that many, no attempt is made, and calls that
    /// wait for the server end with [`Error::Backlog`].
    pub fn queue(mut self, size: usize) -> Self {
        self.queue = size;
        self
    }

    /// What happens to notifications when the queue is full. Defaults to [`WhenFull::Wait`].
    pub fn when_full(mut self, policy: WhenFull) -> Self {
        self.when_full = policy;
        self
    }

    /// Sends an empty query when nothing has arrived from the server for this long, or when this side has sent nothing.
    ///
    /// If then nothing arrives within [`ping_timeout`](ListenerBuilder::ping_timeout), the connection is dropped, as
    /// [`Error::Silent`]. Defaults to 60 seconds. `None`: never. Zero is not valid.
    ///
    /// Only *arriving* bytes are a sign of life, and a part of a message is enough. No time runs while this side does not read
    /// because the queue is full, or while the server works on a [statement](Listener::simple_query) of the program. A
    /// busy listener asks, too, as the server's `idle_session_timeout` counts from what it receives: keep the heartbeat
    /// below that. Behind a pooler, the query asks whether the session is still the same; see
    /// [`Error::SessionNotKept`].
    pub fn heartbeat(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.heartbeat = interval.into();
        self
    }

    /// How long the listener waits for an answer to a heartbeat or a [`ping`](Listener::ping).
    ///
    /// Defaults to 10 seconds. Zero is not valid.
    pub fn ping_timeout(mut self, limit: Duration) -> Self {
        self.ping_timeout = limit;
        self
    }

    /// Sets the logger. It receives each failed attempt ([`Error::Connect`]), each loss ([`Error::Lost`],
    /// [`Error::Silent`]), the end of the retries ([`Error::GaveUp`]), new TLS files that are not usable
    /// (`Error::CertificatesKept`), a pooler in the way ([`Error::SessionNotKept`]), and a panic of the event hook
    /// ([`Error::HookPanicked`]). Of [hopeless](Error::is_hopeless) attempts in a row, it receives the first.
    ///
    /// Defaults to a warning through the [`log`] crate, on the target `perconn`, with the chain of causes, from [a
    /// thread of its own](crate::Builder::logger).
    ///
    /// A logger that you set runs on a thread of the runtime and must not block. A panic in it is caught, and logged as
    /// such a warning.
    pub fn logger(mut self, logger: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.hooks.logger = Some(Box::new(move |error| logger(error)));
        self
    }

    /// Sets the event hook. It receives each [`Event`], in order.
    ///
    /// When it runs, [`is_connected`](Listener::is_connected), [`generation`](Listener::generation) and
    /// [`status`](Listener::status) show the state after the event.
    ///
    /// Defaults to none. It runs on a thread of the runtime and must not block; a slow hook delays this listener. A
    /// panic in it is caught, and given to the [`logger`](ListenerBuilder::logger) as [`Error::HookPanicked`].
    pub fn on_event(mut self, hook: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.hooks.on_event = Some(Box::new(hook));
        self
    }

    /// Speaks TLS with these settings, as the `sslmode` of the configuration says.
    ///
    /// `disable` means never, `prefer` (the default of tokio-postgres) means if the server does, `require` means
    /// always. Without these settings there is no TLS, and `require` is an error of `build()`; a connection string that asks
    /// for a verified server (`sslmode=verify-full`, `sslrootcert`, `channel_binding=require`) needs none. With both, the roots
    /// of both count.
    ///
    /// The files of the settings are read again at each attempt. The server's certificate is verified in every mode,
    /// for the name of the host or for the [`server_name`](crate::Tls::server_name) of the settings. With `prefer`, an
    /// attacker in the network can turn TLS off. There is no TLS on Unix sockets. A [dialer](ListenerBuilder::dialer)
    /// of your own must speak TLS itself.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls(mut self, tls: crate::Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Makes the connections with a dialer of your own.
    ///
    /// It replaces the hosts, the ports, TLS and the socket options of the configuration. If it has several
    /// [addresses](Dial::addresses), each attempt is at one of them, and [`connect`](ListenerBuilder::connect) makes one
    /// attempt at each until one succeeds. Errors then name the address as the host.
    pub fn dialer(mut self, dialer: impl Dial) -> Self {
        self.dialer = Some(BoxedDialer::new(dialer));
        self
    }

    /// Checks the settings and returns at once. A task connects in the background, until it succeeds.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if a setting is invalid, or if it is called outside of a tokio runtime.
    pub fn build(self) -> Result<Listener, Error> {
        Listener::start(self)
    }

    /// Builds the listener and waits for the outcome of the first attempt.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] as for [`build`](ListenerBuilder::build); [`Error::Connect`] if the first attempt
    /// fails, for example because of a wrong password. Then there is no second attempt.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future ends its attempt.
    pub async fn connect(self) -> Result<Listener, Error> {
        Listener::start_and_wait(self).await
    }

    /// Makes a single connection, which does not reconnect; see [`ListenerConn`].
    ///
    /// A full queue always waits, whatever [`when_full`](ListenerBuilder::when_full) says.
    ///
    /// # Errors
    ///
    /// As for [`connect`](ListenerBuilder::connect).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future ends its attempt.
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
            .field("dial_limit", &self.dial_limit)
            .field("stable_after", &self.stable_after)
            .field("max_retries", &self.max_retries)
            .field("queue", &self.queue)
            .field("when_full", &self.when_full)
            .field("heartbeat", &self.heartbeat)
            .field("ping_timeout", &self.ping_timeout)
            .finish_non_exhaustive()
    }
}
