//! Writing with the permit in hand: jobs out of the queue onto the link, and the outcome back into the queue.
//!
//! Next: [`write_task`](super::write_task), which drives the permit while several tasks write.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::write_permit::WritePermit;
use super::writer::{CONTENTION_ROUNDS, Writer};
use crate::{Error, Op, WhenDown};

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> WritePermit<S> {
    /// Writes the bytes of the only caller as far as the link takes them now. Returns how many the stream has taken.
    ///
    /// The job is done if these are all and nothing is unflushed. Otherwise it goes on in the queue. Fails only if a
    /// break cut the job, or if there will be no further link.
    #[inline]
    pub(super) fn write_direct(&mut self, is_socket: bool, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<usize> {
        let written = match Pin::new(&mut self.half).poll_write(cx, bytes) {
            Poll::Ready(Ok(written)) => written,
            Poll::Pending => return Ok(0),
            Poll::Ready(Err(error)) => return no_byte_was_taken(error),
        };
        self.is_unflushed = !is_socket;
        if self.is_unflushed && written == bytes.len() {
            match Pin::new(&mut self.half).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.is_unflushed = false,
                // "Call again": the task does.
                Poll::Ready(Err(error)) if Error::of(&error).is_none() => {}
                Poll::Ready(Err(error)) => {
                    self.is_unflushed = false;
                    return Err(error);
                }
                Poll::Pending => {}
            }
        }
        Ok(written)
    }

    /// Writes what is queued.
    ///
    /// Pending while the link takes nothing or is down: the waker is stored then. Ready when there is nothing to write, or
    /// no link any more. The outcome of each job is in the queue.
    pub(super) fn drive(&mut self, writer: &Writer<S>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let outcome = if self.is_unflushed {
                Pin::new(&mut self.half).poll_flush(cx).map_ok(|()| 0)
            } else {
                if self.batch.rest().is_empty() {
                    self.batch.clear();
                    writer.lock().queue.take(&mut self.batch);
                }
                if self.batch.rest().is_empty() {
                    self.deferred.shrink();
                    return Poll::Ready(());
                }
                let outcome = Pin::new(&mut self.half).poll_write(cx, self.batch.rest());
                if let Poll::Ready(Ok(n)) = outcome {
                    self.batch.advance(n);
                }
                outcome
            };
            match outcome {
                Poll::Pending => return self.on_pending(writer),
                Poll::Ready(Ok(n)) => self.on_progress(writer, n),
                Poll::Ready(Err(error)) => match Error::of(&error) {
                    Some(Error::IoError { generation, op, .. }) => self.on_break(writer, *generation, *op),
                    Some(_) => {
                        self.on_end(writer);
                        return Poll::Ready(());
                    }
                    // The stream means "call again".
                    None => {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    /// The stream has taken `n` bytes or was flushed.
    fn on_progress(&mut self, writer: &Writer<S>, n: usize) {
        let is_flushed = writer.is_socket || self.is_unflushed;
        self.is_unflushed = !is_flushed;
        let mut state = writer.lock();
        state.queue.add_written(n);
        if is_flushed {
            match state.queue.flushed(self.half.used(), &mut self.deferred) {
                0 => {}
                1 => state.contention = state.contention.saturating_sub(1),
                _ => state.contention = CONTENTION_ROUNDS,
            }
        }
        writer.unlock(state, &mut self.deferred);
    }

    /// The link takes nothing now, or there is none. In an outage, applies the program's `when_down` once.
    fn on_pending(&mut self, writer: &Writer<S>) -> Poll<()> {
        let (has_link, generation) = (writer.has_link(), writer.context.conn_state.generation());
        let mut state = writer.lock();
        if !self.is_unflushed {
            // Put back, so that jobs can be cancelled meanwhile.
            state.queue.put_back(&mut self.batch);
        }
        // A break that cut a job in two, or the flush of one, is reported first, at the next poll.
        let is_down = !has_link && !self.is_unflushed && !state.queue.is_any_partly_written();
        let is_new_outage = is_down && std::mem::replace(&mut self.applied_after, generation) != generation;
        let all_fail = is_down && writer.context.when_down == WhenDown::Fail;
        if is_new_outage || all_fail {
            writer.apply_when_down(&mut state, &mut self.deferred);
        }
        writer.unlock(state, &mut self.deferred);
        if all_fail { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The link has broken: the jobs that the break cut fail, the others wait for the next link.
    fn on_break(&mut self, writer: &Writer<S>, generation: u64, op: Op) {
        let conn_state = &writer.context.conn_state;
        let fault = conn_state.fault(generation, op);
        let has_link = writer.has_link();
        self.is_unflushed = false;
        let mut state = writer.lock();
        let failure = || fault.error(op, &conn_state.address).into();
        state.queue.fail_partly_written(&mut self.batch, failure, &mut self.deferred);
        // The next link may be up already.
        if !has_link {
            self.applied_after = conn_state.generation();
            writer.apply_when_down(&mut state, &mut self.deferred);
        }
        writer.unlock(state, &mut self.deferred);
    }

    /// The connection has ended: no job is sent any more.
    fn on_end(&mut self, writer: &Writer<S>) {
        self.batch.clear();
        let mut state = writer.lock();
        state.is_closing = true;
        state.queue.close(&mut self.deferred);
        writer.unlock(state, &mut self.deferred);
    }
}

/// What a failed write of a job's first bytes means for the job.
///
/// A break does not concern it: it goes on with the next link, in the queue. So it does if the stream means "call again".
#[cold]
fn no_byte_was_taken(error: io::Error) -> io::Result<usize> {
    match Error::of(&error) {
        Some(Error::IoError { .. }) | None => Ok(0),
        Some(_) => Err(error),
    }
}
