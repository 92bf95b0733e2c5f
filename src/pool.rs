//! A pool of connections to any number of addresses, within a budget of file descriptors.
//!
//! A program that talks to thousands of addresses, each now and then, cannot keep a socket to each. A [`Pool`] is the right
//! to so many open connections *across all addresses*. Each address has a [`Resource`]; [`get`](Resource::get) lends its
//! connection to one user at a time, dialing if there is none; dropped, the [`Guard`] gives it back. The connection stays
//! open for the next time, until its slot is needed elsewhere: then the one that has been idle for longest is closed.
//!
//! (It is not a pool of interchangeable connections to one server, as bb8 and deadpool are: a resource is one connection.)
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
//!     let mut conn = agent.get().await?; // the first time a dial, then the same connection
//!     conn.write_all(b"status?").await?;
//!     let mut answer = [0; 7];
//!     conn.read_exact(&mut answer).await?;
//! }
//! assert_eq!((pool.stats().opened, pool.stats().reused), (1, 2));
//! # Ok(())
//! # }
//! ```
//!
//! # Who waits, and for how long
//!
//! A user waits for others of the same resource, and for a slot if all are in use; of those who wait, whoever came first is
//! served first. Dropping the future gives the place up. [`get_timeout`](Resource::get_timeout) limits the whole,
//! [`try_get`](Resource::try_get) does not wait for anyone, and a dial is limited by
//! [`dial_timeout`](PoolBuilder::dial_timeout). If a dial fails, its error is told at once, to all who were waiting for that
//! resource.
//!
//! One exception: while a connection is being closed to make room, one who comes later is served before him who waits for
//! that, if he finds another connection idle whose slot he can have.
//!
//! A future of [`get`](Resource::get) that is held and not polled keeps what it has: its turn, or its slot and its dial,
//! whatever the dial timeout. And who waits for a second connection with a first one in his hands, as others do the other way
//! round, may wait for ever, as with mutexes: use [`get_timeout`](Resource::get_timeout).
//!
//! # What is never handed out
//!
//! A connection that its peer has closed, or on which something has arrived that nobody asked for (an answer that came too
//! late, a farewell). Each hand-out asks the kernel, which is one system call and no wait; one that is found so is closed,
//! and a new one dialed in its place. A stream that is neither a `TcpStream` nor a `UnixStream`, such as
//! one of TLS, is read without waiting, which finds what the runtime has seen by then, and its dialer's [`Dial::is_closed`] is
//! asked. Of anything that is no stream, nothing is known.
//!
//! No pool can know that a connection is in the middle of an exchange whose answer has not arrived yet. If a future that
//! uses a [`Guard`] may be dropped half-way, let it [close on drop](Guard::close_on_drop) until the exchange is over.
//!
//! # Several runtimes
//!
//! A connection belongs to the tokio runtime in which it was opened: whoever uses it, that one must tell it what has arrived.
//! Several runtimes may share a pool, if all of them are driven; on a connection of one that nobody drives, a user in another
//! waits for ever. Where each call drives a runtime of its own for a while (`block_on` of a current-thread runtime), give
//! each runtime its own pool. A connection of a runtime that is gone is not handed out.
//!
//! # How exact the budget is
//!
//! A slot is one open connection, and one that has to make room is closed before the next is dialed. A resource has one
//! connection at a time: while it is being closed, who asks for it waits. Only a dial to a name with several addresses may
//! have more than one socket open for a moment: if one does not answer, another is tried beside it every 250 ms (RFC 8305).
//!
//! # Other things than connections
//!
//! The budget is one of descriptors, and a program has other uses for these. [`slot`](Pool::slot) gives out the bare
//! right to one, and [`resource_fn`](Pool::resource_fn) keeps anything that can be opened and is worth to be kept open.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;

use self::make::{Dialed, Made};
use self::shared::Shared;
use crate::{Address, Dial, Error, TcpDialer};

pub use self::builder::PoolBuilder;
pub use self::error::GetError;
pub use self::event::{CloseReason, Event};
pub use self::guard::Guard;
pub use self::resource::Resource;
pub use self::slot::Slot;
pub use self::stats::Stats;

mod book;
mod builder;
mod claim;
mod dialing;
mod error;
mod event;
mod guard;
mod hooks;
mod inner;
mod limit;
mod look;
mod make;
mod notice;
mod reaper;
mod resource;
mod shared;
mod slot;
mod stats;

/// The right to so many open connections across all addresses; see [the module](self).
///
/// Clones are the same pool. It lives as long as a clone or a resource of it does.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

impl Pool {
    /// A pool of `max` slots, with the default settings.
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

    /// The pool of this process, which all parts of a program share.
    ///
    /// Its size is the limit of descriptors (on Linux, the soft `RLIMIT_NOFILE` at the time of the first call, so that a
    /// program may raise it before) less 50 for other uses, or less the half, if that is fewer. Elsewhere than on Linux, a
    /// limit of 256 is assumed. It has the default settings.
    pub fn global() -> &'static Self {
        static GLOBAL: OnceLock<Pool> = OnceLock::new();
        GLOBAL.get_or_init(|| Self { shared: Shared::new(PoolBuilder::new(limit::slots_of_this_process())) })
    }

    /// A resource for an address, dialed by a [`TcpDialer`]. Nothing is dialed yet.
    ///
    /// Two resources for the same address are two connections; clone one to share it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if the address cannot be one.
    pub fn resource(&self, address: impl Into<Address>) -> Result<Resource<TcpStream>, Error> {
        let address = address.into();
        let mut dialer = TcpDialer::new(address.clone());
        dialer.take_socket_options(&self.shared.settings.socket_options);
        self.resource_with(address.as_str(), dialer)
    }

    /// A resource whose connections a dialer of your own makes: TLS, Unix sockets, a session set-up. The name is for errors
    /// and events.
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
    /// What the dialer's [`check`](Dial::check) says.
    pub fn resource_with<D: Dial>(&self, name: &str, dialer: D) -> Result<Resource<D::Stream>, Error> {
        dialer.check()?;
        Ok(Resource::new(&self.shared, name, Dialed(dialer), look::is_quiet_stream::<D>))
    }

    /// A resource of any kind that takes a descriptor while it is open: a file, a process, a mapping.
    ///
    /// It is handed out again without a look, unless it is a TCP or Unix socket. As with all resources, it is opened within a
    /// tokio runtime.
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
        Resource::new(&self.shared, name, Made(open), |_| true)
    }

    /// Waits for the bare right to one descriptor, for a use that the pool knows nothing of. An idle connection is closed
    /// for it if need be.
    ///
    /// # Errors
    ///
    /// [`GetError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future gives up the place among those who wait.
    pub async fn slot(&self) -> Result<Slot, GetError> {
        Slot::wait(&self.shared).await
    }

    /// The same, if there is one without waiting for anybody.
    ///
    /// # Errors
    ///
    /// [`GetError::Busy`], [`GetError::Closed`].
    pub fn try_slot(&self) -> Result<Slot, GetError> {
        Slot::take(&self.shared)
    }

    /// How the slots are used at this moment, and what has happened so far. This asks each resource of the pool in turn, and
    /// who needs a slot waits for the end of that: 10 µs or so for a thousand of them.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Closes all connections that are idle. Those in use are not touched.
    pub fn close_idle(&self) {
        self.shared.close_idle(CloseReason::Requested);
    }

    /// Closes the pool: who waits, or asks from now on, gets [`GetError::Closed`]; idle connections are closed at once, those
    /// in use when they come back.
    pub fn close(&self) {
        self.shared.close();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
