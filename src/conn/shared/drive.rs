//! Writing, with the right to it in hand.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::queue::NextWrite;
use super::write_permit::WritePermit;
use super::writer::{CROWD_MEMORY, Writer};
use crate::{Error, Op, WhenDown};

/// Why a writer stops.
pub(super) enum Stop {
    /// There is nothing to write, or no link any more.
    Rest,
    /// It is the turn of a caller that writes its bytes itself.
    Caller,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> WritePermit<S> {
    /// Writes bytes of a caller that is alone, as far as the link takes them now. Returns how many the stream has taken.
    pub(super) fn write_alone(&mut self, writer: &Writer<S>, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<usize> {
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
                    self.is_unflushed = !self.is_unflushed && !writer.is_direct;
                }
                Poll::Ready(Err(error)) => match Error::of(&error) {
                    Some(Error::IoError { .. }) => {
                        self.is_unflushed = false;
                        // Unless one of its bytes was on this link, that is no concern of this job's.
                        if written > 0 {
                            return Err(error);
                        }
                        writer.check_link()?;
                    }
                    // "Try again": the task will.
                    None => break,
                    Some(_) => return Err(error),
                },
            }
        }
        Ok(written)
    }

    /// Writes what is queued; a caller with a job of its `own`, only that.
    pub(super) fn drive(&mut self, writer: &Writer<S>, own: Option<(u64, &[u8])>, cx: &mut Context<'_>) -> Poll<Stop> {
        loop {
            let outcome = if self.is_unflushed {
                Pin::new(&mut self.half).poll_flush(cx).map_ok(|()| 0)
            } else {
                if self.next_write == NextWrite::Rest {
                    let mut state = writer.lock();
                    if own.is_some_and(|(number, _)| !state.queue.is_callers_turn(number)) {
                        return Poll::Ready(Stop::Rest);
                    }
                    self.next_write = state.queue.take(&mut self.buffer);
                    self.offset = 0;
                }
                let bytes = match (self.next_write, own) {
                    (NextWrite::Write, _) => &self.buffer[self.offset..],
                    (NextWrite::Caller(number, begun), Some((own, bytes))) if number == own => &bytes[begun..],
                    (NextWrite::Caller(..), _) => {
                        self.next_write = NextWrite::Rest;
                        return Poll::Ready(Stop::Caller);
                    }
                    (NextWrite::Rest, _) => return Poll::Ready(Stop::Rest),
                };
                let length = bytes.len();
                let outcome = Pin::new(&mut self.half).poll_write(cx, bytes);
                if let Poll::Ready(Ok(n)) = outcome {
                    self.advance(n, n == length);
                }
                outcome
            };
            match outcome {
                Poll::Pending => return self.wait(writer),
                Poll::Ready(Ok(n)) => self.sent(writer, n),
                Poll::Ready(Err(error)) => match Error::of(&error) {
                    Some(Error::IoError { generation, op, .. }) => self.break_off(writer, *generation, *op),
                    Some(_) => {
                        self.abandon(writer);
                        return Poll::Ready(Stop::Rest);
                    }
                    // "Try again".
                    None => {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    /// The stream has taken `n` bytes, or has been flushed.
    fn sent(&mut self, writer: &Writer<S>, n: usize) {
        let is_flushed = writer.is_direct || self.is_unflushed;
        self.is_unflushed = !is_flushed;
        let mut state = writer.lock();
        state.queue.written(n);
        if is_flushed {
            match state.queue.flushed(&mut self.wakers) {
                0 => {}
                1 => state.crowd = state.crowd.saturating_sub(1),
                _ => state.crowd = CROWD_MEMORY,
            }
        }
        writer.unlock(state, self.wakers.drain(..));
    }

    /// The link takes nothing now, or there is none.
    fn wait(&mut self, writer: &Writer<S>) -> Poll<Stop> {
        let (is_up, generation) = (writer.is_up(), writer.context.conn_state.generation());
        let mut state = writer.lock();
        if !self.is_unflushed {
            // Jobs may be withdrawn meanwhile.
            self.drop_written();
            state.queue.give_back(&mut self.buffer);
        }
        // A break that has cut a job in two, or the flush of some, comes first: at the next poll.
        let is_down = !is_up && !self.is_unflushed && !state.queue.is_any_begun();
        let is_outage = is_down && std::mem::replace(&mut self.waited_after, generation) != generation;
        let is_over = is_down && writer.context.when_down == WhenDown::Fail;
        if is_outage || is_over {
            writer.apply_policy(&mut state, &mut self.wakers);
        }
        writer.unlock(state, self.wakers.drain(..));
        if is_over { Poll::Ready(Stop::Rest) } else { Poll::Pending }
    }

    fn break_off(&mut self, writer: &Writer<S>, generation: u64, op: Op) {
        let conn_state = &writer.context.conn_state;
        let fault = conn_state.fault(generation, op);
        let is_up = writer.is_up();
        self.drop_written();
        self.is_unflushed = false;
        let mut state = writer.lock();
        let why = || fault.error(op, &conn_state.address).into();
        state.queue.break_off(&mut self.buffer, why, &mut self.wakers);
        // The next link may be up already.
        if !is_up {
            self.waited_after = conn_state.generation();
            writer.apply_policy(&mut state, &mut self.wakers);
        }
        writer.unlock(state, self.wakers.drain(..));
    }

    fn abandon(&mut self, writer: &Writer<S>) {
        self.buffer.clear();
        (self.offset, self.next_write) = (0, NextWrite::Rest);
        let mut state = writer.lock();
        state.is_closing = true;
        state.queue.abandon(&mut self.wakers);
        writer.unlock(state, self.wakers.drain(..));
    }
}
