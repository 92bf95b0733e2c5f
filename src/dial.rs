//! How links are made.

use std::any::Any;
use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Error, SocketOptions};

pub use self::tcp::TcpDialer;
#[cfg(feature = "tls")]
pub use self::tls::{Tls, TlsDialer};
#[cfg(unix)]
pub use self::unix::UnixDialer;

mod happy_eyeballs;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
#[cfg(unix)]
mod unix;

/// Makes one link after the other: resolve, connect, set up the session.
///
/// Implemented by [`TcpDialer`], by closures (see [`dial_fn`]), and by what [`and_then`](Dial::and_then) makes of
/// them. One call is one dial. The actor makes one at a time, and the whole of it has to fit into
/// [`dial_timeout`](crate::Builder::dial_timeout); an error is a failed dial, told to the logger as
/// [`Error::DialFailure`], and the next dial follows after the backoff.
///
/// # Cancel safety
///
/// The future of a dial is dropped, at whatever await it stands, when the dial timeout has passed, when the connection
/// is closed, when its last handle is dropped, and when the runtime shuts down. It must leave nothing behind that
/// disturbs the next dial, which starts with a new call. A dial that panics counts as failed.
///
/// # Examples
///
/// A greeting is read before anyone sees the link:
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
pub trait Dial: Send + 'static {
    /// What a dial makes.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Dials once.
    ///
    /// # Errors
    ///
    /// Whatever kept the link from coming up. Any error is followed by another dial.
    ///
    /// # Cancel safety
    ///
    /// See [the trait](Dial#cancel-safety): the future may be dropped at any await.
    fn dial(&mut self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Checks the dialer's own settings when the connection is built. The default finds no fault.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] with the offending value and what was expected.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Takes the [`SocketOptions`] that the builder was given, to set them on each socket before it connects. Returns
    /// whether the dialer does that.
    ///
    /// The default says `false`. Then they are set on the finished stream if that is a `TcpStream`, but for the local
    /// address, for which it is too late; any other stream cannot have them, and `build` says so.
    fn take_socket_options(&mut self, options: &SocketOptions) -> bool {
        let _ = options;
        false
    }

    /// Hears that the last dial has failed, be it that a set-up on top of this dialer's stream failed, or that its time
    /// had run out.
    ///
    /// For dialers with a choice to make, such as a [`TcpDialer`] of several addresses, which moves on to the next one.
    /// One that is built on top of another passes this on. The default does nothing.
    fn dial_failed(&mut self) {}

    /// Whether the peer is known to have closed `stream`. Asked before each write, so that it fails instead of being
    /// lost; it should cost next to nothing, and it must not block.
    ///
    /// Not asked of a `TcpStream` or a `UnixStream`, of which more is known. The default knows nothing and says `false`.
    /// For a stream on top of TCP, such as one of TLS, [`TcpDialer::is_closed`](TcpDialer) asks the kernel about the
    /// socket beneath:
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

    /// Runs a session set-up on each fresh stream, which may also turn it into a stream of another type.
    ///
    /// If the type stays the same, the dialer's [`is_closed`](Dial::is_closed) stays in use.
    ///
    /// The set-up is part of the dial: it shares the dial timeout, and if it fails, the dial has failed. It should hear
    /// the peer's answer before it returns, and must leave no bytes behind in a buffer of its own (a `BufReader` may have
    /// read on beyond the answer).
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

/// A closure that makes a stream is a dialer.
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
/// A closure is a dialer as it stands; through this function the compiler also finds the types of one that is written
/// in place.
///
/// ```
/// use perconn::{Conn, dial_fn};
/// use tokio::net::TcpSocket;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let (from, to) = ("127.0.0.1:0".parse()?, server.local_addr()?);
/// // From a certain address of this machine.
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
    dialer: D,
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

    fn dial_failed(&mut self) {
        self.dialer.dial_failed();
    }

    fn is_closed(stream: &T) -> bool {
        (stream as &dyn Any).downcast_ref().is_some_and(D::is_closed)
    }
}
