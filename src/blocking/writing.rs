//! The writes, flushes and shutdowns of all handles.
//!
//! Next: [`wait`](super::wait), where a call sleeps until it can go on.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::call_timeouts::CallTimeouts;
use super::handle_state::HandleState;
use super::shared_half::SharedHalf;
use super::write_claim::{WriteClaim, WriteState};
use crate::WriteHalf;

/// Why an operation failed.
struct Failure {
    /// The link whose break the error reports, if it is a break.
    generation: Option<u64>,
    /// What the caller gets.
    error: io::Error,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> SharedHalf<WriteState<S>> {
    /// Writes all of `parts` in one piece, as far as the link and the timeouts allow, on the calling thread.
    pub(super) fn write(
        &self,
        parts: &[IoSlice<'_>],
        handle: &HandleState,
        mut timeouts: CallTimeouts<'_>,
    ) -> io::Result<usize> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut known = handle.last_reported();
        if let Some(reported) = handle.partial_write() {
            // The rest must not begin another link, even if a read has reported the break of its own.
            known = known.min(reported);
        }
        let mut claim = WriteClaim::new(self);
        let mut written = 0;
        // What the half had reported when it took the last part.
        let mut reported_at_part = 0;
        let failure = loop {
            let seen = self.wakes.count();
            let mut state = self.lock();
            if claim.may_write(&state) {
                let outcome = self.try_write(&mut state, known, |half, cx| match parts {
                    [part] => half.poll_write(cx, &part[written..]),
                    parts if written == 0 => half.poll_write_vectored(cx, parts),
                    parts => half.poll_write(cx, next_part(parts, written)),
                });
                match outcome {
                    Poll::Ready(Ok(n)) => {
                        written += n;
                        if written == length {
                            handle.set_partial_write(None);
                            return Ok(written);
                        }
                        reported_at_part = state.half.last_reported();
                        claim.set_mid_write(&mut state);
                        continue;
                    }
                    Poll::Ready(Err(failure)) => break failure,
                    // An unreported break comes before the wait for the next link.
                    Poll::Pending => timeouts.set_waiting_for_link(|| {
                        !state.half.is_connected() && state.half.generation() == state.half.last_reported()
                    }),
                }
            } else {
                claim.set_waiting(&mut state);
                timeouts.set_waiting_for_link(|| false);
            }
            drop(state);
            if let Err(error) = self.wakes.wait(seen, &mut timeouts) {
                break Failure { generation: None, error };
            }
        };
        if written > 0 {
            // If it was a break, the write of the rest reports it.
            handle.set_partial_write(Some(reported_at_part));
            return Ok(written);
        }
        if let Some(generation) = failure.generation {
            handle.set_reported(generation);
            handle.set_partial_write(None);
        }
        Err(failure.error)
    }

    /// Waits until what was written has left this process.
    pub(super) fn flush(&self, handle: &HandleState, mut timeouts: CallTimeouts<'_>) -> io::Result<()> {
        let known = handle.last_reported();
        loop {
            let seen = self.wakes.count();
            // A statement of its own, so that the lock is free during the wait.
            let outcome = self.try_write(&mut self.lock(), known, |half, cx| half.poll_flush(cx));
            match outcome {
                Poll::Ready(Ok(())) => return Ok(()),
                Poll::Ready(Err(failure)) => {
                    handle.set_reported(failure.generation.unwrap_or(0));
                    return Err(failure.error);
                }
                Poll::Pending => self.wakes.wait(seen, &mut timeouts)?,
            }
        }
    }

    /// Shuts the writing side down. A write that waits in another thread fails.
    pub(super) fn shutdown(&self, handle: &HandleState, mut timeouts: CallTimeouts<'_>) -> io::Result<()> {
        let known = handle.last_reported();
        handle.set_partial_write(None);
        loop {
            let seen = self.wakes.count();
            let mut state = self.lock();
            let before = state.half.last_reported();
            let outcome = self.poll::<S, _>(|cx| Pin::new(&mut state.half).poll_shutdown(cx));
            let after = state.half.last_reported();
            drop(state);
            if let Poll::Ready(outcome) = outcome {
                self.wakes.wake_all();
                if before == after {
                    return outcome;
                }
                handle.set_reported(after);
                // This handle may have reported the break before.
                return if after <= known { Ok(()) } else { outcome };
            }
            self.wakes.wait(seen, &mut timeouts)?;
        }
    }

    /// Writes or flushes without waiting, for a handle that has reported all breaks up to `known`.
    #[inline]
    fn try_write<T>(
        &self,
        state: &mut WriteState<S>,
        known: u64,
        mut poll: impl FnMut(Pin<&mut WriteHalf<S>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<Result<T, Failure>> {
        loop {
            let before = state.half.last_reported();
            if before > known && !state.half.is_closed() {
                // Another handle has reported this break.
                let (generation, error) = state.half.report_again(known);
                return Poll::Ready(Err(Failure { generation: Some(generation), error }));
            }
            let outcome = self.poll::<S, _>(|cx| poll(Pin::new(&mut state.half), cx));
            let after = state.half.last_reported();
            match outcome {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(value)) => return Poll::Ready(Ok(value)),
                // A read of this handle has reported this break before.
                Poll::Ready(Err(_)) if before < after && after <= known => {}
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(Failure { generation: (before < after).then_some(after), error }));
                }
            }
        }
    }
}

/// The bytes to write next when `written` bytes of `parts` are written: the rest of one part.
fn next_part<'a>(parts: &'a [IoSlice<'_>], mut written: usize) -> &'a [u8] {
    for part in parts {
        if written < part.len() {
            return &part[written..];
        }
        written -= part.len();
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_part_begins_where_the_write_stopped() {
        let parts = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")];
        assert_eq!(next_part(&parts, 0), b"ab");
        assert_eq!(next_part(&parts, 1), b"b");
        assert_eq!(next_part(&parts, 2), b"cde");
        assert_eq!(next_part(&parts, 4), b"e");
        assert_eq!(next_part(&parts, 5), b"");
    }
}
