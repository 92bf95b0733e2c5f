//! The reading half, as all handles of a blocking connection share it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::task::{Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime;

use super::deadline::Deadline;
use super::guard::enter_for;
use super::news::{News, attempt};
use crate::ReadHalf;
use crate::sync::Mutex;

pub(super) struct Reading<S> {
    /// Locked for one attempt at a time, never while somebody waits.
    half: Mutex<ReadHalf<S>>,
    news: Arc<News>,
    waker: Waker,
    runtime: runtime::Handle,
}

impl<S> Reading<S> {
    pub(super) fn new(half: ReadHalf<S>, runtime: runtime::Handle) -> Self {
        let (news, waker) = News::new();
        Self { half: Mutex::new(half), news, waker, runtime }
    }

    pub(super) fn half(&self) -> MutexGuard<'_, ReadHalf<S>> {
        // An attempt that panicked (in a stream that is not a socket) leaves a sound half.
        self.half.lock()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Reading<S> {
    /// Reads for a handle that has been told of all breaks up to `told`.
    pub(super) fn read(
        &self,
        buf: &mut [u8],
        last_reported: &AtomicU64,
        mut deadline: Deadline<'_>,
    ) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        // What it knew when the read began: a read that waits is told of the break of its link, even if another thread that
        // uses the same handle for writing is told first.
        let known = last_reported.load(Ordering::SeqCst);
        loop {
            let seen = self.news.count();
            let mut half = self.half();
            if let Poll::Ready(outcome) = self.attempt(&mut half, buf, known, last_reported) {
                return outcome;
            }
            // (A break that is still to be told is not the outage yet.)
            deadline.is_for_a_link(|| !half.is_connected() && half.generation() == half.last_reported());
            drop(half);
            self.news.wait(seen, &mut deadline)?;
        }
    }

    #[inline]
    fn attempt(
        &self,
        half: &mut ReadHalf<S>,
        buf: &mut [u8],
        known: u64,
        last_reported: &AtomicU64,
    ) -> Poll<io::Result<usize>> {
        loop {
            let before = half.last_reported();
            if before > known && !half.is_closed() {
                // Another handle was told, and may have read on.
                let (generation, outcome) = half.report_again(known);
                last_reported.fetch_max(generation, Ordering::SeqCst);
                return Poll::Ready(outcome);
            }
            if before < known {
                // A write has told this handle of a link that nobody has read to its end. What is left on it is not for
                // this handle any more.
                match self.poll(half, &mut [0; 1024]) {
                    Poll::Ready(Err(error)) if half.last_reported() == before => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(_) => {}
                }
            } else {
                let outcome = self.poll(half, buf);
                if half.last_reported() > known {
                    last_reported.fetch_max(half.last_reported(), Ordering::SeqCst);
                }
                return outcome;
            }
        }
    }

    #[inline]
    fn poll(&self, half: &mut ReadHalf<S>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let _guard = enter_for::<S>(&self.runtime);
        let mut buf = ReadBuf::new(buf);
        let outcome = attempt(&self.waker, |cx| Pin::new(&mut *half).poll_read(cx, &mut buf));
        outcome.map_ok(|()| buf.filled().len())
    }
}
