//! The settings of an acceptor.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::hooks::Hooks;
use super::service::{Start, Work};
use super::{Error, Event, LineConn, Listen, Overflow, Peer, Stream, line};

mod start;
#[cfg(feature = "tls")]
mod tls;

/// The settings of an [`Acceptor`](super::Acceptor); made by [`Acceptor::builder`](super::Acceptor::builder).
///
/// ```
/// use std::time::Duration;
/// use perconn::acceptor::{Acceptor, Overflow};
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), perconn::acceptor::Error> {
/// let acceptor = Acceptor::builder("127.0.0.1:0")
///     .acceptors(100)
///     .overflow(Overflow::Refuse)
///     .refusal("no room, come back later\n")
///     .first_byte_timeout(Duration::from_secs(10))
///     .idle_timeout(Duration::from_secs(120))
///     .on_event(|event| println!("{event}"))
///     .handler(async |mut stream, peer| stream.write_all(format!("good day, {peer}\n").as_bytes()).await)
///     .build()?;
/// # drop(acceptor);
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing by itself, use `.build()`"]
pub struct AcceptorBuilder {
    listen: Listen,
    acceptors: usize,
    overflow: Overflow,
    refusal: Vec<u8>,
    backlog: u32,
    nodelay: Option<bool>,
    first_byte_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    min_rate: Option<u32>,
    max_line_length: usize,
    #[cfg(feature = "tls")]
    tls: Option<super::ServerTls>,
    #[cfg(feature = "tls")]
    max_handshakes: usize,
    #[cfg(feature = "tls")]
    handshake_timeout: Option<Duration>,
    handler: Option<Serving>,
    hooks: Hooks,
}

enum Serving {
    Streams(Start),
    /// Wants to know the maximum.
    Lines(Box<dyn FnOnce(usize) -> Start + Send>),
}

impl AcceptorBuilder {
    pub(super) fn new(listen: Listen) -> Self {
        Self {
            listen,
            acceptors: 1024,
            overflow: Overflow::Wait,
            refusal: Vec::new(),
            backlog: 1024,
            nodelay: None,
            first_byte_timeout: None,
            idle_timeout: None,
            min_rate: Some(10),
            max_line_length: 8192,
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "tls")]
            max_handshakes: 256,
            #[cfg(feature = "tls")]
            handshake_timeout: Some(Duration::from_secs(10)),
            handler: None,
            hooks: Hooks::default(),
        }
    }

    /// What serves a connection: an async closure, or a function, that gets the stream and who is at its other end. The
    /// connection is over when it returns and has dropped the stream.
    ///
    /// An error that it returns is told to [`on_event`](Self::on_event) and counted, and harms nobody else; nor does a panic,
    /// which goes to the [`logger`](Self::logger) as well.
    ///
    /// There is one handler: this one or that of lines; the last one given counts.
    ///
    /// What the connections share goes into a closure that returns an async block (an async closure that keeps something for
    /// itself can only be called once at a time, and the compiler refuses it):
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
        self.handler = Some(Serving::Streams(Arc::new(move |stream, peer| Box::pin(handler(stream, peer)))));
        self
    }

    /// What serves each line: an async closure, or a function, that gets the line and the connection it came from.
    ///
    /// Lines end with a line feed, before which there may be a carriage return; neither is part of the line that the handler
    /// gets. It gets bytes, as not every line is UTF-8. The lines of one connection are handled one after the other. At the end
    /// of the stream, what has no line feed is dropped: it may be half a line.
    ///
    /// If the handler returns an error, the connection is closed; so it is when a [`send`](LineConn::send) has failed. When the
    /// acceptor stops, the line that is being handled and those of which something has been read are handled, and the next is
    /// not. For what the lines share, see [`handler`](Self::handler).
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
        self.handler = Some(Serving::Lines(Box::new(move |max| {
            let handler = Arc::new(handler);
            Arc::new(move |stream: Stream, _| -> Work { Box::pin(line::serve(stream, max, Arc::clone(&handler))) })
        })));
        self
    }

    /// How long a line may be, in bytes, without its end. Defaults to 8192. A client that sends a longer one is seen off, and
    /// its connection counted as failed. A connection keeps about twice as much of what has come, at most, and 8 KiB.
    pub fn max_line_length(mut self, bytes: usize) -> Self {
        self.max_line_length = bytes;
        self
    }

    /// How many connections are served at the same time. Defaults to 1024.
    ///
    /// Each takes a descriptor. Above the process's limit of these (`ulimit -n`), clients have to wait, whatever
    /// [`overflow`](Self::overflow) says.
    pub fn acceptors(mut self, n: usize) -> Self {
        self.acceptors = n;
        self
    }

    /// What happens to a client that comes when all acceptors are busy. Defaults to [`Overflow::Wait`].
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// What a client that is refused is sent before its connection is closed. Defaults to nothing.
    ///
    /// The close is orderly, so that the text arrives: the client has a second to read it. While more than 256 clients are
    /// being refused, those beyond are sent it as well, but closed at once.
    pub fn refusal(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.refusal = text.into();
        self
    }

    /// How many connections the kernel keeps that have not been accepted yet. Defaults to 1024; the kernel may have a lower
    /// limit (`net.core.somaxconn`). Of no effect on a listener that was given.
    pub fn backlog(mut self, n: u32) -> Self {
        self.backlog = n;
        self
    }

    /// Sets `TCP_NODELAY` on each socket: small writes are sent at once. Unless it is given, the system's default stays.
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = Some(nodelay);
        self
    }

    /// How long a client may be silent at first. Defaults to `None`: without limit.
    ///
    /// For a handler of streams, it is the time until the first byte; from then on, [`idle_timeout`](Self::idle_timeout)
    /// carries on. For a handler of lines, it is the time until the first whole line. With TLS, it begins when the handshake
    /// has ended.
    pub fn first_byte_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.first_byte_timeout = limit.into();
        self
    }

    /// How long a client is waited for. Defaults to `None`: without limit.
    ///
    /// The time runs while a read or a write waits. It starts over when the handler writes something that the kernel takes
    /// at once, or calls [`message_done`](Stream::message_done); a byte that comes gives only a little back, see
    /// [`min_rate`](Self::min_rate). So does a byte that is taken after a write had to wait. When it is over, the read or the
    /// write returns an error of the kind `TimedOut`. For a handler of lines, only a whole line starts it over.
    ///
    /// When a read that waits is given up (in a `select!`, or by a timeout), the acceptor is not told, and counts on until the
    /// next one begins; but what was given up for longer than the limit counts for nothing. Likewise for a write.
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }

    /// How many bytes a second keep a client alive that is in the middle of something. Defaults to 10; with `None`, each byte
    /// starts the idle limit over.
    ///
    /// Each byte that comes gives back one second divided by this of the [`idle_timeout`](Self::idle_timeout).
    pub fn min_rate(mut self, bytes_per_second: impl Into<Option<u32>>) -> Self {
        self.min_rate = bytes_per_second.into();
        self
    }

    /// Is told of each turn in the acceptor's life, by the task that does it. It must not block. A panic in it is caught, and
    /// told to the logger.
    pub fn on_event(mut self, hook: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.hooks.on_event = Some(Box::new(hook));
        self
    }

    /// Is told what the server's operator should know: accepts that fail, handlers that panic. Defaults to `log::warn!` on
    /// the target `perconn`. It must not block.
    pub fn logger(mut self, logger: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.hooks.logger = Box::new(logger);
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
