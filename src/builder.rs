//! The settings of a connection.
//!
//! `retry` has the settings of the redials, `socket` those of the sockets, `names` those of names, `limit` that of dials; `build`
//! checks all of them and starts the connection. Next:
//! [`Builder::build`], in `builder/build.rs`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(doc)]
use crate::Conn;
use crate::actor::Limits;
use crate::hooks::Hooks;
use crate::{Address, AndThen, Dial, DialLimit, Error, Event, SocketOptions, TcpDialer, WhenDown};

use self::retry::RetrySettings;

mod build;
mod limit;
mod names;
mod retry;
mod socket;

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
#[doc(alias("reconnect", "auto_reconnect", "options", "config", "settings"))]
pub struct Builder<D = TcpDialer> {
    /// What the default dialer dials; with another dialer, only a name for errors.
    address: Address,
    /// What people call the connection.
    name: Option<Arc<str>>,
    /// Makes the links. Defaults to TCP to `address`.
    dialer: D,
    /// A limit shared with other connections. Defaults to none.
    dial_limit: Option<DialLimit>,
    /// The limit of one dial, with its session set-up. Defaults to 20 s; `None`: no limit.
    dial_timeout: Option<Duration>,
    /// Whether a dial follows a failure, and after which delay.
    retries: RetrySettings,
    /// When links count as stable, and when to give up. `connect` limits the first dials.
    limits: Limits,
    /// The logger and the event hook; moved to the actor, which calls them.
    hooks: Hooks<Error, Event>,
    /// How many jobs of a `SharedConn` may wait. Defaults to 10; from 1 to 2^32 - 1.
    job_queue_size: usize,
    /// How long the jobs of a `SharedConn` wait on the link after a short one. Defaults to zero.
    settle_time: Duration,
    /// What an operation does without a link. Defaults to waiting.
    when_down: WhenDown,
    /// Whether a read reports the peer's close as an error. Defaults to false: it returns `Ok(0)`.
    close_as_error: bool,
    /// How long a waiting read may receive nothing before the link breaks. Defaults to `None`: no limit.
    idle_timeout: Option<Duration>,
    /// For the dialer to set; or for the actor, if the dialer takes none and makes `TcpStream`s.
    options: SocketOptions,
}

impl Builder {
    /// The defaults, which the docs of each setting name.
    pub(crate) fn new(address: Address) -> Self {
        Self {
            dialer: TcpDialer::new(address.clone()),
            name: None,
            address,
            dial_limit: None,
            dial_timeout: Some(Duration::from_secs(20)),
            retries: RetrySettings::default(),
            limits: Limits { stable_after: Duration::from_secs(10), max_retries: None, first_dials: None },
            hooks: Hooks::default(),
            job_queue_size: 10,
            settle_time: Duration::ZERO,
            when_down: WhenDown::default(),
            close_as_error: false,
            idle_timeout: None,
            options: SocketOptions::default(),
        }
    }
}

impl Builder {
    /// Dials several addresses of one service instead of the builder's own address.
    ///
    /// The address that the builder was made with then only names the connection in errors, and may be any text.
    ///
    /// Each dial is to one of them. After a failed dial or a failed set-up, the next dial is to the next address in the
    /// list, and so it is after a link that ended before [`stable_after`](Builder::stable_after), for whatever reason. The
    /// delays between the dials grow as usual, so it takes some time to get past addresses that are down. After a break of
    /// a stable link, its address comes first. [`connect`](Builder::connect) dials each address once, without a delay,
    /// until one dial succeeds. See [`TcpDialer::with_addresses`].
    ///
    /// The source of an [`Error::DialFailure`] is then an error whose text is the address of this dial, and whose own
    /// source is the reason. In one line: `dial 3 to brokers failed: broker-2.example:9092: connection refused`.
    ///
    /// An empty list is not valid. Defaults to the address that the builder was made with.
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
    #[doc(alias("failover", "cluster", "hosts"))]
    pub fn addresses<A: Into<Address>>(self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.map_dialer(|dialer| dialer.replace_addresses(addresses))
    }
}

