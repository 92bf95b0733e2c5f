//! The stream that a handler gets.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::task::coop;

use super::Peer;
use super::given_up::Question;
use super::io_stream::Io;
use super::seat::{BUSY, CUT, DONE, DRAINED, STUCK, Seat, TIMED_OUT, WAS_IDLE, WRITING, Who};
use super::shared::Place;
use super::socket::Socket;
use super::waiting::Waiting;

/// An accepted connection: a TCP or Unix socket, or a TLS session on one.
///
/// It is read and written like a `TcpStream`; with TLS, flush what is written before anything but a read. For two tasks, there
/// is [`tokio::io::split`]. Drop it to close it; its acceptor is free when it is dropped and its handler has ended.
///
/// # When it ends by itself
///
/// A read that has to wait longer than the time limits allow returns an error of the kind
/// [`TimedOut`](io::ErrorKind::TimedOut), a write likewise. The stream still works, so that the handler can say goodbye.
///
/// While the acceptor [stops](super::Acceptor::stop), a read returns `Ok(0)`, as if the peer had closed, as soon as nothing is
/// under way: nothing has come since the last write, or since [`message_done`](Self::message_done), and no write waits. When
/// the deadline is over, every operation fails with [`ConnectionAborted`](io::ErrorKind::ConnectionAborted), and the handler
/// is dropped.
pub struct Stream {
    io: Io,
    reading: Waiting,
    writing: Waiting,
    question: Question,
    /// Writes say that what has come is done with; else only `message_done` does, as with lines.
    writes_are_answers: bool,
    read: u64,
    written: u64,
    seat: Arc<Seat>,
    _place: Arc<Place>,
}

impl Stream {
    pub(super) fn new(io: Io, place: &Arc<Place>, writes_are_answers: bool) -> Self {
        let (reading, writing) = place.shared.settings.patience(writes_are_answers);
        let (seat, _place) = (Arc::clone(&place.seat), Arc::clone(place));
        let (reading, writing) = (Waiting::new(reading), Waiting::new(writing));
        let question = Question::default();
        Self { io, reading, writing, question, writes_are_answers, read: 0, written: 0, seat, _place }
    }

    /// The number of the connection, from 1, as in the events.
    pub fn id(&self) -> u64 {
        self.seat.id
    }

    /// The other end.
    pub fn peer(&self) -> Peer {
        self.seat.peer
    }

    /// Says that what was received so far is whole and done with.
    ///
    /// The idle limit starts over, and if the acceptor is stopping, the next read ends the connection. A write says the
    /// same, so this is for handlers that take what comes and do not answer.
    pub fn message_done(&self) {
        self.seat.is_done();
    }

    /// Whether the acceptor is stopping, so that the connection should come to an end.
    pub fn is_stopping(&self) -> bool {
        self.seat.has(DRAINED | CUT)
    }

