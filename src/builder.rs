//! The settings of a connection.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::oneshot;

use crate::actor::{Actor, Limits};
use crate::backoff::Backoff;
use crate::conn::Tether;
use crate::hooks::Hooks;
use crate::ledger::Ledger;
use crate::link::is_type;
use crate::{Address, AndThen, Conn, Dial, Error, Event, Keepalive, SocketOptions, TcpDialer};

/// The settings of a [`Conn`]; made by [`Conn::builder`].
///
/// ```
/// use std::time::Duration;
/// use perconn::{Conn, WhenDown};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), perconn::Error> {
/// let conn = Conn::builder("metrics.example:4000")
///     .dial_timeout(Duration::from_secs(5))
///     .retry_min(Duration::from_millis(100))
///     .retry_max(Duration::from_secs(30))
///     .when_down(WhenDown::WaitFor(Duration::from_secs(10)))
///     .on_event(|event| println!("{event}"))
///     .build()?;
/// # drop(conn);
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing by itself, use `.build()` or `.connect()`"]
pub struct Builder<D = TcpDialer> {
    address: Address,
    dialer: D,
    dial_timeout: Option<Duration>,
    retry_min: Duration,
    retry_max: Duration,
    limits: Limits,
    hooks: Hooks,
    job_queue_size: usize,
    when_down: WhenDown,
    idle_timeout: Option<Duration>,
    options: SocketOptions,
    jitter_seed: Option<u64>,
}

/// What an operation does that finds no link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenDown {
    /// It waits until a link is up, however long that takes.
    #[default]
    Wait,
    /// It waits for this long at most, then it fails with [`Error::WaitTimeout`].
    ///
    /// The time runs per direction and outage, from the first operation that found no link until one was told of
    /// the timeout; a cancelled operation's wait counts.
    WaitFor(Duration),
    /// It fails at once with [`Error::Down`].
    Fail,
}

impl Builder {
    pub(crate) fn new(address: Address) -> Self {
        Self {
            dialer: TcpDialer::new(address.clone()),
            address,
            dial_timeout: Some(Duration::from_secs(20)),
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
            limits: Limits { stable_after: Duration::from_secs(10), max_retries: None, is_first_final: false },
            hooks: Hooks::default(),
            job_queue_size: 10,
            when_down: WhenDown::default(),
            idle_timeout: None,
            options: SocketOptions::default(),
            jitter_seed: None,
        }
    }
}

impl Builder {
    /// Several addresses of one service, in place of the one that the builder was made with; that one then only names the
    /// connection, and may be any text.
    ///
    /// Each dial is to one of them. A dial that fails, in its set-up too, is followed by a dial to the next in the list;
    /// after a break, the last good one comes first. See [`TcpDialer::with_addresses`].
    ///
    /// ```
    /// use perconn::Conn;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::Error> {
    /// let conn = Conn::builder("brokers").addresses(["broker-1.example:9092", "broker-2.example:9092"]).build()?;
    /// # drop(conn);
    /// # Ok(())
    /// # }
    /// ```
    pub fn addresses<A: Into<Address>>(self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.dialer(TcpDialer::with_addresses(addresses))
    }
}

