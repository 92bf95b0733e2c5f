//! Dialers: how links are made.
//!
//! A dial is one attempt to make a link: resolve the name, connect, set up the session. [`Dial`] is the trait,
//! [`TcpDialer`] the default. `happy_eyeballs` tries the addresses of one name, `ProxyDialer` goes through a proxy,
//! `TlsDialer` adds TLS.
//! Next: the actor in `actor.rs`, which decides when to dial.

use std::any::Any;
use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Address, Error, SocketOptions};

#[cfg(feature = "proxy")]
pub use self::proxy::{Proxy, ProxyDialer};
pub use self::tcp::TcpDialer;
#[cfg(feature = "tls")]
pub use self::tls::{Tls, TlsDialer, TlsHandle};
#[cfg(unix)]
pub use self::unix::UnixDialer;

#[cfg(feature = "postgres")]
pub(crate) use self::at_address::address_if_several;
pub(crate) use self::at_address::name_address;
#[cfg(feature = "postgres")]
pub(crate) use self::boxed::{BoxedDialer, BoxedStream};

mod address_history;
mod address_list;
mod at_address;
mod blocking_call;
#[cfg(feature = "postgres")]
mod boxed;
mod happy_eyeballs;
#[cfg(feature = "proxy")]
mod proxy;
mod resolver;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
#[cfg(unix)]
mod unix;

/// Makes links: resolves, connects, sets up the session.
///
/// [`TcpDialer`], closures (see [`dial_fn`]) and the results of [`and_then`](Dial::and_then) implement it. One call of
/// [`dial`](Dial::dial) is one dial. The actor runs one dial at a time. The whole dial has to fit into
/// [`dial_timeout`](crate::Builder::dial_timeout). After an error, the logger gets an [`Error::DialFailure`], and the
/// next dial follows after the backoff.
///
/// # Cancel safety
///
/// The future of a dial can be dropped at any await: when the dial timeout passes, when the connection is closed, when
/// its last handle is dropped, and when the runtime shuts down. It must leave nothing behind that disturbs the next
/// dial, which starts with a new call. A dial that panics counts as failed.
///
/// # Examples
///
/// Read a greeting before any handle gets the link:
///
/// ```
/// use perconn::{Conn, Dial, TcpDialer};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let address = server.local_addr()?;
/// # tokio::spawn(async move { server.accept().await?.0.write_all(b"hello").await });
/// let dialer = TcpDialer::new(address).and_then(|mut stream| async move {
///     let mut greeting = [0; 5];
///     stream.read_exact(&mut greeting).await?;
///     Ok(stream)
/// });
/// let conn = Conn::builder(address).dialer(dialer).connect().await?;
/// # conn.close().await;
/// # Ok(())
/// # }
/// ```
#[doc(alias("connector", "connect", "transport"))]
pub trait Dial: Send + 'static {
    /// The stream of a link.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Dials once.
    ///
    /// # Errors
    ///
    /// The reason why there is no link. Another dial follows after any error.
    ///
    /// # Cancel safety
    ///
    /// See [the trait](Dial#cancel-safety): the future may be dropped at any await.
    fn dial(&mut self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Checks the dialer's own settings when the connection is built. The default returns `Ok`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] with the offending value and what was expected.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Takes the [`SocketOptions`] of the builder, to set them on each socket before it connects. Returns whether the
    /// dialer does so.
    ///
    /// The default returns `false`. If the stream is a `TcpStream`, the options are then set after the dial, except for
    /// those that have to be set before it, which make `build` fail: the local address, the interface, the mark and Multipath TCP.
    /// If it is of another type, `build` fails if any option is set.
    fn take_socket_options(&mut self, options: &SocketOptions) -> bool {
        let _ = options;
        false
    }

    /// The addresses that the dialer chooses from, one for each dial. The default is none: they are not known.
    ///
    /// If there are several, [`connect`](crate::Builder::connect) makes one dial for each of them, and the errors of
    /// dials name the [`dialed_address`](Dial::dialed_address).
    ///
    /// A dialer on top of another one passes the call on.
    fn addresses(&self) -> &[Address] {
        &[]
    }

    /// The address that the last dial went to, for its errors and for the server's name in TLS. The default is `None`: it
    /// is the address that the builder was made with.
    ///
    /// A dialer on top of another one passes the call on.
    fn dialed_address(&self) -> Option<&Address> {
        None
    }

    /// What the last dial was doing when it was dropped, as the subject of its error. The default is `None`: it is not known.
    ///
    /// Called after a dial that has failed or taken too long. With the dial timeout, the error of a `TcpDialer` is
    /// then `name resolution: the dial took longer than 5s`. Return `None` if the last dial has ended by itself: its own error
    /// says what has failed.
    ///
    /// A dialer on top of another one passes the call on.
    fn unfinished_step(&self) -> Option<String> {
        None
    }

    /// Called when the last dial was of no use: it failed in this dialer, in a set-up on top of its stream or by the
    /// dial timeout, or its link ended before [`stable_after`](crate::Builder::stable_after).
    ///
    /// For dialers that can choose, such as a [`TcpDialer`] with several addresses, which moves on to the next one. A
    /// dialer on top of another one passes the call on. The default does nothing.
    fn dial_failed(&mut self) {}

    /// Takes a warning about the last dial that is not the reason of its failure. The default is `None`.
    ///
    /// Called after each dial, whether it has succeeded, failed or taken too long. The connection's logger gets the
    /// warning; a pool writes it to the `log` crate. For example, a `TlsDialer` reports new certificate files that are
    /// not usable. A dialer on top of another one passes the call on.
    fn take_warning(&mut self) -> Option<Error> {
        None
    }

    /// Whether the peer is known to have closed `stream`. Called before each write, so that a write to a closed stream
    /// fails instead of being lost. It should be cheap and must not block.
    ///
    /// Not called for a `TcpStream` or a `UnixStream`: there the connection asks the kernel itself. The default returns
    /// `false`. For a stream on top of TCP, such as a TLS session, call [`TcpDialer::is_closed`](TcpDialer), which asks
    /// the kernel about the socket below:
    ///
    /// ```
    /// use std::io;
    /// use perconn::{Dial, TcpDialer};
    /// use tokio::io::BufStream;
    /// use tokio::net::TcpStream;
    ///
    /// struct Buffered(TcpDialer);
    ///
    /// impl Dial for Buffered {
    ///     type Stream = BufStream<TcpStream>;
    ///
    ///     async fn dial(&mut self) -> io::Result<Self::Stream> {
    ///         self.0.dial().await.map(BufStream::new)
    ///     }
    ///
    ///     fn is_closed(stream: &Self::Stream) -> bool {
    ///         TcpDialer::is_closed(stream.get_ref())
    ///     }
    /// }
    /// ```
    fn is_closed(stream: &Self::Stream) -> bool {
        let _ = stream;
        false
    }

    /// Why the peer has closed `stream`, if the stream knows more than that it did. It must not block.
    ///
    /// For a program that only writes. With TLS, for example, the server's reason is in a record that nobody reads.
    /// Called after [`is_closed`](Dial::is_closed) has returned `true`, and after a write, flush or shutdown has
    /// failed. Not called for a `TcpStream` or a `UnixStream`.
    ///
    /// It must take nothing from a reader: neither bytes that arrived before, nor the end of the stream or its error.
    /// It may poll the stream with a waker of its own: every waiting handle is woken afterwards. The default returns
    /// `None`.
    fn closing_error(stream: &mut Self::Stream) -> Option<io::Error> {
        let _ = stream;
        None
    }

    /// Runs a session set-up on each new stream, which may also turn it into a stream of another type.
    ///
    /// If the type stays the same, the dialer's [`is_closed`](Dial::is_closed) and
    /// [`closing_error`](Dial::closing_error) stay in use.
    ///
    /// The set-up is part of the dial: it shares the dial timeout, and if it fails, the dial fails. It should read the
    /// peer's answer before it returns. It must leave no bytes in a buffer of its own: a `BufReader` may have read
    /// beyond the answer.
    #[doc(alias("on_connect", "handshake", "login", "after_connect"))]
    fn and_then<F, Fut, T>(self, set_up: F) -> AndThen<Self, F>
    where
        Self: Sized,
        F: FnMut(Self::Stream) -> Fut + Send + 'static,
        Fut: Future<Output = io::Result<T>> + Send,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        AndThen { dialer: self, set_up }
    }
}

