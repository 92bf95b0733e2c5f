//! A pool of connections to any number of addresses, within a budget of file descriptors.
//!
//! A program that talks to thousands of addresses, each now and then, cannot keep a socket to each of them. A [`Pool`]
//! caps the number of open connections *across all addresses*. Each address has a [`Resource`], and its method
//! [`get`](Resource::get) lends the connection to one caller at a time. It dials if the connection is not open. When
//! the [`Guard`] is dropped, the connection goes back and stays open for the next time, until its slot is needed
//! elsewhere: then the pool closes the connection that has been idle for longest.
//!
//! This is not a pool of interchangeable connections to one server, as bb8 and deadpool are: a resource is one
//! connection.
//!
//! ```
//! use perconn::pool::Pool;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let address = server.local_addr()?;
//! # tokio::spawn(async move {
//! #     let (mut stream, _) = server.accept().await?;
//! #     let (mut reader, mut writer) = stream.split();
//! #     tokio::io::copy(&mut reader, &mut writer).await
//! # });
//! let pool = Pool::new(64)?;
//! let agent = pool.resource(address)?; // nothing is dialed yet
//! for _ in 0..3 {
//!     let mut conn = agent.get().await?; // a dial the first time, then the same connection
//!     conn.write_all(b"status?").await?;
//!     let mut answer = [0; 7];
//!     conn.read_exact(&mut answer).await?;
//! }
//! assert_eq!((pool.stats().opened, pool.stats().reused), (1, 2));
//! # Ok(())
//! # }
//! ```
//!
//! # Waiting
//!
//! A caller waits while other callers use the same resource, and for a slot while all slots are in use. Waiting callers
//! are served in the order in which they came. A dropped future gives its place up.
//! [`get_timeout`](Resource::get_timeout) limits the whole wait, [`try_get`](Resource::try_get) does not wait for other
//! callers, and [`dial_timeout`](PoolBuilder::dial_timeout) limits a dial.
//!
//! There are two exceptions to the order. While the pool closes a connection to make room for a caller, a later caller
//! may find another idle connection whose slot it can have, and is then served first. And if a caller leaves while it
//! dials, its place goes to the first caller that waits for the same resource.
//!
//! A future of [`get`](Resource::get) that you keep without polling it keeps what it has: its turn, or its slot and its
//! dial, even beyond the dial timeout.
//!
//! A caller that waits for a second connection while it holds a first one can deadlock, as with mutexes: another caller
//! may do the same the other way round. Use [`get_timeout`](Resource::get_timeout).
//!
//! # Callers that are more impatient than a dial
//!
//! A dial belongs to its resource. If the caller leaves, because its own time limit is over or its future is dropped, the
//! dial goes on in the background, within the [`dial_timeout`](PoolBuilder::dial_timeout). Its connection goes to the
//! next caller, or becomes idle. The dial ends early if the last handle of the resource is dropped or the pool is closed,
//! or with its runtime.
//!
//! # When a dial fails
//!
//! If a dial fails, all callers that wait for that resource get its error at once. Then nobody dials that resource for a
//! random time, which grows with each failure in a row: from [`retry_min`](PoolBuilder::retry_min) to
//! [`retry_max`](PoolBuilder::retry_max). So impatient callers do not hammer a dead server. A caller that asks meanwhile
//! gets the last error, with the time that is left ([`GetError::Dial`]). Only
//! [`get_timeout`](Resource::get_timeout) waits, if the next dial may begin within its limit.
//!
//! # What is never lent
//!
//! The pool never lends a connection that its peer has closed, or on which something has arrived that nobody asked for,
//! such as a late answer or a goodbye message. It asks the kernel before each reuse, which costs one system call and no
//! wait. It closes such a connection and dials a new one in its place.
//!
//! A stream that is neither a `TcpStream` nor a `UnixStream`, such as a TLS stream, is read without waiting. That finds
//! what the runtime has seen by then. The pool also asks the dialer's [`Dial::is_closed`].
//!
//! Values that are not streams, such as clients with a socket inside, need a check of their own:
//! [`Resource::check`], or [`Resource::before_reuse`] for one that waits.
//!
//! No pool can know that a connection is in the middle of an exchange whose answer has not arrived yet. If a future
//! that uses a [`Guard`] may be dropped half-way, let the guard [close on drop](Guard::close_on_drop) until the
//! exchange is over.
//!
//! # Several runtimes
//!
//! A connection belongs to the tokio runtime in which it was opened. That runtime has to report what arrives, whichever
//! task uses the connection. Several runtimes may share a pool if all of them are driven. If nobody drives the runtime
//! of a connection, a task of another runtime that uses the connection waits forever. The same holds for a dial that its
//! caller has left, and for a [release action](Resource::release): they go on in their runtime, and keep the resource and its
//! slot until they have ended. Where each call drives a runtime
//! of its own for a while (`block_on` of a current-thread runtime), give each runtime its own pool. The pool does not
//! lend the connections of a runtime that is gone.
//!
//! # How exact the budget is
//!
//! A slot is one open connection. A connection that has to make room is closed before the next one is dialed. A
//! resource has one connection at a time, and callers wait while it is being closed.
//!
//! Only a dial to a name with several addresses may have more than one socket open for a moment. If one address does
//! not answer, the dialer tries another one beside it every 250 ms (RFC 8305).
//!
//! # Things other than connections
//!
//! The budget is one of descriptors, which a program also needs for other things. [`Pool::slot`] gives you a slot
//! without a connection, and [`Pool::resource_fn`] keeps anything that is opened and is worth keeping open.
//!
//! Next: [`Resource`], which lends the connections.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;

