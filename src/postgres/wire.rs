//! What the protocol is spoken over: first the stream that a dial has made, then the session of it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Notification;
use super::frames::{Frames, Step};
use crate::dial::BoxedStream;
use crate::io_error::is_try_again;
use crate::sync::Mutex;

/// A stream whose inside can be exchanged while the protocol goes on: the login belongs to the dial, which has the bare
/// stream in hand, and what comes after it to the session that the connection lends.
///
/// It also knows when the last byte came in, and keeps the notifications to itself: these are taken from here.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<Inner>>);

struct Inner {
    stream: Option<BoxedStream>,
    heard: Instant,
    frames: Frames,
    /// Since when something may have arrived that was not read. Then a write has to wait: if the server has closed, its machine
    /// would answer by a reset, and throw away what it had not sent yet.
    unread: Option<Instant>,
    /// Something was written and is not flushed yet.
    is_unflushed: bool,
    /// Reading and writing go on at the same time, unlike in a login and in a goodbye.
    is_link: bool,
    /// A write to the link has failed. That is kept from the protocol, which would read no more; but what has arrived can be
    /// read, up to the end, which is told then.
    is_mute: bool,
}

/// Where more arrives than is taken, for good, a question must go out all the same. So long a write waits then.
const PATIENCE: Duration = Duration::from_secs(1);

impl Wire {
    pub(super) fn new(stream: BoxedStream) -> Self {
        let (heard, frames) = (Instant::now(), Frames::new());
        let inner = Inner {
            stream: Some(stream),
            heard,
            frames,
            unread: None,
            is_unflushed: false,
            is_link: false,
            is_mute: false,
        };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Goes on over the session of a link.
    pub(super) fn put(&self, stream: BoxedStream) {
        let mut inner = self.lock();
        inner.stream = Some(stream);
        inner.is_link = true;
    }

    /// Nothing more will be read, so that no write has to wait for it.
    pub(super) fn is_read_no_more(&self) {
        self.lock().is_link = false;
    }

    pub(super) fn take(&self) -> Option<BoxedStream> {
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

    /// The notifications that came before what was passed on last.
    pub(super) fn take_passed(&self, to: &mut Vec<Notification>) {
        self.lock().frames.take(to);
    }

    /// The notifications that have arrived. Whether there may be more, for which nobody is woken.
    pub(super) fn take_arrived(&self, to: &mut Vec<Notification>) -> bool {
        let mut inner = self.lock();
        let is_full = inner.frames.step() == Step::Full;
        inner.frames.take(to);
        is_full
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock()
    }
}

impl Inner {
    fn stream(&mut self) -> io::Result<Pin<&mut BoxedStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// All that has arrived was read, or not.
    fn has_read(&mut self, all: bool) {
        self.unread = if all { None } else { self.unread.or_else(|| Some(Instant::now())) };
    }

    /// Writes, or flushes, when it is time to.
    fn poll_writing<T>(
        &mut self,
        cx: &mut Context<'_>,
        operation: impl FnOnce(Pin<&mut BoxedStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let has_to_wait = self.is_link && self.unread.is_some_and(|begin| begin.elapsed() < PATIENCE);
        if has_to_wait || self.is_mute {
            // (Whoever reads, asks again.)
            return Poll::Pending;
        }
        let outcome = ready!(not_yet(operation(self.stream()?, cx), cx));
        self.is_mute = self.is_link && outcome.is_err();
        if self.is_mute { Poll::Pending } else { Poll::Ready(outcome) }
    }
}

/// The two errors that say "try again" are no break (and none of tokio's streams gives them).
fn not_yet<T>(polled: Poll<io::Result<T>>, cx: &Context<'_>) -> Poll<io::Result<T>> {
    match polled {
        Poll::Ready(Err(error)) if is_try_again(&error) => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        polled => polled,
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.lock();
        loop {
            match inner.frames.step() {
                Step::Pass => {
                    inner.has_read(false);
                    buf.put_slice(inner.frames.pass(buf.remaining()));
                    return Poll::Ready(Ok(()));
                }
                // Whoever takes some asks again.
                Step::Full => {
                    inner.has_read(false);
                    return Poll::Pending;
                }
                Step::Read => {
                    let Some(stream) = &mut inner.stream else {
                        return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
                    };
                    let mut space = ReadBuf::new(inner.frames.space());
                    let outcome = not_yet(Pin::new(stream).poll_read(cx, &mut space), cx);
                    let length = space.filled().len();
                    inner.has_read(outcome.is_pending());
                    ready!(outcome)?;
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
        let inner = &mut *self.lock();
        let length = ready!(inner.poll_writing(cx, |stream, cx| stream.poll_write(cx, bytes)))?;
        inner.is_unflushed = true;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.lock();
        if !inner.is_unflushed {
            return Poll::Ready(Ok(()));
        }
        ready!(inner.poll_writing(cx, |stream, cx| stream.poll_flush(cx)))?;
        inner.is_unflushed = false;
        // The next one has to wait again.
        inner.unread = inner.unread.map(|_| Instant::now());
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().stream()?.poll_shutdown(cx)
    }
}
