//! What the protocol is spoken over: first the stream that a dial has made, then the session of it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::dialer::BoxStream;

/// A stream whose inside can be exchanged while the protocol goes on: the login belongs to the dial, which has the bare
/// stream in hand, and what comes after it to the session that the connection lends.
///
/// It also knows when the last byte came in.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<Inner>>);

struct Inner {
    stream: Option<BoxStream>,
    heard: Instant,
}

impl Wire {
    pub(super) fn new(stream: BoxStream) -> Self {
        Self(Arc::new(Mutex::new(Inner { stream: Some(stream), heard: Instant::now() })))
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
        let before = buf.filled().len();
        let mut inner = self.lock();
        let Some(stream) = &mut inner.stream else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let outcome = Pin::new(stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            inner.heard = Instant::now();
        }
        outcome
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
