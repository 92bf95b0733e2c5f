//! The builder of an acceptor: its settings, their defaults and their limits.
//!
//! Next: [`start`], which checks the settings and starts the acceptor.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::admission::Filter;
use super::hooks::Hooks;
use super::line::LineSettings;
use super::service::{HandlerFuture, StartHandler};
use super::{Error, Event, Limits, LineConn, Listen, Overflow, Peer, Stream, line};

mod admission;
mod handshake;
mod lines;
#[cfg(feature = "proxy-protocol")]
mod proxy_protocol;
mod start;
#[cfg(feature = "tls")]
mod tls;

/// The settings of an [`Acceptor`](super::Acceptor); made by [`Acceptor::builder`](super::Acceptor::builder).
///
/// ```
/// use std::time::Duration;
/// use perconn::acceptor::{Acceptor, Limits, Overflow};
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), perconn::acceptor::Error> {
/// let acceptor = Acceptor::builder("127.0.0.1:0")
///     .acceptors(100)
///     .overflow(Overflow::Refuse)
///     .refusal("no room, come back later\n")
///     .limits(Limits::internet())
///     .idle_timeout(Duration::from_secs(120))
///     .on_event(|event| println!("{event}"))
///     .handler(async |mut stream, peer| stream.write_all(format!("hello, {peer}\n").as_bytes()).await)
///     .build()?;
/// # drop(acceptor);
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing by itself, use `.build()`"]
pub struct AcceptorBuilder {
    /// Opened by `build`, so that an address that cannot be used is an error of `build`.
    listen: Listen,
    /// Slots at the start: how many connections are served at once. Defaults to 1024; at least 1.
    acceptors: usize,
    /// What a client gets that finds no free slot. Defaults to waiting in the kernel's queue.
    overflow: Overflow,
    /// The bytes that a refused client receives before the close. Defaults to none.
    refusal: Vec<u8>,
    /// The length of the kernel's queue of connections; not for a listener that the program has made. Defaults to 1024.
    backlog: u32,
    /// `TCP_NODELAY` of each accepted socket. `None` keeps the system's default.
    nodelay: Option<bool>,
    /// Which peers are let in. Defaults to `None`: all.
    filter: Option<Filter>,
    /// How many connections an address may have. Defaults to `None`: no limit; at least 1.
    max_per_peer: Option<usize>,
    /// How many connections are accepted in a second. Defaults to `None`: no limit; at least 1.
    accept_rate: Option<u32>,
    /// How long a read may wait for a client's first byte, or first line. Defaults to `None`: no limit.
    first_byte_timeout: Option<Duration>,
    /// How long a read or a write may wait for a client. Defaults to `None`: no limit.
    idle_timeout: Option<Duration>,
    /// Bytes a second at which a slow client stays within the idle timeout. `None`: one byte resets it. Defaults to 10.
    min_rate: Option<u32>,
    /// The longest line in bytes, without its end; not for a handler of streams. Defaults to 8192.
    max_line_length: usize,
    /// The bytes that a client receives after a line that is too long, before the close. Defaults to none.
    too_long_answer: Vec<u8>,
    /// Whether bytes without a line feed at the end of the stream are a line. Defaults to `false`.
    last_line_without_end: bool,
    /// How many lines of one connection are handled at the same time. Defaults to 1; at least 1.
    concurrent_lines: usize,
    /// Certificates and protocols. Defaults to `None`: plain TCP.
    #[cfg(feature = "tls")]
    tls: Option<super::ServerTls>,
    /// Who sends a PROXY header. Defaults to `None`: nobody.
    #[cfg(feature = "proxy-protocol")]
    proxies: Option<Vec<String>>,
    /// How many handshakes go on at once; they take no slots. Defaults to 256; at least 1.
    max_handshakes: usize,
    /// How long a handshake may take in all. Defaults to 10 s; `None`: no limit.
    handshake_timeout: Option<Duration>,
    /// Must be set: `build` fails without one.
    handler: Option<HandlerKind>,
    /// The logger and the event hook. They default to a warning of the `log` crate, and to none.
    hooks: Hooks,
}

/// The handler that was given last.
enum HandlerKind {
    /// Gets the stream itself, so a write counts as the answer to what was received.
    Streams(StartHandler),
    /// Takes the settings of lines, which may be set after the handler.
    Lines(Box<dyn FnOnce(LineSettings) -> StartHandler + Send>),
}

impl AcceptorBuilder {
    /// The defaults. Each setter documents its own.
    pub(super) fn new(listen: Listen) -> Self {
        Self {
            listen,
            acceptors: 1024,
            overflow: Overflow::Wait,
            refusal: Vec::new(),
            backlog: 1024,
            nodelay: None,
            filter: None,
            max_per_peer: None,
            accept_rate: None,
            first_byte_timeout: None,
            idle_timeout: None,
            min_rate: Some(10),
            max_line_length: 8192,
            too_long_answer: Vec::new(),
            last_line_without_end: false,
            concurrent_lines: 1,
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "proxy-protocol")]
            proxies: None,
            max_handshakes: 256,
            handshake_timeout: Some(Duration::from_secs(10)),
            handler: None,
            hooks: Hooks::default(),
        }
    }

    /// Sets the handler of connections: an async closure or function that receives the stream and its peer.
    ///
    /// The connection is over when the handler has returned and its stream is dropped. An error that it returns ends
    /// only its own connection; it is counted and reported to [`on_event`](Self::on_event). So is a panic, which the
    /// [`logger`](Self::logger) receives as well.
    ///
    /// An acceptor has one handler, of connections or of lines: the last one that was set.
    ///
    /// To share state between connections, use a closure that returns an async block. An async closure cannot own
    /// shared state, as it can then be called only once at a time, and the compiler rejects it.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use perconn::acceptor::{Acceptor, Stream};
    /// use tokio::io::AsyncWriteExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::acceptor::Error> {
    /// let visitors = Arc::new(AtomicU64::new(0));
    /// let acceptor = Acceptor::builder("127.0.0.1:0")
    ///     .handler(move |mut stream: Stream, _peer| {
    ///         let visitors = Arc::clone(&visitors);
    ///         async move {
    ///             let number = visitors.fetch_add(1, Ordering::Relaxed) + 1;
    ///             stream.write_all(format!("you are number {number}\n").as_bytes()).await
    ///         }
    ///     })
    ///     .build()?;
    /// # drop(acceptor);
    /// # Ok(())
    /// # }
    /// ```
    pub fn handler<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(Stream, Peer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<()>> + Send + 'static,
    {
        self.handler = Some(HandlerKind::Streams(Arc::new(move |stream, peer| Box::pin(handler(stream, peer)))));
        self
    }

    /// Sets the handler of lines: an async closure or function that receives each line and its connection.
    ///
    /// A line ends with a line feed, which a carriage return may precede. The handler receives the bytes before that,
    /// which need not be UTF-8. The lines of one connection are handled one after the other, unless you set
    /// [`concurrent_lines`](Self::concurrent_lines). At the end of the stream, bytes without a line feed are dropped, unless you
    /// set [`last_line_without_end`](Self::last_line_without_end).
    ///
    /// An error that the handler returns closes the connection; so does a [`send`](LineConn::send) that fails. When the
    /// acceptor stops, it still handles the present line and every line of which it has read something: up to 4 KiB of them, so
    /// give slow handlers a long deadline. To share state between lines, see [`handler`](Self::handler).
    ///
    /// ```
    /// use perconn::acceptor::Acceptor;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::acceptor::Error> {
    /// let acceptor = Acceptor::builder("127.0.0.1:0")
    ///     .line_handler(async |line, conn| {
    ///         match &line[..] {
    ///             b"quit" => {
    ///                 conn.send("goodbye").await?;
    ///                 conn.close();
    ///             }
    ///             other => conn.send(other).await?,
    ///         }
    ///         Ok(())
    ///     })
    ///     .build()?;
    /// # drop(acceptor);
    /// # Ok(())
    /// # }
    /// ```
    pub fn line_handler<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(Vec<u8>, LineConn) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<()>> + Send + 'static,
    {
        self.handler = Some(HandlerKind::Lines(Box::new(move |settings| {
            let (settings, handler) = (Arc::new(settings), Arc::new(handler));
            Arc::new(move |stream: Stream, _| -> HandlerFuture {
                Box::pin(line::serve(stream, Arc::clone(&settings), Arc::clone(&handler)))
            })
        })));
        self
    }

    /// Sets the number of acceptor slots: up to `n` connections are served at once. Defaults to 1024; at least 1.
    ///
    /// Each connection takes a file descriptor. At the process's limit of descriptors (`ulimit -n`), clients wait in
    /// the kernel's queue, whatever [`overflow`](Self::overflow) is.
    pub fn acceptors(mut self, n: usize) -> Self {
        self.acceptors = n;
        self
    }

    /// Sets what happens to a client that connects while all slots are busy. Defaults to [`Overflow::Wait`].
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Sets the text that a refused client receives before its connection is closed. Defaults to nothing.
    ///
    /// The client has one second to read it and to close. While 256 clients are being refused, further ones are sent
    /// the text and closed at once, so that it may be lost.
    pub fn refusal(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.refusal = text.into();
        self
    }

    /// Sets how many connections the kernel queues until they are accepted. Defaults to 1024; at least 1.
    ///
    /// The kernel may have a lower limit (`net.core.somaxconn`). This has no effect on a listener that your program
    /// has made.
    pub fn backlog(mut self, n: u32) -> Self {
        self.backlog = n;
        self
    }

    /// Sets `TCP_NODELAY` on each accepted socket: with `true`, small writes are sent at once. Defaults to the
    /// system's default.
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = Some(nodelay);
        self
    }

    /// Sets all limits of a client at once: the first byte, idle times, the rate, the length of a line, the handshake.
    ///
    /// Defaults to no limit on time but for the handshake. A server that strangers can reach needs some:
    /// [`Limits::internet`]. A setter of one limit that you call later changes that one.
    pub fn limits(mut self, limits: Limits) -> Self {
        let Limits { first_byte_timeout, idle_timeout, min_rate, max_line_length, handshake_timeout } = limits;
        self.first_byte_timeout = first_byte_timeout;
        self.idle_timeout = idle_timeout;
        self.min_rate = min_rate;
        self.max_line_length = max_line_length;
        self.handshake_timeout = handshake_timeout;
        self
    }

    /// Sets how long a client may take until its first byte. Defaults to `None`: no limit. It must not be zero.
    ///
    /// For a handler of lines, it is the time until the first whole line. It starts after the handshake, if there is one. Like
    /// [`idle_timeout`](Self::idle_timeout), it runs while a read waits.
    pub fn first_byte_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.first_byte_timeout = limit.into();
        self
    }

    /// Sets how long a client may keep a read or a write waiting. Defaults to `None`: no limit. It must not be zero.
    ///
    /// The time runs only while a read or a write waits, separately for each direction. When it is over, the
    /// operation returns an error of the kind [`TimedOut`](io::ErrorKind::TimedOut).
    ///
    /// - It starts over when the handler writes data that the kernel takes at once, or calls
    ///   [`message_done`](Stream::message_done).
    /// - A byte that arrives gives back only a little, see [`min_rate`](Self::min_rate). So does a byte that the kernel takes
    ///   after the write had to wait.
    /// - For a handler of lines, only a whole line starts it over.
    ///
    /// If you drop a read that waits (in a `select!`, or by a timeout), the time runs on until the next read. A pause
    /// longer than the limit is ignored. The same goes for a write.
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }

    /// Sets the rate, in bytes a second, at which a slow client stays within the
    /// [`idle_timeout`](Self::idle_timeout). Defaults to 10; at least 1.
    ///
    /// Each byte gives back one second divided by this rate. With `None`, each byte starts the idle limit over.
    pub fn min_rate(mut self, bytes_per_second: impl Into<Option<u32>>) -> Self {
        self.min_rate = bytes_per_second.into();
        self
    }

    /// Sets a hook that receives each [`Event`], on the task that causes it. Defaults to none.
    ///
    /// The hook must not block. The acceptor catches a panic in it and reports it to the [`logger`](Self::logger).
    pub fn on_event(mut self, hook: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.hooks.on_event = Some(Box::new(hook));
        self
    }

    /// Sets the logger: a hook that receives each [`Error`] that an operator should know of. Defaults to `log::warn!`
    /// on the target `perconn`, from [a thread of its own](crate::Builder::logger).
    ///
    /// Such errors are accepts that fail, handlers that panic, an acceptor that ends by itself, and certificates that
    /// cannot be used or expire soon. A logger that you set must not block.
    pub fn logger(mut self, logger: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.hooks.logger = Some(Box::new(move |error| logger(error)));
        self
    }
}

impl fmt::Debug for AcceptorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptorBuilder")
            .field("listen", &self.listen)
            .field("acceptors", &self.acceptors)
            .field("overflow", &self.overflow)
            .field("first_byte_timeout", &self.first_byte_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .finish_non_exhaustive()
    }
}