impl<D> Builder<D> {
    /// The longest that one dial may take, from the resolution of the name to the end of the session set-up.
    ///
    /// Defaults to 20 seconds. `None`: no limit but the operating system's. Zero is not valid.
    pub fn dial_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.dial_timeout = limit.into();
        self
    }

    /// The shortest delay before a dial, once a dial has failed. The first redial after a
    /// [stable](Builder::stable_after) link, and the first of a connection that has had no failed dial, comes after a
    /// random part of it.
    ///
    /// Defaults to 1 second. Zero is not valid. The n-th delay in a row is random, between `retry_min` and
    /// `retry_min * 2^n`, [`retry_max`](Builder::retry_max) at most; if the two are equal, nothing is left to chance
    /// and a crowd of clients stays a crowd.
    pub fn retry_min(mut self, delay: Duration) -> Self {
        self.retry_min = delay;
        self
    }

    /// The longest delay before a dial.
    ///
    /// Defaults to 60 seconds. Must not be below [`retry_min`](Builder::retry_min). Delays stay random, between
    /// `retry_min` and this, however long the outage lasts.
    pub fn retry_max(mut self, delay: Duration) -> Self {
        self.retry_max = delay;
        self
    }

    /// How long a link must live for the delays and [`max_retries`](Builder::max_retries) to start over.
    ///
    /// Defaults to 10 seconds. A server that accepts and closes is dialed at the pace of the backoff, as one that
    /// refuses is. With zero, every link counts as stable.
    pub fn stable_after(mut self, life: Duration) -> Self {
        self.limits.stable_after = life;
        self
    }

    /// How many redials in a row, without a [stable](Builder::stable_after) link between them, are made before the
    /// actor gives up.
    ///
    /// Defaults to `None`: it never does. The first dial of a connection does not count; with `Some(0)` there is no
    /// other. After the last redial has failed, every operation fails with [`Error::GaveUp`].
    pub fn max_retries(mut self, retries: impl Into<Option<u32>>) -> Self {
        self.limits.max_retries = retries.into();
        self
    }

    /// Is told of each failed dial ([`Error::DialFailure`]), each break ([`Error::IoError`], once per link) and of
    /// giving up ([`Error::GaveUp`]).
    ///
    /// Defaults to a warning through the [`log`] crate, on the target `perconn`, with the chain of causes. Runs on the
    /// actor's task, and so on a thread of the runtime, which it must not block; a slow logger delays this connection's
    /// next link, and nothing else of it. If it panics, the panic is caught and logged.
    pub fn logger(mut self, logger: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.hooks.logger = Box::new(logger);
        self
    }

    /// Is told of each [`Event`], in order.
    ///
    /// Defaults to nothing. Runs on the actor's task, and so on a thread of the runtime, which it must not block; a slow
    /// hook delays this connection's next link, the first one included, and nothing else of it. If it panics, the panic
    /// is caught and told to the [`logger`](Builder::logger) as [`Error::HookPanicked`].
    pub fn on_event(mut self, hook: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.hooks.on_event = Some(Box::new(hook));
        self
    }

    /// How many jobs of a [`SharedConn`](crate::SharedConn) may wait in its queue; when it is full, callers wait for a
    /// place.
    ///
    /// Defaults to 10. Zero is not valid. The reads and writes of a `Conn` and its halves do not pass through a queue.
    pub fn job_queue_size(mut self, size: usize) -> Self {
        self.job_queue_size = size;
        self
    }

    /// What an operation does that finds no link.
    ///
    /// Defaults to [`WhenDown::Wait`].
    pub fn when_down(mut self, policy: WhenDown) -> Self {
        self.when_down = policy;
        self
    }

    /// Sets `TCP_NODELAY` on every link: `true` sends small writes at once.
    ///
    /// Defaults to what the operating system, or the dialer, has set. Only valid if the dialer
    /// [takes socket options](Dial::take_socket_options), or its stream is a [`TcpStream`].
    pub fn nodelay(self, nodelay: bool) -> Self {
        self.socket_options(SocketOptions::new().nodelay(nodelay))
    }

    /// Sets these [`SocketOptions`] on every link, before it connects. What was set earlier and is not in `options` stays.
    ///
    /// Only valid if the dialer [takes them](Dial::take_socket_options), or its stream is a [`TcpStream`]; in the latter
    /// case they are set after the dial, and there can be no local address.
    pub fn socket_options(mut self, options: SocketOptions) -> Self {
        self.options = options.or(self.options);
        self
    }

    /// Lets the kernel ask a peer that has been silent whether it is still there, on every link.
    ///
    /// With `keepalive(d)` the link breaks, as [`TimedOut`](io::ErrorKind::TimedOut), when nothing has been heard from
    /// the peer's machine for four times `d`; [`Keepalive`] sets the times one by one. Defaults to what the operating
    /// system, or the dialer, has set: no probes. Only valid where [`nodelay`](Builder::nodelay) is.
    ///
    /// It finds a peer whose machine or network is gone, not a program that hangs on a healthy machine. While bytes of
    /// ours are unacknowledged no probes are sent, and the kernel's patience with them (a quarter of an hour, on Linux)
    /// decides: set [`user_timeout`](Builder::user_timeout) as well, which then also takes the place of the number of
    /// probes.
    pub fn keepalive(self, keepalive: impl Into<Keepalive>) -> Self {
        self.socket_options(SocketOptions::new().keepalive(keepalive))
    }

    /// Sets `TCP_USER_TIMEOUT` on every link (RFC 5482; tcp(7)): how long written bytes may stay unacknowledged.
    ///
    /// When the time has passed, the link breaks within twice `limit` of the first byte that was not acknowledged: as
    /// [`TimedOut`](io::ErrorKind::TimedOut), or as what a router had said of the peer, such as
    /// [`HostUnreachable`](io::ErrorKind::HostUnreachable). While nothing is written, nothing is noticed; with
    /// [`keepalive`](Builder::keepalive) an idle link is, too. From 1 ms to 24 days. Defaults to what the operating
    /// system, or the dialer, has set: about a quarter of an hour on Linux.
    ///
    /// A peer that takes nothing for that long counts as dead, though its machine answers. So does one that reads slowly:
    /// when its receive buffer is full, Linux asks for more only after a good part of it has been read, which must not
    /// take longer than `limit`.
    ///
    /// Only valid where [`nodelay`](Builder::nodelay) is, and on Linux, Android and Fuchsia.
    pub fn user_timeout(self, limit: Duration) -> Self {
        self.socket_options(SocketOptions::new().user_timeout(limit))
    }

    /// How long a waiting read may receive nothing before the link counts as broken, as
    /// [`TimedOut`](io::ErrorKind::TimedOut).
    ///
    /// For protocols in which the peer sends something at intervals, a heartbeat at least. It finds a peer that hangs on
    /// a healthy machine even if nothing is written, and it works on every platform and any stream. What this side sends
    /// does not count. Defaults to none; zero is not valid. Unless a read waits, no time runs: a program that only writes
    /// never breaks a link by this.
    ///
    /// The time runs from the first wait since the last byte. A read that was cancelled may not have been the last, so its
    /// wait counts on; a read that comes back only after the time has run out gets the whole time once more.
    ///
    /// What was not acknowledged by then is not sent any more, so that it cannot arrive after the next link's bytes. (That
    /// holds for TCP on Linux. Elsewhere, and on a stream that is no socket, the kernel may go on sending it until the
    /// last handle has let go of the link.)
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }

    /// Makes the random delays repeatable, for tests: equal seeds draw equal delays.
    ///
    /// Defaults to a seed of the operating system's. Clients that share a seed redial in step.
    pub fn jitter_seed(mut self, seed: u64) -> Self {
        self.jitter_seed = Some(seed);
        self
    }

    /// Makes the links with a dialer of your own.
    ///
    /// Defaults to a [`TcpDialer`] for the address. The address given to the builder then only names the connection
    /// in errors and may be any text.
    pub fn dialer<T: Dial>(self, dialer: T) -> Builder<T> {
        self.map_dialer(|_| dialer)
    }

    /// The address that the builder was made with.
    #[cfg(feature = "tls")]
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn map_dialer<T>(self, map: impl FnOnce(D) -> T) -> Builder<T> {
        Builder {
            address: self.address,
            dialer: map(self.dialer),
            dial_timeout: self.dial_timeout,
            retry_min: self.retry_min,
            retry_max: self.retry_max,
            limits: self.limits,
            hooks: self.hooks,
            job_queue_size: self.job_queue_size,
            when_down: self.when_down,
            idle_timeout: self.idle_timeout,
            options: self.options,
            jitter_seed: self.jitter_seed,
        }
    }
}

