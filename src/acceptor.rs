//! A server's side: a pool of acceptors on a port, each of which serves one connection at a time.
//!
//! ```
//! use std::time::Duration;
//! use perconn::acceptor::Acceptor;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let acceptor = Acceptor::builder("127.0.0.1:0")
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
//! let stopped = acceptor.stop(Duration::from_secs(5)).await; // the connection is idle, so this does not take as long
//! assert_eq!((stopped.idle, stopped.cut), (1, 0));
//! # Ok(())
//! # }
//! ```
//!
//! # The design
//!
//! - One task accepts, and does nothing else: it waits for no client. Each connection is a task of its own, which runs the
//!   handler, catches its panic, and can be cut at any moment.
//! - An acceptor is a right to serve, not a task; how many there are, when they grow and shrink, is a pure book. A connection
//!   gives its right back when its handler has ended *and* its stream is dropped.
//! - The limits of a connection are in its [`Stream`]: a pure account of patience, which waiting spends, and which bytes earn
//!   back slowly. There is no timer before an operation has to wait, and none without a limit.
//! - What goes wrong on one connection costs the loop nothing. When the kernel gives out no connections (mostly for want of
//!   descriptors), the loop tries again after 5 ms, and ever more slowly up to 100 ms; that is told once.
//!
//! # What a client gets
//!
//! | when | the client sees |
//! |---|---|
//! | there is an acceptor | the handler |
//! | there is none, [`Overflow::Refuse`], or [`Overflow::Grow`] at its maximum | the [refusal](AcceptorBuilder::refusal), then the end of the stream |
//! | there is none, [`Overflow::Wait`] | silence, until there is one |
//! | it is silent or slow for too long | what the handler says to the read's error, and the end of the stream |
//! | its handler panics | the end of the stream, or a reset if something from it lay unread |
//! | the acceptor stops | the end of the stream when nothing is under way; at the deadline, as for a panic |

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use self::shared::{Phase, Shared};

pub use self::builder::AcceptorBuilder;
pub use self::error::Error;
pub use self::event::{EndReason, Event};
pub use self::line::LineConn;
pub use self::listen::Listen;
pub use self::overflow::Overflow;
pub use self::peer::Peer;
pub use self::stats::Stats;
pub use self::stream::Stream;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use self::tls::ServerTls;

mod builder;
mod connection;
mod error;
mod event;
mod given_up;
mod guarded;
mod hooks;
mod io_stream;
mod line;
mod listen;
mod overflow;
mod patience;
mod pause;
mod peer;
mod seat;
mod serve;
mod service;
mod settings;
mod shared;
mod socket;
mod stats;
mod stream;
#[cfg(feature = "tls")]
mod tls;
#[cfg(unix)]
mod unix;
mod waiting;

/// Accepts connections, and serves so many at a time; see [the module](self).
///
/// Dropped, it stops as soon as its runtime has a turn: nothing more is accepted, the port is free, and the open connections are
/// cut. [`stop`](Self::stop) is the kinder way, and waits for that.
#[must_use = "dropped, it stops"]
pub struct Acceptor {
    shared: Arc<Shared>,
    local_addr: Option<SocketAddr>,
    #[cfg(feature = "tls")]
    tls: Option<Arc<tls::Sessions>>,
}

/// How the connections ended that were open when an acceptor was stopped; by [`Acceptor::stop`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// Something was under way, and the handler came to its end.
    pub finished: usize,
    /// Nothing was under way, and the handler came to its end.
    pub idle: usize,
    /// They were cut at the deadline.
    pub cut: usize,
}

/// How long what is cut has to go. Only a handler that blocks its thread takes longer, and a runtime that is not driven.
const CUT: Duration = Duration::from_secs(1);

impl Acceptor {
    /// Begins the settings of an acceptor that listens on an address, or on a listener that the program has made.
    ///
    /// The address is checked when it is built.
    pub fn builder(listen: impl Into<Listen>) -> AcceptorBuilder {
        AcceptorBuilder::new(listen.into())
    }

    /// The address that it listens on, with the port that the kernel chose if 0 was given.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) if it listens on a Unix socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let unsupported = || io::Error::new(io::ErrorKind::Unsupported, "a Unix socket has no network address");
        self.local_addr.ok_or_else(unsupported)
    }

    /// How the acceptors are used at this moment, and what has happened so far.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Reads the certificates' files at once, for the sessions that begin from now on. If something is wrong with them, those in
    /// use stay.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] says what is wrong; also if the acceptor has no TLS. (It is shared with the event hook.)
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, they are read nevertheless.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub async fn reload_tls(&self) -> Result<(), Arc<Error>> {
        let (shared, sessions) = (Arc::clone(&self.shared), self.tls.clone());
        let reload = tokio::task::spawn_blocking(move || tls::reload::reload(&shared, sessions.as_deref()));
        // It ends early only if the runtime does.
        reload.await.unwrap_or_else(|error| Err(Arc::new(Error::InvalidConfig(format!("not reloaded: {error}")))))
    }

    /// Stops: closes the listener, lets those connections finish on which something is under way, ends the others, and cuts
    /// what is left when `deadline` is over.
    ///
    /// A connection ends at its next read that finds nothing under way: the read returns `Ok(0)`, as if the peer had closed.
    /// [`Stream`] says what counts as under way. With a deadline of zero, everything is cut at once. Clients that the kernel had
    /// accepted, but this acceptor had not, are reset.
    ///
    /// A second call waits for the same end, with a deadline of its own, and reports the same connections. A handler that stops
    /// its own acceptor must not wait for it in its own task, as its connection is one of those that are waited for: spawn
    /// the call.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the acceptor goes on stopping, but nothing is cut when the time is over. Call it again for
    /// that.
    pub async fn stop(&self, deadline: Duration) -> Stopped {
        let shared = &self.shared;
        shared.drain();
        let over = async {
            // (It cannot fail, as the sender is here.)
            let _ = shared.phase.subscribe().wait_for(|phase| *phase == Phase::Closed).await;
            shared.emptied().await;
        };
        let mut over = pin!(over);
        if timeout(deadline, &mut over).await.is_err() {
            shared.cut();
            let _ = timeout(CUT, over).await;
        }
        shared.stopped()
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.shared.drain();
        self.shared.cut();
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("local_addr", &self.local_addr)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
