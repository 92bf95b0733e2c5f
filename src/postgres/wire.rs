//! What the protocol is spoken over: first the stream that a dial has made, then the session of it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Notification;
use super::dialer::BoxStream;
use super::frames::{Frames, Step};

/// A stream whose inside can be exchanged while the protocol goes on: the login belongs to the dial, which has the bare
/// stream in hand, and what comes after it to the session that the connection lends.
///
/// It also knows when the last byte came in, and keeps the notifications to itself: these are taken from here.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<Inner>>);

struct Inner {
    stream: Option<BoxStream>,
    heard: Instant,
    frames: Frames,
    /// Something was written, and since then not all was read that had arrived.
    has_written: bool,
}

impl Wire {
    pub(super) fn new(stream: BoxStream) -> Self {
        let (heard, frames) = (Instant::now(), Frames::new());
        Self(Arc::new(Mutex::new(Inner { stream: Some(stream), heard, frames, has_written: false })))
    }

    pub(super) fn put(&self, stream: BoxStream) {
        self.lock().stream = Some(stream);
    }

    pub(super) fn take(&self) -> Option<BoxStream> {
        self.lock().stream.take()
    }

    /// When the last byte came in.
    pub(super) fn heard(&self) -> Instant {
        self.lock().heard
    }

    /// No more than so many notifications are kept from now on; then nothing more is read.
    pub(super) fn limit(&self, limit: usize) {
        self.lock().frames.limit(limit);
    }

    /// Whether nothing is read any more, as there are so many.
    pub(super) fn is_full(&self) -> bool {
        self.lock().frames.step() == Step::Full
    }

    /// The notifications that have arrived. Whether there may be more, for which nobody is woken.
    pub(super) fn take_arrived(&self, to: &mut Vec<Notification>) -> bool {
        let mut inner = self.lock();
        let is_full = inner.frames.step() == Step::Full;
        inner.frames.take(to);
        is_full
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll<T>(&self, operation: impl FnOnce(Pin<&mut BoxStream>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &mut self.lock().stream {
            Some(stream) => operation(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Inner {
    fn has_to_wait(&mut self) -> bool {
        self.has_written && self.frames.step() == Step::Full
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.lock();
        let Some(stream) = &mut inner.stream else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        loop {
            match inner.frames.step() {
                Step::Pass => {
                    inner.has_written = false;
                    buf.put_slice(inner.frames.pass(buf.remaining()));
                    return Poll::Ready(Ok(()));
                }
                // Whoever takes some asks again.
                Step::Full => return Poll::Pending,
                Step::Read => {
                    let mut space = ReadBuf::new(inner.frames.space());
                    let outcome = Pin::new(&mut *stream).poll_read(cx, &mut space);
                    inner.has_written &= outcome.is_ready();
                    ready!(outcome)?;
                    let length = space.filled().len();
                    if length == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    inner.heard = Instant::now();
                    inner.frames.filled(length);
                }
            }
        }
    }
}

impl AsyncWrite for Wire {
    /// While more has arrived than is taken, one write goes out and no second: if the server is gone, the first is what it
    /// answers by a reset, and the second would fail, and take with it what was not read.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.lock().has_to_wait() {
            // (Whoever takes some asks again.)
            return Poll::Pending;
        }
        let outcome = self.poll(|stream| stream.poll_write(cx, bytes));
        self.lock().has_written |= outcome.is_ready();
        outcome
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(cx))
    }
}
