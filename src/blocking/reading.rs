//! The reads of all handles.
//!
//! Next: [`writing`](super::writing), the same for writes.

use std::io;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::call_timeouts::CallTimeouts;
use super::handle_state::HandleState;
use super::shared_half::SharedHalf;
use crate::ReadHalf;

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> SharedHalf<ReadHalf<S>> {
    /// Reads some bytes for a handle, on the calling thread.
    pub(super) fn read(
        &self,
        buf: &mut [u8],
        handle: &HandleState,
        mut timeouts: CallTimeouts<'_>,
    ) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        // As it was when the read began: a read that waits reports the break of its link, even if another thread writes
        // through the same handle and reports the break first.
        let known = handle.last_reported();
        loop {
            let seen = self.wakes.count();
            let mut half = self.lock();
            if let Poll::Ready(outcome) = self.try_read(&mut half, buf, known, handle) {
                return outcome;
            }
            // An unreported break comes before the wait for the next link.
            timeouts.set_waiting_for_link(|| !half.is_connected() && half.generation() == half.last_reported());
            drop(half);
            self.wakes.wait(seen, &mut timeouts)?;
        }
    }

    /// Reads without waiting, for a handle that has reported all breaks up to `known`.
    #[inline]
    fn try_read(
        &self,
        half: &mut ReadHalf<S>,
        buf: &mut [u8],
        known: u64,
        handle: &HandleState,
    ) -> Poll<io::Result<usize>> {
        loop {
            let before = half.last_reported();
            if before > known && !half.is_closed() {
                // Another handle has reported this break, and may have read on.
                let (generation, outcome) = half.report_again(known);
                handle.set_reported(generation);
                return Poll::Ready(outcome);
            }
            if before < known {
                // A write of this handle has reported the break of a link that is not read to its end. What is left
                // there is not for this handle any more.
                match self.poll_read(half, &mut [0; 1024]) {
                    Poll::Ready(Err(error)) if half.last_reported() == before => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(_) => {}
                }
            } else {
                let outcome = self.poll_read(half, buf);
                if half.last_reported() > known {
                    handle.set_reported(half.last_reported());
                }
                return outcome;
            }
        }
    }

    /// Polls the half once, and returns how many bytes it has read.
    #[inline]
    fn poll_read(&self, half: &mut ReadHalf<S>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        let outcome = self.poll::<S, _>(|cx| Pin::new(&mut *half).poll_read(cx, &mut buf));
        outcome.map_ok(|()| buf.filled().len())
    }
}