use self::opener::{ByDialer, ByFn};
use self::state::PoolInner;
use crate::{Address, Dial, Error, TcpDialer};
#[cfg(feature = "tls")]
use crate::{Tls, TlsDialer};

pub use self::builder::PoolBuilder;
pub use self::error::GetError;
pub use self::event::{CloseReason, Event};
pub use self::guard::Guard;
pub use self::resource::Resource;
pub use self::slot::Slot;
pub use self::stats::{ResourceStats, Stats};
pub use self::wait_stats::{Timeouts, WaitingFor, Waits};

mod acquire;
mod builder;
mod close_signal;
mod connection;
mod dial_attempt;
mod dial_backoff;
mod error;
mod event;
mod fd_limit;
mod guard;
mod health;
mod hooks;
mod lifecycle;
#[cfg(all(test, perconn_loom))]
mod models;
mod opener;
mod opening;
mod reaper;
mod release;
mod resource;
mod resource_hooks;
mod resource_inner;
mod slot;
mod slots;
mod state;
mod stats;
mod wait_stats;

/// The pool of this process, once something has asked for it.
static GLOBAL: OnceLock<Pool> = OnceLock::new();

/// A cap on the number of open connections across all addresses; see [the module](self), which has an example.
///
/// Clones are the same pool. It lives as long as one of its clones or resources.
#[derive(Clone)]
pub struct Pool {
    /// Shared by the clones, the resources and their guards.
    inner: Arc<PoolInner>,
}

impl Pool {
    /// Makes a pool of `max` slots with the default settings.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if `max` is zero.
    pub fn new(max: usize) -> Result<Self, Error> {
        Self::builder(max).build()
    }

    /// Begins the settings of a pool of `max` slots.
    pub fn builder(max: usize) -> PoolBuilder {
        PoolBuilder::new(max)
    }