impl<D: Dial> Builder<D> {
    /// Runs a session set-up on each fresh stream, before anyone sees it: a login, a greeting, subscriptions.
    ///
    /// Short for a [`dialer`](Builder::dialer) with [`Dial::and_then`], where more is said.
    ///
    /// ```
    /// use perconn::Conn;
    /// use tokio::io::AsyncReadExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::Error> {
    /// let conn = Conn::builder("chat.example:6667")
    ///     .and_then(|mut stream| async move {
    ///         let mut greeting = [0; 2];
    ///         stream.read_exact(&mut greeting).await?;
    ///         if greeting == *b"OK" { Ok(stream) } else { Err(std::io::Error::other("not welcome")) }
    ///     })
    ///     .build()?;
    /// # drop(conn);
    /// # Ok(())
    /// # }
    /// ```
    pub fn and_then<F, Fut, T>(self, set_up: F) -> Builder<AndThen<D, F>>
    where
        F: FnMut(D::Stream) -> Fut + Send + 'static,
        Fut: Future<Output = io::Result<T>> + Send,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.map_dialer(|dialer| dialer.and_then(set_up))
    }

    /// Checks the settings and returns at once; the actor dials in the background, until it succeeds.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if a setting cannot work, or outside of a tokio runtime.
    pub fn build(self) -> Result<Conn<D::Stream>, Error> {
        self.start(None)
    }

    /// Builds the connection and waits for the outcome of the first dial.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] as for [`build`](Builder::build); [`Error::DialFailure`] if the first dial fails,
    /// and then there is no second.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future takes its dial with it.
    pub async fn connect(mut self) -> Result<Conn<D::Stream>, Error> {
        let (outcome, first_dial) = oneshot::channel();
        self.limits.is_first_final = true;
        let conn = self.start(Some(outcome))?;
        match first_dial.await {
            Ok(Ok(())) => Ok(conn.begin()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::RuntimeShutdown),
        }
    }

    fn start(mut self, first_dial: Option<oneshot::Sender<Result<(), Error>>>) -> Result<Conn<D::Stream>, Error> {
        self.check()?;
        let options = self.hand_options_down()?;
        let runtime = runtime::Handle::try_current().map_err(|_| {
            Error::InvalidConfig("no runtime: a connection must be built within a tokio runtime".into())
        })?;
        let ledger = Arc::new(Ledger::new(self.address.to_string()));
        let actor = Actor {
            dialer: self.dialer,
            dial_timeout: self.dial_timeout,
            options,
            limits: self.limits,
            backoff: Backoff::new(self.retry_min, self.retry_max, self.jitter_seed),
            hooks: self.hooks,
            ledger: Arc::clone(&ledger),
            first_dial,
        };
        let conn = Conn::new(Tether::new::<D>(
            ledger,
            self.when_down,
            self.idle_timeout,
            self.job_queue_size,
            runtime.clone(),
        ));
        runtime.spawn(actor.run());
        Ok(conn)
    }

    fn check(&self) -> Result<(), Error> {
        let invalid = |text: String| Err(Error::InvalidConfig(text));
        self.dialer.check()?;
        if self.dial_timeout == Some(Duration::ZERO) {
            return invalid("dial_timeout 0ns: expected more than zero, or None for no limit".into());
        }
        if self.retry_min.is_zero() {
            return invalid("retry_min 0ns: expected more than zero".into());
        }
        if self.retry_max < self.retry_min {
            let (max, min) = (self.retry_max, self.retry_min);
            let defaults = "unless set, they are 1s and 60s";
            return invalid(format!("retry_max {max:?}: expected at least retry_min, which is {min:?} ({defaults})"));
        }
        let largest = u32::MAX as usize;
        if !(1..=largest).contains(&self.job_queue_size) {
            return invalid(format!("job_queue_size {}: expected 1 to {largest}", self.job_queue_size));
        }
        if self.idle_timeout == Some(Duration::ZERO) {
            return invalid("idle_timeout 0ns: expected more than zero, or None for no limit".into());
        }
        self.options.check()
    }

    /// Gives the socket options to the dialer. Returns those that are to be set after each dial.
    fn hand_options_down(&mut self) -> Result<Option<Box<SocketOptions>>, Error> {
        let Some(option) = self.options.first_name() else { return Ok(None) };
        let invalid = |text: String| Err(Error::InvalidConfig(text));
        if self.dialer.take_socket_options(&self.options) {
            return Ok(None);
        }
        if !is_type::<D::Stream, TcpStream>() {
            let stream = std::any::type_name::<D::Stream>();
            return invalid(format!(
                "{option}: expected a dialer that takes socket options or makes TcpStreams, but its stream is {stream}"
            ));
        }
        match self.options.source() {
            Some(address) => invalid(format!(
                "local_address {address}: expected a dialer that takes socket options, such as TcpDialer"
            )),
            None => Ok(Some(Box::new(self.options))),
        }
    }
}

impl<D> fmt::Debug for Builder<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("address", &self.address.as_str())
            .field("dial_timeout", &self.dial_timeout)
            .field("retry_min", &self.retry_min)
            .field("retry_max", &self.retry_max)
            .field("limits", &self.limits)
            .field("job_queue_size", &self.job_queue_size)
            .field("when_down", &self.when_down)
            .field("idle_timeout", &self.idle_timeout)
            .field("options", &self.options)
            .field("jitter_seed", &self.jitter_seed)
            .finish_non_exhaustive()
    }
}
