//! The stream under the protocol: first the stream that a dial has made, then the session over that stream.
//!
//! Next: [`Login`](super::login::Login), which begins the protocol on it.

use std::convert::Infallible;
use std::future::{self, Ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use super::Notification;
use super::decoder::{DecoderStep, NotificationDecoder};
use super::hosts::HostStream;
use crate::dial::BoxedStream;
use crate::io_error::{check_written, is_try_again};
use crate::sync::Mutex;

/// A stream whose inner stream can be exchanged while the protocol goes on.
///
/// The login belongs to the dial, which holds the bare stream. What follows belongs to the session that
/// [`crate::Sessions`] lends. The stream also records when the last byte arrived, and keeps the notifications for
/// [`take_notifications`](SwapStream::take_notifications).
#[derive(Clone)]
pub(super) struct SwapStream(Arc<Mutex<StreamState>>);

/// The state of a [`SwapStream`], shared by its clones.
struct StreamState {
    /// The bare stream during the login, then the session. `None` in between.
    inner: Option<BoxedStream>,
    /// What the login can be bound to.
    end_point: Option<Vec<u8>>,
    /// When the last byte arrived.
    last_read: Instant,
    /// Takes the notifications out of what arrives.
    decoder: NotificationDecoder,
    /// Since when unread bytes may be waiting. Then a write has to wait: if the server has closed, its machine would
    /// answer the write with a reset and discard what it had not sent yet.
    unread_since: Option<Instant>,
    /// Something was written and is not flushed yet.
    needs_flush: bool,
    /// Reading and writing go on at the same time. They do not during the login and the final message.
    is_duplex: bool,
    /// A write on a connection in use has failed. The protocol does not see the error, because it would stop reading.
    /// What has arrived can be read up to the end of the stream, and the protocol sees that end.
    has_write_failed: bool,
}

/// How long a write waits for unread bytes. If more arrives than the reader takes, for good, a query must go out all
/// the same.
const MAX_WRITE_DELAY: Duration = Duration::from_secs(1);

impl SwapStream {
    /// A stream over the one that a dial has made.
    pub(super) fn new(HostStream { stream, end_point }: HostStream) -> Self {
        let state = StreamState {
            inner: Some(stream),
            end_point,
            last_read: Instant::now(),
            decoder: NotificationDecoder::new(),
            unread_since: None,
            needs_flush: false,
            is_duplex: false,
            has_write_failed: false,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Takes the inner stream out. Until there is another, every operation fails with `NotConnected`.
    pub(super) fn take_inner(&self) -> Option<BoxedStream> {
        self.lock().inner.take()
    }

    /// Goes on over the session of the connection that is now in use.
    pub(super) fn resume_over(&self, session: BoxedStream) {
        let mut state = self.lock();
        state.inner = Some(session);
        state.is_duplex = true;
    }

    /// Nothing more will be read, so that no write has to wait for unread bytes.
    pub(super) fn stop_reading(&self) {
        self.lock().is_duplex = false;
    }

    /// When the last byte arrived.
    pub(super) fn last_read(&self) -> Instant {
        self.lock().last_read
    }

    /// The process id that the server has named for requests to cancel a query.
    pub(super) fn key_process_id(&self) -> Option<i32> {
        self.lock().decoder.key_process_id()
    }

    /// Keeps at most this many notifications from now on. Then nothing more is read until they are taken.
    pub(super) fn set_limit(&self, limit: usize) {
        self.lock().decoder.set_limit(limit);
    }

    /// Whether reading has stopped because the limit of notifications is reached.
    pub(super) fn is_full(&self) -> bool {
        self.lock().decoder.step() == DecoderStep::Full
    }

    /// Takes the notifications that arrived before the bytes that were forwarded last.
    pub(super) fn take_forwarded(&self, to: &mut Vec<Notification>) {
        self.lock().decoder.take(to);
    }

    /// Takes the notifications that have arrived. True if there may be more, for which the task is not woken.
    pub(super) fn take_notifications(&self, to: &mut Vec<Notification>) -> bool {
        let mut state = self.lock();
        let is_full = state.decoder.step() == DecoderStep::Full;
        state.decoder.take(to);
        is_full
    }

    /// Locks the state. While the lock is held, the inner stream is polled, which takes the locks of the session and
    /// the core.
    fn lock(&self) -> MutexGuard<'_, StreamState> {
        self.0.lock()
    }
}

impl StreamState {
    /// The inner stream, or the error of an operation without one.
    fn inner(&mut self) -> io::Result<Pin<&mut BoxedStream>> {
        self.inner.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Records whether everything that has arrived was read.
    fn note_read(&mut self, is_all: bool) {
        self.unread_since = if is_all { None } else { self.unread_since.or_else(|| Some(Instant::now())) };
    }

    /// Writes or flushes, unless that has to wait.
    fn poll_writing<T>(
        &mut self,
        cx: &mut Context<'_>,
        operation: impl FnOnce(Pin<&mut BoxedStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let has_to_wait = self.is_duplex && self.unread_since.is_some_and(|since| since.elapsed() < MAX_WRITE_DELAY);
        if has_to_wait || self.has_write_failed {
            // The task polls the write again each time it reads.
            return Poll::Pending;
        }
        let outcome = ready!(retry_later(operation(self.inner()?, cx), cx));
        self.has_write_failed = self.is_duplex && outcome.is_err();
        if self.has_write_failed { Poll::Pending } else { Poll::Ready(outcome) }
    }
}

/// Turns an error that asks to try again into "pending", and has the task polled again.
fn retry_later<T>(polled: Poll<io::Result<T>>, cx: &Context<'_>) -> Poll<io::Result<T>> {
    match polled {
        Poll::Ready(Err(error)) if is_try_again(&error) => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        polled => polled,
    }
}

impl AsyncRead for SwapStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.lock();
        loop {
            match state.decoder.step() {
                DecoderStep::Forward => {
                    state.note_read(false);
                    buf.put_slice(state.decoder.forward(buf.remaining()));
                    return Poll::Ready(Ok(()));
                }
                // The task reads again after it has taken the notifications.
                DecoderStep::Full => {
                    state.note_read(false);
                    return Poll::Pending;
                }
                DecoderStep::Read => {
                    let Some(inner) = &mut state.inner else {
                        return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
                    };
                    let mut space = ReadBuf::new(state.decoder.space());
                    let outcome = retry_later(Pin::new(inner).poll_read(cx, &mut space), cx);
                    let length = space.filled().len();
                    state.note_read(outcome.is_pending());
                    ready!(outcome)?;
                    if length == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    state.last_read = Instant::now();
                    state.decoder.filled(length);
                }
            }
        }
    }
}

impl AsyncWrite for SwapStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let state = &mut *self.lock();
        let write = |stream: Pin<&mut BoxedStream>, cx: &mut Context<'_>| {
            stream.poll_write(cx, bytes).map(|outcome| check_written(outcome, bytes.len()))
        };
        let length = ready!(state.poll_writing(cx, write))?;
        state.needs_flush = true;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.lock();
        if !state.needs_flush {
            return Poll::Ready(Ok(()));
        }
        ready!(state.poll_writing(cx, |stream, cx| stream.poll_flush(cx)))?;
        state.needs_flush = false;
        // The next write has to wait again.
        state.unread_since = state.unread_since.map(|_| Instant::now());
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().inner()?.poll_shutdown(cx)
    }
}

/// Tells the protocol that TLS, if there is any, is below the stream and needs no handshake of its own.
pub(super) struct TlsBelow;

impl TlsConnect<SwapStream> for TlsBelow {
    type Stream = SwapStream;
    type Error = Infallible;
    type Future = Ready<Result<SwapStream, Infallible>>;

    fn connect(self, stream: SwapStream) -> Self::Future {
        future::ready(Ok(stream))
    }
}

/// The login asks for the binding.
impl TlsStream for SwapStream {
    fn channel_binding(&self) -> ChannelBinding {
        self.lock().end_point.clone().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}
