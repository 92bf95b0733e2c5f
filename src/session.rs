//! A connection that hands out one stream per link, for client libraries that take a stream by value.
//!
//! Next: [`stream`], the stream of one session.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::conn::Released;
use crate::sync::Mutex;
use crate::{Conn, Error, ReadHalf, WriteHalf};

pub use self::stream::Session;

mod stream;

/// A connection for clients that take their stream by value: one [`Session`] after another, each on a link of its own.
///
/// A client of HTTP, PostgreSQL, Redis, WebSocket or TLS takes its stream by value. What it knows of the peer is true
/// on one link only: the login, the prepared statements, which answer comes next. After a break it has to start over
/// with a handshake of its own. [`next`](Sessions::next) returns a stream for one such conversation. When the client
/// fails, drop it and make another one over the next session; the connection has been redialing in the meantime.
///
/// Without this type, a client that owns a `Conn` ends the connection when it is dropped. And a client that goes on
/// after its error (a last message, a `shutdown`) would do so on the next link, without a handshake there.
///
/// # Examples
///
/// A protocol with a greeting, whose server answers one request on each link and closes:
///
/// ```
/// use perconn::{Conn, Sessions};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let address = server.local_addr()?;
/// # tokio::spawn(async move {
/// #     loop {
/// #         let (mut stream, _) = server.accept().await?;
/// #         let mut request = [0; 6];
/// #         stream.read_exact(&mut request).await?;
/// #         stream.write_all(&request[5..]).await?;
/// #     }
/// #     #[allow(unreachable_code)]
/// #     std::io::Result::Ok(())
/// # });
/// # let delay = std::time::Duration::from_millis(5);
/// let conn = Conn::builder(address).retry_min(delay).build()?;
/// let mut sessions = Sessions::new(conn);
/// let mut answers = Vec::new();
/// for request in [b"1", b"2"] {
///     let mut client = sessions.next().await?;
///     client.write_all(b"HELLO").await?;
///     client.write_all(request).await?;
///     client.read_to_end(&mut answers).await?; // the end of this link, not of the connection
/// }
/// assert_eq!(answers, b"12");
/// sessions.close().await;
/// # Ok(())
/// # }
/// ```
pub struct Sessions<S = TcpStream> {
    /// Locked for one poll at a time. The sessions share it.
    conn: Arc<Mutex<SessionConn<S>>>,
}

/// The connection that all sessions share.
struct SessionConn<S> {
    // Halves, because a whole connection drops unread bytes once a write has reported the break.
    /// Sees every break, and takes the next link.
    read: ReadHalf<S>,
    /// Skips the breaks that `read` has reported.
    write: WriteHalf<S>,
    /// The number of the session that may use the connection.
    current: u64,
    /// The link on which that session has a conversation under way.
    active_link: Option<u64>,
}

impl<S> SessionConn<S> {
    /// Breaks the link of the conversation that is under way: the peer is in the middle of it, so nobody else can use
    /// the link.
    ///
    /// No operation reports that break. Drop the result after the unlock: a stream that is not a socket ends then,
    /// and that runs the program's own code.
    fn break_active_link(&mut self) -> [Released<S>; 2] {
        let Some(generation) = self.active_link.take() else { return [None, None] };
        [self.write.discard_link(generation), self.read.skip_breaks(generation)]
    }

    /// Lets go of all links, with the same result.
    fn release_links(&mut self) -> [Released<S>; 2] {
        let newest = self.read.generation();
        [self.read.skip_breaks(newest), self.write.skip_breaks(newest)]
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> SessionConn<S> {
    /// Takes the next link on which nothing was read or written, and returns its number.
    ///
    /// Drop what is `released` after the unlock, as with [`break_active_link`](Self::break_active_link).
    fn poll_fresh_link(&mut self, cx: &mut Context<'_>, released: &mut Vec<Released<S>>) -> Poll<io::Result<u64>> {
        loop {
            // The read half gets the reports of all breaks. The write half need not report them again.
            let link = self.write.skip_breaks(self.read.last_reported());
            if link.is_some() {
                released.push(link);
            }
            match ready!(self.read.poll_live_link(cx)) {
                Err(error) if matches!(Error::of(&error), Some(Error::IoError { .. })) => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Sessions<S> {
    /// Takes a connection. If a link is up, the first session uses it.
    ///
    /// What has been read or written on that link before belongs to the first session, too.
    pub fn new(conn: Conn<S>) -> Self {
        let (mut read, write) = conn.into_split();
        // A session ends like a `TcpStream`: clients tell the end of the stream from an error.
        read.set_close_as_error(Some(false));
        Self { conn: Arc::new(Mutex::new(SessionConn { read, write, current: 0, active_link: None })) }
    }

    /// Begins the next session, on a link that no session has used before.
    ///
    /// From the first poll on, the previous session is over: its operations fail. If it still has a live link, that
    /// link is broken as by [`Conn::abandon`], so that its peer is not left in the middle of a conversation. The
    /// redial keeps to the backoff.
    ///
    /// # Errors
    ///
    /// [`Error::Down`] or [`Error::WaitTimeout`] if there is no link and [`when_down`](crate::Builder::when_down)
    /// says not to wait, or no longer. [`Error::ClosedConnection`], [`Error::GaveUp`] or [`Error::RuntimeShutdown`]
    /// if there will be no link. They are inside the `io::Error`; see [`Error::of`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future only ends the wait. Once it was polled, the previous session is over.
    pub async fn next(&mut self) -> io::Result<Session<S>> {
        let (number, released) = {
            let mut conn = self.conn.lock();
            conn.current += 1;
            (conn.current, conn.break_active_link())
        };
        drop(released);
        let generation = poll_fn(|cx| {
            let mut released = Vec::new();
            let mut conn = self.conn.lock();
            let polled = conn.poll_fresh_link(cx, &mut released);
            if let Poll::Ready(Ok(generation)) = &polled {
                conn.active_link = Some(*generation);
            }
            drop(conn);
            drop(released);
            polled
        })
        .await?;
        Ok(Session::new(Arc::clone(&self.conn), number, generation))
    }

    /// Closes the connection, and with it the current session; see [`Conn::close`].
    ///
    /// Dropping the `Sessions` and the current session closes the connection as well.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, the connection is closed, and dropping the future only ends the wait.
    pub fn close(&self) -> impl Future<Output = ()> + use<S> {
        let conn = Arc::downgrade(&self.conn);
        let close = self.conn.lock().write.close();
        async move {
            let mut close = pin!(close);
            // The first poll closes. The links are released before the rest of the wait.
            let polled = poll_fn(|cx| Poll::Ready(close.as_mut().poll(cx))).await;
            let released = conn.upgrade().map(|conn| conn.lock().release_links());
            drop(released);
            if polled.is_pending() {
                close.await;
            }
        }
    }
}

impl<S> fmt::Debug for Sessions<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("status", &self.conn.lock().write.status()).finish_non_exhaustive()
    }
}
