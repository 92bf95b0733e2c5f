//! The server's side: an acceptor that listens on an address and serves a limited number of connections at once.
//!
//! ```
//! use std::time::Duration;
//! use perconn::acceptor::{Acceptor, Limits};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let acceptor = Acceptor::builder("127.0.0.1:0")
//!     .limits(Limits::internet()) // silent and slow clients are closed: 10 s for the first byte, 60 s idle
//!     .handler(async |stream, _peer| {
//!         let (mut reader, mut writer) = tokio::io::split(stream);
//!         tokio::io::copy(&mut reader, &mut writer).await?;
//!         Ok(())
//!     })
//!     .build()?;
//!
//! let mut conn = perconn::Conn::connect(acceptor.local_addr()?).await?;
//! conn.write_all(b"hello").await?;
//! let mut echo = [0; 5];
//! conn.read_exact(&mut echo).await?;
//! assert_eq!(&echo, b"hello");
//!
//! let stopped = acceptor.stop(Duration::from_secs(5)).await; // at once, as the connection is idle
//! assert_eq!((stopped.idle, stopped.cut), (1, 0));
//! # Ok(())
//! # }
//! ```
//!
//! # The design
//!
//! - One task accepts, and does nothing else: it waits for no client. Each connection is a task of its own. It runs the
//!   handler, catches its panic, and can be cut at any await.
//! - An acceptor in the sense of [`acceptors`](AcceptorBuilder::acceptors) is a *slot*: the right to serve one connection. A
//!   connection frees its slot when its handler has ended and its stream is dropped.
//! - The limits of a connection are part of its [`Stream`]: a time budget that waiting spends and that bytes earn back slowly.
//!   There is no timer until an operation has to wait, and none without a limit.
//! - A failure of one connection does not delay the loop. When accept(2) fails, usually because the process is out of file
//!   descriptors, the loop pauses for 5 ms, and for longer after each further failure, up to 100 ms. It reports that once.
//! - An acceptor that ends by itself is reported: by [`Event::Ended`], to the logger, and by [`Acceptor::closed`].
//!
//! # What a client gets
//!
//! To *cut* a connection is to end it by force: its handler is dropped, and every operation on its stream fails.
//!
//! | when | the client sees |
//! |---|---|
//! | a slot is free | the handler |
//! | no slot is free, [`Overflow::Refuse`], or [`Overflow::Grow`] at its maximum | the [refusal](AcceptorBuilder::refusal), then the end of the stream |
//! | no slot is free, [`Overflow::Wait`] | silence, until a slot is free |
//! | it is not [let in](AcceptorBuilder::accept_if), or its address has [too many](AcceptorBuilder::max_per_peer) connections | the end of the stream, or a reset |
//! | the [rate](AcceptorBuilder::accept_rate) is used up | silence, until it is accepted |
//! | its trusted [proxy](AcceptorBuilder#method.proxy_protocol) sends no PROXY header | the end of the stream |
//! | it is silent or slow for too long | what the handler sends after the read's error, then the end of the stream |
//! | its handler panics | the end of the stream, or a reset if data from the client was unread |
//! | it connects in the moment in which the acceptor closes its listener | a reset; from some kernels not before it sends something |
//! | the acceptor stops | the end of the stream as soon as nothing is under way; at the deadline it is cut, which looks like a panic |
//!
//! Next: [`AcceptorBuilder`], for the settings, and [`Stream`], for what a handler gets. In the source, `accept_loop`
//! begins the way of a connection.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use self::registry::Registry;

pub use self::admission::RejectReason;
pub use self::builder::AcceptorBuilder;
pub use self::capacity::Overflow;
pub use self::error::Error;
pub use self::event::{EndReason, Event};
pub use self::limits::Limits;
pub use self::line::LineConn;
pub use self::listen::Listen;
pub use self::local_addr::LocalAddr;
pub use self::peer::Peer;
#[cfg(feature = "proxy-protocol")]
#[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
pub use self::proxy_protocol::ProxyHeader;
pub use self::stats::Stats;
pub use self::stopping::{Busy, Stopping};
pub use self::stream::Stream;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use self::tls::ServerTls;

mod abandoned_write;
mod accept_backoff;
mod accept_loop;
mod accept_rate;
mod admission;
mod alive;
mod builder;
mod capacity;
mod conn_record;
mod connection;
mod error;
mod event;
mod handshake;
mod hooks;
mod limits;
mod line;
mod listen;
mod listener;
mod local_addr;
mod peer;
#[cfg(feature = "proxy-protocol")]
mod proxy_protocol;
mod quiet_time;
mod registry;
mod run_handler;
mod service;
mod settings;
mod stats;
mod stopping;
mod stream;
mod time_budget;
#[cfg(feature = "tls")]
mod tls;
mod transport;
#[cfg(unix)]
mod unix;
mod wait_clock;

/// Accepts connections and serves a limited number of them at once; see [the module](self).
///
/// Drop it to stop it by force: it accepts nothing more, its port becomes free, and its open connections are cut.
/// That happens as soon as its runtime runs its tasks. To let connections finish, call [`stop`](Self::stop) first.
#[must_use = "an acceptor stops when it is dropped"]
pub struct Acceptor {
    /// Shared with the accept loop and the connections, which end through it when the acceptor is stopped or dropped.
    registry: Arc<Registry>,
    /// Kept from the bind, as the accept loop owns the listener. At least one.
    local_addrs: Vec<LocalAddr>,
    /// For `reload_tls`. `None` without TLS.
    #[cfg(feature = "tls")]
    tls: Option<Arc<tls::TlsServer>>,
}