impl<D> Builder<D> {
    /// How long one dial may take, from the resolution of the name to the end of the session set-up.
    ///
    /// Defaults to 20 seconds. `None` sets no limit but that of the operating system. Zero is not valid.
    #[doc(alias("connect_timeout", "connection_timeout", "timeout"))]
    pub fn dial_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.dial_timeout = limit.into();
        self
    }

    /// After a link that broke before it was [stable](Builder::stable_after): how long the next one must have been up
    /// before a [`SharedConn`](crate::SharedConn) sends jobs on it.
    ///
    /// Defaults to zero: jobs are sent at once. A load balancer without a backend accepts each connection and closes it a
    /// moment later, and what was written in that moment is lost. Set this to more than that moment, such as one second.
    /// Jobs wait in the queue meanwhile. After a link that the program broke itself they do not. Nothing else waits: not a
    /// read, and not the write of a [`Conn`](crate::Conn).
    ///
    /// Jobs are sent at once on the first link, and on the first one after a stable link: what is sent there can be lost. For
    /// jobs, a link that is settling counts as none: [`when_down`](Builder::when_down) says how long they wait. It is up for
    /// everything else, also for `connected()`: with [`WhenDown::Fail`](crate::WhenDown::Fail), pause before you try again.
    ///
    /// ```
    /// use std::time::Duration;
    /// # fn build(address: &str) -> Result<(), perconn::Error> {
    /// let conn = perconn::Conn::builder(address).settle_time(Duration::from_secs(1)).build()?.into_shared();
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("balancer", "warm_up", "probation"))]
    pub fn settle_time(mut self, time: Duration) -> Self {
        self.settle_time = time;
        self
    }

    /// Names the connection, for people: in its errors, log lines, `Debug`, and in spans and metrics.
    ///
    /// Errors and lines then say `billing-db (10.0.0.1:5432)` where they say `10.0.0.1:5432` without a name. Defaults to none.
    /// Not valid if empty. Two connections may have the same name.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let error = perconn::Conn::builder("127.0.0.1:1").name("billing-db").connect().await.unwrap_err();
    /// assert_eq!(error.to_string(), "dial 1 to billing-db (127.0.0.1:1) failed");
    /// # }
    /// ```
    #[doc(alias("label", "tag", "client_name"))]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into().into());
        self
    }

    /// Calls `logger` for each failed dial ([`Error::DialFailure`]), once for each break ([`Error::IoError`]), when the
    /// actor gives up ([`Error::GaveUp`]), and for the warnings of the dialer ([`Dial::take_warning`]), such as TLS
    /// files that are not usable any more.
    ///
    /// Defaults to a warning through the [`log`] crate, on the target `perconn`, with the chain of causes. In a long outage
    /// it writes fewer lines: one for each of the first five failures, then at most one a minute, and the pause doubles up
    /// to an hour. A line says how many failures before it have none. Once the link is back, a line at the level `info` says so.
    /// Your own logger gets every failure.
    ///
    /// One thread of the process, `perconn-log`, writes these warnings and all other lines of this crate. So the
    /// program can send its log over this connection: a line that waits for a link, or for a lock of the program, delays
    /// no dial. Then each failed dial makes one more line to send over the next link.
    ///
    /// The thread starts with a line and ends after ten idle seconds. If 1,024 lines wait, further ones are dropped, and
    /// a warning says how many. Lines that still wait when the process exits are lost. A program that ends right after a
    /// failure should log the error that [`connect`](Builder::connect) or the operation has returned.
    ///
    /// A logger that you set runs on the actor's task, on a thread of the runtime: it must not block. A slow logger
    /// delays the next link of this connection, and nothing else. It must not log over this connection; hand the lines
    /// to another task or thread. (The logger of a `blocking::Conn` may do both.) A panic of the logger is caught and
    /// logged.
    #[doc(alias("log", "on_error"))]
    pub fn logger(mut self, logger: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.hooks.logger = Some(Box::new(move |error| logger(error)));
        self
    }

    /// Calls `hook` for each [`Event`], in order.
    ///
    /// Defaults to none. The hook runs on the actor's task, on a thread of the runtime: it must not block. A slow hook
    /// delays the next link of this connection, the first one included, and nothing else. A panic of the hook is
    /// caught, and the [`logger`](Builder::logger) gets an [`Error::HookPanicked`].
    ///
    /// The hook of a `blocking::Conn` may block. It runs on a thread of its own, and so an event can come after an
    /// operation has used the new link.
    #[doc(alias("callback", "metrics", "on_reconnect", "on_disconnect", "on_connected"))]
    pub fn on_event(mut self, hook: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.hooks.on_event = Some(Box::new(hook));
        self
    }

    /// How many jobs of a [`SharedConn`](crate::SharedConn) fit into its queue. When it is full, a write waits for a
    /// free slot.
    ///
    /// Defaults to 10; from 1 to 2^32 - 1. Jobs count, whatever their size: the queue owns up to this many times the bytes
    /// of your largest job. The reads and writes of a `Conn` and its halves use no queue.
    #[doc(alias("capacity", "backpressure", "buffer_size"))]
    pub fn job_queue_size(mut self, size: usize) -> Self {
        self.job_queue_size = size;
        self
    }

    /// What an operation does when there is no link.
    ///
    /// Defaults to [`WhenDown::Wait`].
    #[doc(alias("fail_fast", "offline", "outage"))]
    pub fn when_down(mut self, policy: WhenDown) -> Self {
        self.when_down = policy;
        self
    }

    /// Sets whether a read reports the peer's close as an error instead of by `Ok(0)`.
    ///
    /// The error is an [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) with an [`Error::IoError`] inside, which has the
    /// generation. After a shutdown of your own, the end is what you have asked for, and stays `Ok(0)`.
    ///
    /// - `true` if you read lines, frames or fixed lengths: with `read_line`, `lines`, `read_exact`, a decoder. There the
    ///   end of a link is a break like any other. As `Ok(0)` it would end a loop over `lines()`, turn half a line into
    ///   a whole one, and lose its generation in `read_exact`.
    /// - `false`, the default, if the peer ends each message by closing, so that `read_to_end` gets it whole, and for code
    ///   that treats `Ok(0)` as a `TcpStream`'s end.
    ///
    /// It applies to the reads of a `Conn`, its halves, a [`SharedConn`](crate::SharedConn) and a blocking connection.
    /// [`Sessions`](crate::Sessions) and `codec` do not need it: a session ends like a `TcpStream`, and a `Framed` yields
    /// each break as an item.
    ///
    /// ```
    /// use perconn::{Conn, Error};
    /// use tokio::io::AsyncReadExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let address = server.local_addr()?;
    /// # tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut server.accept().await?.0, b"1").await });
    /// let mut conn = Conn::builder(address).close_as_error(true).connect().await?;
    /// let error = conn.read_exact(&mut [0; 4]).await.unwrap_err(); // the peer closed after one byte
    /// assert_eq!(Error::of(&error).and_then(Error::generation), Some(1));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("eof", "unexpected_eof", "read_line", "lines"))]
    pub fn close_as_error(mut self, is_error: bool) -> Self {
        self.close_as_error = is_error;
        self
    }

    /// Makes the links with your own dialer.
    ///
    /// The address given to the builder then only names the connection in errors, and may be any text. (With
    /// `Builder::tls`, it also names the server of a dialer without [`addresses`](Dial::addresses).) Defaults to a
    /// [`TcpDialer`] for the address.
    #[doc(alias("connector", "transport", "proxy"))]
    pub fn dialer<T: Dial>(self, dialer: T) -> Builder<T> {
        self.map_dialer(|_| dialer)
    }

    /// The name and the address, for errors.
    pub(crate) fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("{name} ({})", self.address),
            None => self.address.to_string(),
        }
    }

    /// The address that the builder was made with.
    #[cfg(feature = "tls")]
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// What [`when_down`](Builder::when_down) was set to.
    #[cfg(feature = "blocking")]
    pub(crate) fn policy(&self) -> WhenDown {
        self.when_down
    }

    /// Replaces the hooks by those made from them.
    #[cfg(feature = "blocking")]
    pub(crate) fn map_hooks(mut self, map: impl FnOnce(Hooks<Error, Event>) -> Hooks<Error, Event>) -> Self {
        self.hooks = map(self.hooks);
        self
    }

    /// Replaces the dialer by one made from it.
    pub(crate) fn map_dialer<T>(self, map: impl FnOnce(D) -> T) -> Builder<T> {
        let Ok(builder) = self.try_map_dialer(|dialer| Ok::<_, std::convert::Infallible>(map(dialer)));
        builder
    }

    /// The same, if that succeeds.
    pub(crate) fn try_map_dialer<T, E>(self, map: impl FnOnce(D) -> Result<T, E>) -> Result<Builder<T>, E> {
        Ok(Builder {
            address: self.address,
            name: self.name,
            dialer: map(self.dialer)?,
            dial_limit: self.dial_limit,
            dial_timeout: self.dial_timeout,
            retries: self.retries,
            limits: self.limits,
            hooks: self.hooks,
            job_queue_size: self.job_queue_size,
            settle_time: self.settle_time,
            when_down: self.when_down,
            close_as_error: self.close_as_error,
            idle_timeout: self.idle_timeout,
            options: self.options,
        })
    }
}

impl<D: Dial> Builder<D> {
    /// Runs a session set-up on each new stream before any handle gets it: a login, a greeting, subscriptions.
    ///
    /// If it fails, the dial fails. It shares the dial timeout. Short for a [`dialer`](Builder::dialer) with
    /// [`Dial::and_then`], whose docs say more.
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
    #[doc(alias("on_connect", "handshake", "login", "after_connect", "setup"))]
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
            .field("name", &self.name)
            .field("dial_limit", &self.dial_limit)
            .field("dial_timeout", &self.dial_timeout)
            .field("retries", &self.retries)
            .field("limits", &self.limits)
            .field("job_queue_size", &self.job_queue_size)
            .field("when_down", &self.when_down)
            .field("close_as_error", &self.close_as_error)
            .field("idle_timeout", &self.idle_timeout)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