    /// The socket, for its options; also the one beneath TLS. `None` if it is a Unix socket.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self.io.socket() {
            Socket::Tcp(stream) => Some(stream),
            #[cfg(unix)]
            Socket::Unix(_) => None,
        }
    }

    /// The socket, if it is a Unix socket.
    #[cfg(unix)]
    pub fn unix(&self) -> Option<&UnixStream> {
        match self.io.socket() {
            Socket::Unix(stream) => Some(stream),
            Socket::Tcp(_) => None,
        }
    }

    pub(super) fn seat(&self) -> Arc<Seat> {
        Arc::clone(&self.seat)
    }

    /// The TLS session, for its protocol (ALPN) and the client's certificates. `None` without TLS.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls(&self) -> Option<&tokio_rustls::rustls::ServerConnection> {
        match &self.io {
            Io::Tls(stream) => Some(stream.get_ref().1),
            Io::Plain(_) => None,
        }
    }

    /// What is beneath, without limits and stops.
    pub(super) fn io(&mut self) -> &mut Io {
        &mut self.io
    }

    /// What every operation fails with once the connection is cut.
    fn poll_cut<T>(&self, cx: &mut Context<'_>) -> Option<Poll<io::Result<T>>> {
        let cut = || Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the acceptor has cut the connection"));
        self.seat.has(CUT).then(|| poll_say(cx, cut))
    }

    /// Whether the stop ends the connection now. If that is not certain yet, the task is woken when it is.
    fn is_drained(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.seat.has(DRAINED) || self.seat.has(BUSY) {
            return false;
        }
        if !self.seat.has(WRITING) && !self.question.is_open() {
            return true;
        }
        let is_given_up = self.question.is_given_up(&self.seat, cx);
        if is_given_up {
            self.seat.set(WAS_IDLE);
        }
        is_given_up
    }

    /// Sends on what was written and did not all go to the kernel. Whether there is still something.
    ///
    /// With TLS, a program that waits for the answer to what it wrote has no other chance to send the rest.
    fn is_sending(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.io.has_unsent() {
            return false;
        }
        self.seat.park(Who::Reader, cx);
        // A write of another task may wait for the same, so that everyone is woken.
        let everyone = Waker::from(Arc::clone(&self.seat));
        let sent = Pin::new(&mut self.io).poll_flush(&mut Context::from_waker(&everyone));
        sent.is_pending() && self.io.has_unsent()
    }

    fn timed_out(&self, flag: u16, what: &str) -> io::Error {
        self.seat.set(flag);
        io::Error::new(io::ErrorKind::TimedOut, what)
    }

    fn received(&mut self, bytes: usize) {
        self.reading.end();
        if bytes == 0 {
            return;
        }
        self.read += bytes as u64;
        self.seat.clear(TIMED_OUT);
        if !self.seat.has(BUSY) {
            self.seat.set(BUSY);
        }
        self.reading.earn(bytes);
        if self.writes_are_answers {
            self.reading.first_has_come();
        }
    }

    fn see_what_is_done(&mut self) {
        if self.seat.clear(DONE) {
            self.reading.first_has_come();
            self.reading.renew();
        }
    }

    /// Polls an operation that writes, with everything that belongs to it.
    fn poll_writing<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut Io>, &mut Context<'_>) -> Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        if let Some(cut) = self.poll_cut(cx) {
            return cut;
        }
        let outcome = match self.io.may_keep_some() {
            false => poll(Pin::new(&mut self.io), cx),
            true => {
                // If this write is given up, or is the last, a read of another task has to send the rest.
                self.seat.park(Who::Writer, cx);
                let everyone = Waker::from(Arc::clone(&self.seat));
                poll(Pin::new(&mut self.io), &mut Context::from_waker(&everyone))
            }
        };
        if let Poll::Ready(outcome) = outcome {
            let has_waited = self.seat.clear(WRITING);
            self.writing.end();
            let Ok(done) = &outcome else { return Poll::Ready(outcome) };
            let bytes = bytes(done);
            self.written += bytes as u64;
            if bytes > 0 {
                self.seat.clear(STUCK);
            }
            match has_waited {
                true => self.writing.earn(bytes),
                false => self.writing.renew(),
            }
            if bytes > 0 && self.writes_are_answers {
                self.seat.clear(BUSY);
                self.reading.renew();
            }
            if self.seat.has(DRAINED) {
                // A read of another task may have waited for this.
                self.seat.call(DRAINED);
            }
            return Poll::Ready(outcome);
        }
        self.seat.set(WRITING);
        self.seat.park(Who::Writer, cx);
        if let Some(cut) = self.poll_cut(cx) {
            return cut;
        }
        if self.writing.is_over(cx) {
            return poll_say(cx, || Err(self.timed_out(STUCK, "the peer takes nothing")));
        }
        Poll::Pending
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if let Some(cut) = me.poll_cut(cx) {
            return cut;
        }
        me.see_what_is_done();
        let is_sending = me.is_sending(cx);
        if !is_sending && me.is_drained(cx) {
            return poll_say(cx, || Ok(()));
        }
        let before = buf.filled().len();
        if let Poll::Ready(outcome) = Pin::new(&mut me.io).poll_read(cx, buf) {
            let bytes = buf.filled().len() - before;
            me.received(bytes);
            return match outcome {
                // A TLS session that has ended says so without asking its socket.
                Ok(()) if bytes == 0 => poll_say(cx, || Ok(())),
                outcome => Poll::Ready(outcome),
            };
        }
        me.seat.park(Who::Reader, cx);
        if let Some(cut) = me.poll_cut(cx) {
            return cut;
        }
        if !is_sending && me.is_drained(cx) {
            return poll_say(cx, || Ok(()));
        }
        if me.reading.is_over(cx) {
            return poll_say(cx, || Err(me.timed_out(TIMED_OUT, "nothing, or too little, has come from the peer")));
        }
        Poll::Pending
    }
}

/// Gives what no socket has given. A loop over such things must yield, too.
fn poll_say<T>(cx: &mut Context<'_>, outcome: impl FnOnce() -> io::Result<T>) -> Poll<io::Result<T>> {
    ready!(coop::poll_proceed(cx)).made_progress();
    Poll::Ready(outcome())
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_writing(cx, |io, cx| io.poll_write(cx, buf), |n| *n)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_writing(cx, |io, cx| io.poll_write_vectored(cx, bufs), |n| *n)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_writing(cx, |io, cx| io.poll_flush(cx), |()| 0)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_writing(cx, |io, cx| io.poll_shutdown(cx), |()| 0)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.seat.bytes_read.store(self.read, Ordering::Relaxed);
        self.seat.bytes_written.store(self.written, Ordering::Relaxed);
        // What was cut short must not look as if it had come to its end.
        if !self.seat.has(CUT) && !std::thread::panicking() {
            self.io.say_goodbye();
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id()).field("peer", &self.peer()).finish_non_exhaustive()
    }
}
