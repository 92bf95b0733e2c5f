//! One connection for client libraries that take a stream by value.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::conn::Released;
use crate::sync::Mutex;
use crate::{Conn, Error, ReadHalf, WriteHalf};

pub use self::stream::Session;

mod stream;

/// A connection that is lent to one client after the other.
///
/// A client of HTTP, PostgreSQL, Redis, WebSocket or TLS takes its stream by value, and what it knows of the peer (who
/// is logged in, what was prepared, which answer comes next) is true on one link only. After a break it has to begin
/// anew, with a handshake of its own. [`next`](Sessions::next) lends such a client the stream for one such conversation, a
/// [`Session`]. When the client fails, drop it and make another over the next session; the redial was in the
/// connection's hands all the while.
///
/// Without this type, a `Conn` in the hands of a client ends with the client; and a client that goes on after its error (a
/// last message, a `shutdown`) would do so on the next link, where nobody has shaken hands.
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
    slot: Arc<Mutex<Slot<S>>>,
}

/// What the sessions of a connection share.
struct Slot<S> {
    // Halves, as a whole connection that a write was told of cannot read on.
    read: ReadHalf<S>,
    write: WriteHalf<S>,
    /// The session that may use the connection.
    number: u64,
    /// The link on which that session has a conversation under way.
    busy: Option<u64>,
}

impl<S> Slot<S> {
    /// Ends the conversation that is under way: the peer is in the middle of it, so that its link is of no more use.
    ///
    /// Nobody is to be told of it any more. A stream that is no socket ends when what is returned is dropped; that is to be
    /// done when the slot is unlocked, as it is the program's own code.
    fn hang_up(&mut self) -> [Released<S>; 2] {
        let Some(generation) = self.busy.take() else { return [None, None] };
        [self.write.discard_link(generation), self.read.skip_breaks(generation)]
    }

    /// Lets go of all links.
    fn let_go(&mut self) -> [Released<S>; 2] {
        let newest = self.read.generation();
        [self.read.skip_breaks(newest), self.write.skip_breaks(newest)]
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Slot<S> {
    /// Takes the next link in hand: one on which nothing was said. Gives its number.
    fn poll_fresh_link(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        loop {
            // The reading half is told of what is to be told; the other one has no need to be.
            drop(self.write.skip_breaks(self.read.last_reported()));
            match ready!(self.read.poll_live_link(cx)) {
                Err(error) if is_break(&error) => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Sessions<S> {
    /// Takes a connection to lend. A link that is up is used for the first session.
    ///
    /// What has been read or written on the link by then belongs to the first session, too.
    pub fn new(conn: Conn<S>) -> Self {
        let (read, write) = conn.into_split();
        Self { slot: Arc::new(Mutex::new(Slot { read, write, number: 0, busy: None })) }
    }

    /// Begins the next session, on a link that none has used before.
    ///
    /// The session before is over from the first poll on: its operations fail, and if it still had a live link, that
    /// link is broken as by [`Conn::reconnect`], so that its peer is not left in the middle of a conversation. The redial
    /// keeps to the backoff.
    ///
    /// # Errors
    ///
    /// [`Error::Down`] or [`Error::WaitTimeout`] if there is no link and [`when_down`](crate::Builder::when_down) says not to
    /// wait (any longer); [`Error::ClosedConnection`], [`Error::GaveUp`] or [`Error::RuntimeShutdown`] if there will be none.
    /// They are inside the `io::Error`; see [`Error::of`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, the session before is over; apart from that, dropping the future only ends the wait.
    pub async fn next(&mut self) -> io::Result<Session<S>> {
        let (number, released) = {
            let mut slot = lock(&self.slot);
            slot.number += 1;
            (slot.number, slot.hang_up())
        };
        drop(released);
        let generation = poll_fn(|cx| {
            let mut slot = lock(&self.slot);
            let generation = ready!(slot.poll_fresh_link(cx))?;
            slot.busy = Some(generation);
            Poll::Ready(io::Result::Ok(generation))
        })
        .await?;
        Ok(Session::new(Arc::clone(&self.slot), number, generation))
    }

    /// Closes the connection, and with it the session that is in use; see [`Conn::close`].
    ///
    /// Dropping the `Sessions` closes it as well, as soon as the session in use is dropped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, the connection is closed, and dropping the future only ends the wait.
    pub fn close(&self) -> impl Future<Output = ()> + use<S> {
        let slot = Arc::downgrade(&self.slot);
        let close = lock(&self.slot).write.close();
        async move {
            let mut close = pin!(close);
            // From the first poll on, it is closed.
            let polled = poll_fn(|cx| Poll::Ready(close.as_mut().poll(cx))).await;
            let released = slot.upgrade().map(|slot| lock(&slot).let_go());
            drop(released);
            if polled.is_pending() {
                close.await;
            }
        }
    }
}

impl<S> fmt::Debug for Sessions<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("status", &lock(&self.slot).write.status()).finish_non_exhaustive()
    }
}

/// (A panic of the stream in another task has been seen there.)
fn lock<S>(slot: &Mutex<Slot<S>>) -> MutexGuard<'_, Slot<S>> {
    slot.lock()
}

/// Whether an error tells of a link's break.
fn is_break(error: &io::Error) -> bool {
    matches!(Error::of(error), Some(Error::IoError { .. }))
}
