//! The stream that a handler gets: a transport with time limits, which ends when the acceptor stops.
//!
//! Next: [`super::line`], a handler of lines on top of it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::task::coop;

use super::Peer;
use super::abandoned_write::AbandonedProbe;
use super::conn_record::{Activity, ConnRecord, StreamTotals, Waiter};
use super::quiet_time::QuietTime;
use super::registry::Registration;
use super::transport::{Socket, Transport};
use super::wait_clock::WaitClock;

/// An accepted connection: a TCP or Unix socket, or a TLS session over one.
///
/// It is read and written like a `TcpStream`. With TLS, flush what you have written before you do anything but read.
/// To read and write in two tasks, use [`tokio::io::split`]. Drop it to close it. Its acceptor slot is free when it
/// is dropped and its handler has ended.
///
/// # When it ends by itself
///
/// A read that has to wait longer than the time limits allow returns an error of the kind
/// [`TimedOut`](io::ErrorKind::TimedOut); so does a write. The stream still works after that, so that the handler can
/// send a final message.
///
/// While the acceptor [stops](super::Acceptor::stop), a read returns `Ok(0)` as soon as nothing is under way, as if
/// the peer had closed. Nothing is under way if all of this is true:
///
/// - no data has arrived since the last write or [`message_done`](Self::message_done);
/// - no write waits for the peer;
/// - there is no [`busy`](Self::busy) mark, and no [`stopping`](Self::stopping) future;
/// - nothing has passed for a second, if your handler reads while it writes, as for several requests at once (HTTP/2,
///   pipelining), or in a proxy: then a write does not show which requests are answered. (For half of the stop's deadline,
///   if that is shorter.)
///
/// A request that has reached this machine within the first second of the stop, or the first half of its deadline, is
/// handed to your handler before.
///
/// If nothing passes for longer than a second while your handler works, or if you have a way of your own to end a session
/// (hyper's `graceful_shutdown`, a goodbye of the protocol), say so by `busy` or `stopping`.
///
/// When the deadline is over, the connection is cut: every operation fails with
/// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted), and the handler is dropped.
///
/// # The end of a TLS session
///
/// If a client closes without a close_notify, a read fails with [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), as what it has
/// sent may be truncated. But many clients never send one. So when your handler returns this error, the connection counts as
/// finished if nothing was under way: no data had arrived since the last write or `message_done`, and no write waited.
/// Otherwise it counts as failed.
///
/// # Cancel safety
///
/// Reads and writes are as cancel safe as those of a `TcpStream`: a dropped `read` has read nothing, and a dropped
/// `write` has written nothing. With TLS, a dropped `write` may have sent a part of what earlier writes have left.
///
/// # Examples
///
/// ```
/// use perconn::acceptor::{Acceptor, Peer, Stream};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// /// Answers each byte with the next one, until the client closes or the acceptor stops.
/// async fn successor(mut stream: Stream, _peer: Peer) -> std::io::Result<()> {
///     let mut byte = [0];
///     while stream.read(&mut byte).await? > 0 {
///         stream.write_all(&[byte[0].wrapping_add(1)]).await?;
///     }
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), perconn::acceptor::Error> {
/// let acceptor = Acceptor::builder("127.0.0.1:0").handler(successor).build()?;
/// # drop(acceptor);
/// # Ok(())
/// # }
/// ```
pub struct Stream {
    /// The socket, or the TLS session on it.
    transport: Transport,
    /// How long reads have waited.
    read_clock: WaitClock,
    /// How long writes have waited.
    write_clock: WaitClock,
    /// Used by reads, while the acceptor stops.
    abandoned: AbandonedProbe,
    /// Used by reads, while the acceptor stops.
    quiet: QuietTime,
    /// Whether a write means that everything received so far is handled. Lines say so by `message_done` only.
    writes_are_answers: bool,
    /// What the handler has read.
    bytes_read: u64,
    /// What the handler has written.
    bytes_written: u64,
    /// A read ran out of time, and nothing has arrived since.
    read_timed_out: bool,
    /// A write ran out of time, and the peer has taken nothing since.
    write_timed_out: bool,
    /// The TLS session ended without a close_notify, while nothing was under way.
    unannounced_end: bool,
    /// What the handler's task and the acceptor see of this stream.
    record: Arc<ConnRecord>,
    /// Keeps the slot. The last field, so that the transport is closed before the slot is free.
    registration: Arc<Registration>,
}

impl Stream {
    /// The stream of a registered connection.
    pub(super) fn new(transport: Transport, registration: &Arc<Registration>, writes_are_answers: bool) -> Self {
        let (reads, writes) = registration.registry.settings.time_budgets(writes_are_answers);
        Self {
            transport,
            read_clock: WaitClock::new(reads),
            write_clock: WaitClock::new(writes),
            abandoned: AbandonedProbe::default(),
            quiet: QuietTime::default(),
            writes_are_answers,
            bytes_read: 0,
            bytes_written: 0,
            read_timed_out: false,
            write_timed_out: false,
            unannounced_end: false,
            record: Arc::clone(&registration.record),
            registration: Arc::clone(registration),
        }
    }

    /// The number of the connection, from 1, as in the events.
    pub fn id(&self) -> u64 {
        self.record.id
    }

    /// The other end.
    pub fn peer(&self) -> Peer {
        self.record.peer
    }

    /// The socket, for its options; also the socket under TLS. `None` if it is a Unix socket.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self.transport.socket() {
            Socket::Tcp(stream) => Some(stream),
            #[cfg(unix)]
            Socket::Unix(_) => None,
        }
    }

    /// The socket, if it is a Unix socket.
    #[cfg(unix)]
    pub fn unix(&self) -> Option<&UnixStream> {
        match self.transport.socket() {
            Socket::Unix(stream) => Some(stream),
            Socket::Tcp(_) => None,
        }
    }

    /// The TLS session, for its protocol (ALPN) and the client's certificates. `None` without TLS.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls(&self) -> Option<&tokio_rustls::rustls::ServerConnection> {
        match &self.transport {
            Transport::Tls(stream) => Some(stream.get_ref().1),
            Transport::Plain(_) => None,
        }
    }

    /// Keeps the slot.
    pub(super) fn registration(&self) -> &Arc<Registration> {
        &self.registration
    }

    /// The record of the connection.
    pub(super) fn record(&self) -> &Arc<ConnRecord> {
        &self.record
    }

    /// The transport, without limits and stops.
    pub(super) fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// The error of every operation once the connection is over.
    fn poll_over<T>(&self, cx: &mut Context<'_>) -> Option<Poll<io::Result<T>>> {
        let aborted = || Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the acceptor cut the connection"));
        self.record.is_over().then(|| poll_without_io(cx, aborted))
    }

    /// `Ready` if the stop ends the connection now. `Pending` if it does not, or not yet; the task is woken when that
    /// changes.
    fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.record.is_draining() {
            return Poll::Pending;
        }
        let activity = self.record.activity();
        if activity.has_request() || self.record.is_held() {
            return Poll::Pending;
        }
        if let Some(last_call) = self.record.last_call() {
            ready!(self.quiet.poll_over(cx, last_call.quiet));
        }
        if activity.has_write() || self.abandoned.is_running() {
            ready!(self.abandoned.poll_abandoned(&self.record, cx));
            self.record.set_was_idle();
        }
        Poll::Ready(())
    }

    /// Sends what completed writes have left in the TLS session. `Ready` when the kernel has everything.
    ///
    /// A program that waits for the answer to its write has no other chance to send the rest.
    fn poll_send_pending(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.transport.has_unsent() {
            return Poll::Ready(());
        }
        self.record.set_waker(Waiter::Reader, cx);
        // A write of another task may wait for the same socket, so that all waiters are woken.
        let all_waiters = Waker::from(Arc::clone(&self.record));
        let flushed = Pin::new(&mut self.transport).poll_flush(&mut Context::from_waker(&all_waiters));
        if flushed.is_pending() && self.transport.has_unsent() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Accounts for a read that has completed with this many bytes, or failed.
    fn note_read(&mut self, bytes: usize) {
        self.read_clock.stop();
        if bytes == 0 {
            return;
        }
        self.bytes_read += bytes as u64;
        self.quiet.note_read();
        self.read_timed_out = false;
        self.record.request_received();
        self.read_clock.earn(bytes);
        if self.writes_are_answers {
            self.read_clock.first_arrived();
        }
    }

    /// Accounts for a write, flush or shutdown that has succeeded.
    fn note_written(&mut self, bytes: usize, has_waited: bool) {
        self.bytes_written += bytes as u64;
        if bytes > 0 {
            self.quiet.note_written();
            self.write_timed_out = false;
        }
        match has_waited {
            true => self.write_clock.earn(bytes),
            false => self.write_clock.refill(),
        }
        if bytes > 0 && self.writes_are_answers {
            self.read_clock.refill();
        }
        self.record.wake_if_now_idle();
    }

    /// Polls an operation that writes, within its time limit. `bytes` says how much it has written.
    fn poll_writing<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut Transport>, &mut Context<'_>) -> Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        if let Some(over) = self.poll_over(cx) {
            return over;
        }
        let outcome = if self.transport.buffers_writes() {
            // If this write is abandoned, or is the last, a read of another task has to send the rest.
            self.record.set_waker(Waiter::Writer, cx);
            let all_waiters = Waker::from(Arc::clone(&self.record));
            poll(Pin::new(&mut self.transport), &mut Context::from_waker(&all_waiters))
        } else {
            poll(Pin::new(&mut self.transport), cx)
        };
        if let Poll::Ready(outcome) = outcome {
            let written = outcome.as_ref().map_or(0, bytes);
            let has_waited = self.record.write_ended(written > 0 && self.writes_are_answers);
            self.write_clock.stop();
            if outcome.is_ok() {
                self.note_written(written, has_waited);
            }
            return Poll::Ready(outcome);
        }
        self.record.write_blocked();
        self.record.set_waker(Waiter::Writer, cx);
        if let Some(over) = self.poll_over(cx) {
            return over;
        }
        ready!(self.write_clock.poll_expired(cx));
        poll_without_io(cx, || {
            self.write_timed_out = true;
            Err(io::Error::new(io::ErrorKind::TimedOut, "the peer took no data within the time limit"))
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if let Some(over) = me.poll_over(cx) {
            return over;
        }
        if me.record.take_message_done() {
            me.read_clock.first_arrived();
            me.read_clock.refill();
        }
        let all_is_sent = me.poll_send_pending(cx).is_ready();
        if all_is_sent && me.record.is_last_call_over() && me.poll_drained(cx).is_ready() {
            return poll_without_io(cx, || Ok(()));
        }
        let before = buf.filled().len();
        if let Poll::Ready(outcome) = Pin::new(&mut me.transport).poll_read(cx, buf) {
            let bytes = buf.filled().len() - before;
            me.note_read(bytes);
            return match outcome {
                // A TLS session that has ended returns this without polling its socket.
                Ok(()) if bytes == 0 => poll_without_io(cx, || Ok(())),
                // Only a TLS session returns this.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    me.unannounced_end = me.record.activity() == Activity::Idle;
                    Poll::Ready(Err(error))
                }
                outcome => Poll::Ready(outcome),
            };
        }
        me.quiet.note_read_waits();
        me.record.set_waker(Waiter::Reader, cx);
        // The state may have changed before the waker was there.
        if let Some(over) = me.poll_over(cx) {
            return over;
        }
        // What has arrived may be unknown to the runtime. Then the task is woken when it is known.
        if all_is_sent && me.poll_drained(cx).is_ready() && !me.transport.has_arrived() {
            return poll_without_io(cx, || Ok(()));
        }
        if me.record.is_handling() {
            return Poll::Pending;
        }
        ready!(me.read_clock.poll_expired(cx));
        poll_without_io(cx, || {
            me.read_timed_out = true;
            Err(io::Error::new(io::ErrorKind::TimedOut, "the peer sent nothing, or too little, within the time limit"))
        })
    }
}

/// Returns an outcome that no socket has produced. It uses up the cooperative budget, so that a loop over such
/// outcomes yields.
fn poll_without_io<T>(cx: &mut Context<'_>, outcome: impl FnOnce() -> io::Result<T>) -> Poll<io::Result<T>> {
    ready!(coop::poll_proceed(cx)).made_progress();
    Poll::Ready(outcome())
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_writing(cx, |transport, cx| transport.poll_write(cx, buf), |n| *n)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_writing(cx, |transport, cx| transport.poll_write_vectored(cx, bufs), |n| *n)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_writing(cx, |transport, cx| transport.poll_flush(cx), |()| 0)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_writing(cx, |transport, cx| transport.poll_shutdown(cx), |()| 0)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.record.stream_dropped(StreamTotals {
            bytes_read: self.bytes_read,
            bytes_written: self.bytes_written,
            timed_out: self.read_timed_out || self.write_timed_out,
            unannounced_end: self.unannounced_end,
        });
        // A connection that is cut, or whose handler panicked, must not look as if it had ended cleanly.
        if !self.record.is_over() && !std::thread::panicking() {
            self.transport.send_close_notify();
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id()).field("peer", &self.peer()).finish_non_exhaustive()
    }
}