/// A closure that returns a future of a stream is a dialer.
impl<F, Fut, S> Dial for F
where
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future<Output = io::Result<S>> + Send,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = S;

    fn dial(&mut self) -> impl Future<Output = io::Result<S>> + Send {
        self()
    }
}

/// Makes a dialer from a closure.
///
/// Every closure of the right type is a dialer. Passing it through this function helps the compiler to infer its types
/// where it is written in place.
///
/// ```
/// use perconn::{Conn, dial_fn};
/// use tokio::net::TcpSocket;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let (from, to) = ("127.0.0.1:0".parse()?, server.local_addr()?);
/// // Dial from a given address of this machine.
/// let dialer = dial_fn(move || async move {
///     let socket = TcpSocket::new_v4()?;
///     socket.bind(from)?;
///     socket.connect(to).await
/// });
/// let conn = Conn::builder(to).dialer(dialer).connect().await?;
/// # drop(conn);
/// # Ok(())
/// # }
/// ```
pub fn dial_fn<F, Fut, S>(dial: F) -> F
where
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future<Output = io::Result<S>> + Send,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    dial
}

/// A dialer with a session set-up; made by [`Dial::and_then`].
#[derive(Clone, Debug)]
pub struct AndThen<D, F> {
    /// Makes the stream.
    dialer: D,
    /// Turns each new stream into the session. Its failure is the failure of the dial.
    set_up: F,
}

impl<D, F, Fut, T> Dial for AndThen<D, F>
where
    D: Dial,
    F: FnMut(D::Stream) -> Fut + Send + 'static,
    Fut: Future<Output = io::Result<T>> + Send,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = T;

    async fn dial(&mut self) -> io::Result<T> {
        let stream = self.dialer.dial().await?;
        (self.set_up)(stream).await
    }

    fn check(&self) -> Result<(), Error> {
        self.dialer.check()
    }

    fn take_socket_options(&mut self, options: &SocketOptions) -> bool {
        self.dialer.take_socket_options(options)
    }

    fn addresses(&self) -> &[Address] {
        self.dialer.addresses()
    }

    fn dialed_address(&self) -> Option<&Address> {
        self.dialer.dialed_address()
    }

    fn unfinished_step(&self) -> Option<String> {
        self.dialer.unfinished_step()
    }

    fn dial_failed(&mut self) {
        self.dialer.dial_failed();
    }

    fn take_warning(&mut self) -> Option<Error> {
        self.dialer.take_warning()
    }

    fn is_closed(stream: &T) -> bool {
        (stream as &dyn Any).downcast_ref().is_some_and(D::is_closed)
    }

    fn closing_error(stream: &mut T) -> Option<io::Error> {
        (stream as &mut dyn Any).downcast_mut().and_then(D::closing_error)
    }
}