    /// Returns the pool of this process, which all parts of a program can share. It has the default settings, unless a
    /// [`global_builder`](Self::global_builder) has made it before.
    ///
    /// Its size is the process's limit of descriptors, less 50 for other uses, or less half of the limit if that is
    /// fewer. On Unix the limit is the soft `RLIMIT_NOFILE` at the time of the first call, so a program can raise it
    /// before. On Windows, which has no such limit, the pool assumes one of 16,384.
    pub fn global() -> &'static Self {
        GLOBAL.get_or_init(|| Self { inner: PoolInner::new(Self::global_builder()) })
    }

    /// Begins the settings of the pool of this process, with the same number of slots as [`global`](Self::global).
    ///
    /// ```
    /// use std::time::Duration;
    /// use perconn::pool::Pool;
    ///
    /// # fn main() -> Result<(), perconn::Error> {
    /// // At the beginning of the program, before anything uses the pool:
    /// Pool::global_builder().idle_timeout(Duration::from_secs(60)).build_global()?;
    /// # assert!(format!("{:?}", Pool::global()).starts_with("Pool"));
    /// # assert!(Pool::global_builder().build_global().is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn global_builder() -> PoolBuilder {
        PoolBuilder::new(fd_limit::slots_of_this_process())
    }

    /// Adds a resource for an address, which a [`TcpDialer`] dials. Nothing is dialed yet.
    ///
    /// Two resources for the same address are two connections. Clone a resource to share its connection.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if the address is malformed.
    pub fn resource(&self, address: impl Into<Address>) -> Result<Resource<TcpStream>, Error> {
        let address = address.into();
        let mut dialer = TcpDialer::new(address.clone());
        dialer.take_socket_options(&self.inner.settings.socket_options);
        self.resource_with(address.as_str(), dialer)
    }

    /// Adds a resource for an address, whose connections are TLS sessions. Nothing is dialed yet.
    ///
    /// The server's certificate must be for the host of the address, or for [`Tls::server_name`](crate::Tls::server_name).
    /// The handshake is a part of the dial. **Flush** a session before you wait for an answer.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if the address is malformed, or the settings or the files of certificates are not usable.
    ///
    /// # Examples
    ///
    /// ```
    /// use perconn::Tls;
    /// use perconn::pool::Pool;
    ///
    /// # fn main() -> Result<(), perconn::Error> {
    /// let pool = Pool::new(64)?;
    /// let agent = pool.resource_tls("agent7.example.com:4443", Tls::new())?;
    /// # drop(agent);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn resource_tls(
        &self,
        address: impl Into<Address>,
        tls: Tls,
    ) -> Result<Resource<<TlsDialer as Dial>::Stream>, Error> {
        let address = address.into();
        let mut dialer = TcpDialer::new(address.clone());
        dialer.take_socket_options(&self.inner.settings.socket_options);
        self.resource_with(address.as_str(), TlsDialer::new(dialer, tls)?)
    }

    /// Adds a resource whose connections your own dialer makes: for TLS, for Unix sockets, for a session set-up.
    ///
    /// The name appears in errors and events.
    ///
    /// ```
    /// use perconn::{Dial, TcpDialer};
    /// use perconn::pool::Pool;
    /// use tokio::io::AsyncWriteExt;
    ///
    /// # fn main() -> Result<(), perconn::Error> {
    /// let login = |mut stream: tokio::net::TcpStream| async move {
    ///     stream.write_all(b"LOGIN agent\n").await?;
    ///     Ok(stream)
    /// };
    /// let pool = Pool::new(64)?;
    /// let agent = pool.resource_with("agent 7", TcpDialer::new("10.0.0.7:4000").and_then(login))?;
    /// # drop(agent);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the dialer's [`check`](Dial::check).
    pub fn resource_with<D: Dial>(&self, name: &str, dialer: D) -> Result<Resource<D::Stream>, Error> {
        dialer.check()?;
        Ok(Resource::new(&self.inner, name, ByDialer(dialer), health::is_quiet_stream::<D>))
    }

    /// Adds a resource of any kind that takes a descriptor while it is open: a file, a process, a mapping.
    ///
    /// Give it a [check](Resource::check): without one it is lent again as it is, unless it is a TCP or Unix socket. As
    /// all resources, it is opened within a tokio runtime.
    ///
    /// ```
    /// use perconn::pool::Pool;
    /// use tokio::net::UdpSocket;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let metrics = Pool::global().resource_fn("metrics", || async {
    ///     let socket = UdpSocket::bind("127.0.0.1:0").await?;
    ///     socket.connect("127.0.0.1:8125").await?;
    ///     Ok(socket)
    /// });
    /// for _ in 0..3 {
    ///     let _ = metrics.get().await?.send(b"requests:1|c").await; // one socket
    /// }
    /// # assert_eq!(Pool::global().stats().opened, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn resource_fn<F, Fut, T>(&self, name: &str, open: F) -> Resource<T>
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = io::Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        Resource::new(&self.inner, name, ByFn(open), |_| true)
    }

    /// Waits for a slot without a connection: the right to one descriptor, for a use outside of the pool.
    ///
    /// The pool closes an idle connection for it if need be.
    ///
    /// # Errors
    ///
    /// [`GetError::Closed`] if the pool is closed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future gives up its place in the queue.
    ///
    /// # Examples
    ///
    /// ```
    /// use perconn::pool::Pool;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let slot = Pool::global().slot().await?;
    /// let manifest = tokio::fs::read("Cargo.toml").await?;
    /// drop(slot); // the file is closed again
    /// # drop(manifest);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn slot(&self) -> Result<Slot, GetError> {
        Slot::wait(&self.inner).await
    }

    /// Returns a slot without a connection if one is available without waiting.
    ///
    /// # Errors
    ///
    /// [`GetError::Busy`] if all slots are in use, or if the idle connection in the way has a
    /// [release action](Resource::release), which takes a moment; [`GetError::Closed`] if the pool is closed.
    pub fn try_slot(&self) -> Result<Slot, GetError> {
        Slot::try_now(&self.inner)
    }

    /// Returns how the slots are used at this moment, and what has happened so far.
    ///
    /// This visits each resource of the pool. Callers that need a slot wait for that: about 10 µs for a thousand
    /// resources.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// Closes all connections that are idle. Connections in use stay open, and so does one that is being
    /// [checked](PoolBuilder::check_idle_every) at this moment.
    pub fn close_idle(&self) {
        self.inner.close_idle(CloseReason::Requested);
    }

    /// Closes the pool.
    ///
    /// All waiting and later callers get [`GetError::Closed`]. Idle connections are closed at once, those in use when
    /// they are given back. Dials are cancelled. [Release actions](Resource::release) run in the background.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