/// How the connections ended that were open when an acceptor was stopped; by [`Acceptor::stop`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// Connections on which something was under way, and whose handler ran to its end.
    pub finished: usize,
    /// Connections on which nothing was under way, and whose handler ran to its end.
    pub idle: usize,
    /// Connections that were [cut](self#what-a-client-gets) at the deadline.
    pub cut: usize,
}

/// How long `stop` waits for connections to end after it has cut them. Only a handler that blocks its thread takes
/// longer, or a runtime that does not run.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);

impl Acceptor {
    /// Returns a builder for an acceptor that listens on an address, a path, or a listener that your program has made, or
    /// on several of these.
    ///
    /// An address is checked by [`build`](AcceptorBuilder::build).
    pub fn builder(listen: impl Into<Listen>) -> AcceptorBuilder {
        AcceptorBuilder::new(listen.into())
    }

    /// Returns the address that it listens on; the first one on the network, if there are several. For the port 0, this has
    /// the port that the kernel has chosen.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) if it listens on Unix sockets only.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let on_the_network = self.local_addrs.iter().find_map(|address| match address {
            LocalAddr::Tcp(address) => Some(*address),
            LocalAddr::Unix(_) => None,
        });
        on_the_network.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "a Unix socket has no network address"))
    }

    /// Returns all addresses that it listens on, also the paths of Unix sockets, in the order in which they were given.
    pub fn local_addrs(&self) -> &[LocalAddr] {
        &self.local_addrs
    }

    /// Returns how the slots are used at this moment, and what has happened so far.
    pub fn stats(&self) -> Stats {
        self.registry.stats()
    }

    /// Loads the certificate files at once, for sessions that begin from now on. If they are not usable, the old
    /// certificates stay in use.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidConfig`] if the files are not usable, which the event hook receives as well; if the acceptor has no
    ///   TLS; or if no file was given to [`ServerTls`], so that nothing can change.
    /// - [`Error::RuntimeShutdown`] if its runtime shuts down.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the files are loaded nevertheless.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub async fn reload_tls(&self) -> Result<(), Arc<Error>> {
        let (registry, tls) = (Arc::clone(&self.registry), self.tls.clone());
        let reload = tokio::task::spawn_blocking(move || tls::reload::reload(&registry, tls.as_deref()));
        // The blocking task fails only if the runtime shuts down.
        reload.await.unwrap_or_else(|_| Err(Arc::new(Error::RuntimeShutdown)))
    }

    /// Stops the acceptor: closes the listener, lets busy connections finish, ends idle ones, and cuts what is left
    /// after `deadline`.
    ///
    /// A connection ends at its next read that finds nothing under way: the read returns `Ok(0)`, as if the peer had
    /// closed. [`Stream`] defines what is under way, and how a handler says so: [`stopping`](Stream::stopping) for a session
    /// that ends in its own way, [`busy`](Stream::busy) for work that the stream does not show.
    ///
    /// Requests that have reached this machine in the first second, or in the first half of the deadline, are still read. So
    /// a client that asks without a pause is served for a second more. With a deadline of zero, every connection with something
    /// under way is cut at once. Clients in the kernel's queue are reset. Clients in a TLS handshake are closed.
    ///
    /// It waits until all connections have ended, but at most one second after it has cut them. A second call waits
    /// for the same end, with a deadline of its own, and returns the same figures.
    ///
    /// A handler must not wait for this in its own task, as the stop waits for that handler. Spawn the call instead.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the acceptor goes on stopping, but nothing is cut at the deadline. Call it again for
    /// that.
    pub async fn stop(&self, deadline: Duration) -> Stopped {
        let registry = &self.registry;
        registry.drain(deadline);
        let mut closed = pin!(registry.closed());
        if timeout(deadline, &mut closed).await.is_err() {
            registry.cut();
            let _ = timeout(CUT_TIMEOUT, closed).await;
        }
        registry.stopped()
    }

    /// Waits until the acceptor has ended: it accepts no more connections, its port is free, and all of its
    /// connections are gone.
    ///
    /// It only waits and stops nothing. The acceptor ends because the program [stops](Self::stop) it, or by itself:
    /// its runtime shuts down, or its accept loop panics. An acceptor that has ended by itself lets its open
    /// connections go on; call `stop` to end them. [`Event::Ended`] reports such an end at once, and the logger
    /// receives it as well.
    ///
    /// A client in a TLS handshake, and one that is being [refused](AcceptorBuilder::refusal), does not count as a
    /// connection.
    ///
    /// It can be called any number of times, at any time, from any runtime. Once the acceptor has ended, it returns
    /// at once. A handler must not wait for this in its own task, as its own connection is one of those that are
    /// waited for.
    ///
    /// ```
    /// use std::time::Duration;
    /// use perconn::acceptor::Acceptor;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let acceptor = Acceptor::builder("127.0.0.1:0").handler(async |_stream, _peer| Ok(())).build()?;
    /// # let shutdown_signal = async {};
    /// tokio::select! {
    ///     // The server cannot serve any more; a supervisor may start it again.
    ///     ended = acceptor.closed() => ended?,
    ///     () = shutdown_signal => drop(acceptor.stop(Duration::from_secs(5)).await),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The cause, if the acceptor ended by itself: [`Error::RuntimeShutdown`] or [`Error::AcceptPanicked`]. The event
    /// hook receives the same error. `Ok` if the program stopped it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes.
    pub async fn closed(&self) -> Result<(), Arc<Error>> {
        self.registry.closed().await
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.registry.drain(Duration::ZERO);
        self.registry.cut();
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("local_addrs", &self.local_addrs)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
