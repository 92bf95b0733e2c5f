//! What the protocol is spoken over: first the stream that a dial has made, then the session of it.

use std::io::{self, IoSlice};
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
}

impl Wire {
    pub(super) fn new(stream: BoxStream) -> Self {
        Self(Arc::new(Mutex::new(Inner { stream: Some(stream), heard: Instant::now(), frames: Frames::new() })))
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

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.lock();
        let Some(stream) = &mut inner.stream else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        loop {
            match inner.frames.step() {
                Step::Pass => {
                    buf.put_slice(inner.frames.pass(buf.remaining()));
                    return Poll::Ready(Ok(()));
                }
                // Whoever takes some asks again.
                Step::Full => return Poll::Pending,
                Step::Read => {
                    let mut space = ReadBuf::new(inner.frames.space());
                    ready!(Pin::new(&mut *stream).poll_read(cx, &mut space))?;
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
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write_vectored(cx, parts))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(cx))
    }
}
