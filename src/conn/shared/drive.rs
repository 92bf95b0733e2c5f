//! Writing with the permit in hand: jobs out of the queue onto the link, and the outcome back into the queue.
//!
//! Next: [`write_task`](super::write_task), which drives the permit while several tasks write.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::queue::NextWrite;
use super::write_permit::WritePermit;
use super::writer::{CONTENTION_ROUNDS, Writer};
use crate::{Error, Op, WhenDown};

/// Why [`WritePermit::drive`] has returned.
pub(super) enum Stopped {
    /// There is nothing to write, or there is no link any more.
    Idle,
    /// The next job's caller has to write its bytes itself.
    CallersTurn,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> WritePermit<S> {
    /// Writes the bytes of the only caller, as far as the link takes them now. Returns how many the stream has taken.
    ///
    /// Fails only if a break cut the job, or if the job must not wait for a link. A break before the first byte does
    /// not concern it: the loop goes on with the next link.
    pub(super) fn write_direct(&mut self, writer: &Writer<S>, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() || self.is_unflushed {
            let outcome = if self.is_unflushed {
                Pin::new(&mut self.half).poll_flush(cx).map_ok(|()| 0)
            } else {
                Pin::new(&mut self.half).poll_write(cx, &bytes[written..])
            };
            match outcome {
                Poll::Pending => break,
                Poll::Ready(Ok(n)) => {
                    written += n;
                    self.is_unflushed = !self.is_unflushed && !writer.is_socket;
                }
                Poll::Ready(Err(error)) => match Error::of(&error) {
                    Some(Error::IoError { .. }) => {
                        self.is_unflushed = false;
                        // A break concerns this job only if one of its bytes was on the link.
                        if written > 0 {
                            return Err(error);
                        }
                        writer.check_link()?;
                    }
                    // The stream means "call again". The task does.
                    None => break,
                    Some(_) => return Err(error),
                },
            }
        }
        Ok(written)
    }

    /// Writes what is queued. A caller with a job of its `own` (its number and bytes) writes only that job.
    ///
    /// Pending while the link takes nothing or is down: the waker is stored then. Ready when the owner should return
    /// the permit. The outcome of each job is in the queue.
    pub(super) fn drive(
        &mut self,
        writer: &Writer<S>,
        own: Option<(u64, &[u8])>,
        cx: &mut Context<'_>,
    ) -> Poll<Stopped> {
        loop {
            let outcome = if self.is_unflushed {
                Pin::new(&mut self.half).poll_flush(cx).map_ok(|()| 0)
            } else {
                if self.next_write == NextWrite::Nothing {
                    let mut state = writer.lock();
                    if own.is_some_and(|(number, _)| !state.queue.is_callers_turn(number)) {
                        return Poll::Ready(Stopped::Idle);
                    }
                    self.next_write = state.queue.take(&mut self.buffer);
                    self.offset = 0;
                }
                let bytes = match (self.next_write, own) {
                    (NextWrite::Buffer, _) => &self.buffer[self.offset..],
                    (NextWrite::Caller { number, written }, Some((own, bytes))) if number == own => &bytes[written..],
                    (NextWrite::Caller { .. }, _) => {
                        self.next_write = NextWrite::Nothing;
                        return Poll::Ready(Stopped::CallersTurn);
                    }
                    (NextWrite::Nothing, _) => return Poll::Ready(Stopped::Idle),
                };
                let length = bytes.len();
                let outcome = Pin::new(&mut self.half).poll_write(cx, bytes);
                if let Poll::Ready(Ok(n)) = outcome {
                    self.advance(n, n == length);
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
                        return Poll::Ready(Stopped::Idle);
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
            match state.queue.flushed(&mut self.wakers) {
                0 => {}
                1 => state.contention = state.contention.saturating_sub(1),
                _ => state.contention = CONTENTION_ROUNDS,
            }
        }
        writer.unlock(state, self.wakers.drain(..));
    }

    /// The link takes nothing now, or there is none. In an outage, applies the program's `when_down` once.
    fn on_pending(&mut self, writer: &Writer<S>) -> Poll<Stopped> {
        let (is_up, generation) = (writer.is_up(), writer.context.conn_state.generation());
        let mut state = writer.lock();
        if !self.is_unflushed {
            // Put back, so that jobs can be cancelled meanwhile.
            self.drop_written();
            state.queue.put_back(&mut self.buffer);
        }
        // A break that cut a job in two, or the flush of one, is reported first, at the next poll.
        let is_down = !is_up && !self.is_unflushed && !state.queue.is_any_partly_written();
        let is_new_outage = is_down && std::mem::replace(&mut self.applied_after, generation) != generation;
        let all_fail = is_down && writer.context.when_down == WhenDown::Fail;
        if is_new_outage || all_fail {
            writer.apply_when_down(&mut state, &mut self.wakers);
        }
        writer.unlock(state, self.wakers.drain(..));
        if all_fail { Poll::Ready(Stopped::Idle) } else { Poll::Pending }
    }

    /// The link has broken: the jobs that the break cut fail, the others wait for the next link.
    fn on_break(&mut self, writer: &Writer<S>, generation: u64, op: Op) {
        let conn_state = &writer.context.conn_state;
        let fault = conn_state.fault(generation, op);
        let is_up = writer.is_up();
        self.drop_written();
        self.is_unflushed = false;
        let mut state = writer.lock();
        let failure = || fault.error(op, &conn_state.address).into();
        state.queue.fail_partly_written(&mut self.buffer, failure, &mut self.wakers);
        // The next link may be up already.
        if !is_up {
            self.applied_after = conn_state.generation();
            writer.apply_when_down(&mut state, &mut self.wakers);
        }
        writer.unlock(state, self.wakers.drain(..));
    }

    /// The connection has ended: no job is sent any more.
    fn on_end(&mut self, writer: &Writer<S>) {
        self.buffer.clear();
        (self.offset, self.next_write) = (0, NextWrite::Nothing);
        let mut state = writer.lock();
        state.is_closing = true;
        state.queue.close(&mut self.wakers);
        writer.unlock(state, self.wakers.drain(..));
    }
}
