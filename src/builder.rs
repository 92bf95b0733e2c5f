//! The settings of a connection.

use std::future::Future;
use std::time::Duration;
use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(doc)]
use crate::Conn;
use crate::actor::Limits;
use crate::backoff::Shape;
use crate::hooks::Hooks;
use crate::{Address, AndThen, Dial, Error, Event, SocketOptions, TcpDialer, WhenDown};

mod liveness;
mod start;

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
    hooks: Hooks<Error, Event>,
    job_queue_size: usize,
    when_down: WhenDown,
    idle_timeout: Option<Duration>,
    options: SocketOptions,
    jitter_seed: Option<u64>,
    delays: Shape,
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
            delays: Shape::Spread,
        }
    }
}

impl Builder {
    /// Several addresses of one service, in place of the one that the builder was made with; that one then only names the
    /// connection, and may be any text.
    ///
    /// Each dial is to one of them. A dial that fails, in its set-up too, is followed by a dial to the next in the list;
    /// after a break, the last good one comes first. ([`connect`](Builder::connect) waits for the first dial only, to the
    /// first address; [`build`](Builder::build) and [`connected`](crate::Conn::connected) go on to the others.) See
    /// [`TcpDialer::with_addresses`].
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
    ///
    /// If the program's log itself is sent over this connection, the default would write to it from the task on which its
    /// redial depends, and could wait for ever, say for a lock: give such a connection a logger that does not, `|_| {}`.
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

    /// Makes the random delays repeatable, for tests: equal seeds draw equal delays.
    ///
    /// Defaults to a seed of the operating system's. Clients that share a seed redial in step.
    pub fn jitter_seed(mut self, seed: u64) -> Self {
        self.jitter_seed = Some(seed);
        self
    }

    /// The delays of a client to which each moment counts.
    #[cfg(feature = "postgres")]
    pub(crate) fn eager(mut self) -> Self {
        self.delays = Shape::Eager;
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
    #[cfg(any(feature = "blocking", feature = "tls"))]
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// What [`when_down`](Builder::when_down) was set to.
    #[cfg(feature = "blocking")]
    pub(crate) fn policy(&self) -> WhenDown {
        self.when_down
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
            delays: self.delays,
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
