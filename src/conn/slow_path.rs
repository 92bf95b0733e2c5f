//! The slow path of an operation: there is no live link in its handle's hands. It tells its caller of a break, gets the
//! next link, or waits.

use std::io;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::direction::DirectionState;
use super::handle::Handle;
use crate::conn_state::{End, Next, Report};
use crate::fault::{Cause, Fault};
use crate::io_error::{SharedIoError, is_try_again};
use crate::link::Link;
use crate::{Error, Op, WhenDown};

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Handle<S> {
    /// Finds out what to do without a live link. `None`: there is one now. For a reader with a buffer, the outcome can
    /// be bytes that had arrived before the break.
    #[cold]
    pub(super) fn poll_next(
        &mut self,
        dir: &mut DirectionState,
        cx: &mut Context<'_>,
        op: Op,
        buf: Option<&mut ReadBuf<'_>>,
    ) -> Poll<Option<io::Result<()>>> {
        if let Some(generation) = dir.owes(self.last_reported) {
            dir.forget();
            if !self.conn_state.is_closed() {
                let fault = self.conn_state.fault(generation, op);
                return Poll::Ready(Some(Err(fault.error(op, &self.conn_state.address).into())));
            }
        }
        // Without a link there is no stream to take its share of the task's budget: a loop of errors must yield, too.
        ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
        Poll::Ready(match self.conn_state.next(self.last_reported, self.claimant(dir.direction), cx.waker()) {
            Next::Use(link) => {
                dir.end_patience();
                self.link = OnceLock::from(link);
                None
            }
            Next::Tell(fault, leftover) => {
                self.hold(leftover);
                Some(match buf {
                    Some(buf) => ready!(self.poll_rest(dir, cx, &fault, buf)),
                    None => Err(self.tell(dir, &fault, op)),
                })
            }
            Next::Over(end) => {
                self.link.take();
                self.conn_state.publish();
                Some(match (end, op) {
                    (End::Finished, Op::Flush) => Ok(()),
                    (End::Finished, Op::Write) => Err(write_after_shutdown()),
                    // To a read, the end of the last link was the end of the stream, once. Again and again, it would
                    // make a reader spin who takes it for a break.
                    _ => Err(self.conn_state.end_error(end).into()),
                })
            }
            Next::Wait => {
                dir.is_registered(cx);
                Some(Err(ready!(self.poll_patience(dir, cx))))
            }
        })
    }

    /// How long an operation waits for a link.
    fn poll_patience(&self, dir: &mut DirectionState, cx: &mut Context<'_>) -> Poll<io::Error> {
        let address = || self.conn_state.address.clone();
        Poll::Ready(match self.context.when_down {
            _ if dir.is_patient => return Poll::Pending,
            WhenDown::Wait => return Poll::Pending,
            WhenDown::Fail => Error::Down { address: address() }.into(),
            WhenDown::WaitFor(limit) => {
                ready!(dir.poll_patience(cx, self.last_reported, limit, &self.context.runtime));
                Error::WaitTimeout { address: address(), limit }.into()
            }
        })
    }

    /// Takes a broken link that the reader never had in its hands.
    pub(super) fn hold(&mut self, leftover: Option<Link<S>>) {
        if let Some(leftover) = leftover {
            self.link = OnceLock::from(leftover);
        }
    }

    /// Reads what had arrived on a broken link; when there is no more of it, tells of the break.
    fn poll_rest(
        &mut self,
        dir: &mut DirectionState,
        cx: &mut Context<'_>,
        fault: &Arc<Fault>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let Some(link) = self.link.get_mut().filter(|link| link.generation == fault.generation) else {
            return Poll::Ready(self.tell_reader(dir, fault));
        };
        let mut arrived = link.stream.read_arrived(buf);
        if arrived.is_none() && link.stream.socket().is_none() {
            // A stream built on a socket knows only what the runtime has seen of it.
            if fault.cause.is_of_the_kernel() {
                match link.stream.poll_read(cx, buf) {
                    Poll::Ready(outcome) => arrived = Some(outcome),
                    Poll::Pending => {
                        dir.wait(fault.generation, &self.conn_state, cx);
                        ready!(dir.poll_last_words(cx, fault.generation, &self.context.runtime));
                    }
                }
            } else {
                ready!(dir.poll_turn(cx, fault.generation));
            }
        }
        Poll::Ready(match arrived {
            Some(Ok(())) if buf.filled().len() > before => {
                dir.finish_read();
                Ok(())
            }
            Some(Err(error)) if is_try_again(&error) => Err(error),
            Some(Err(error)) => Err(self.tell(dir, &fault.seen_as(error.into()), Op::Read)),
            // (After an error on it, what a socket beneath reads as the end is not the peer's word.)
            Some(Ok(())) => self.tell_reader(dir, &fault.seen_as(Cause::PeerClosed)),
            None => self.tell_reader(dir, fault),
        })
    }

    /// The stream has given an error: that is a break, whatever the kind, but for the two that say "try again".
    #[cold]
    pub(super) fn fail(&mut self, dir: &mut DirectionState, generation: u64, op: Op, error: io::Error) -> io::Error {
        if is_try_again(&error) {
            return error;
        }
        let cause = SharedIoError::new(error);
        match self.conn_state.report(generation, op, || Cause::Failed(cause.clone())) {
            Report::Broken(fault) => self.tell(dir, &fault.seen_as(Cause::Failed(cause)), op),
            Report::Over(end) => self.conn_state.end_error(end).into(),
        }
    }

    /// The stream has ended. That is the peer's close, unless it is known already that it was not.
    #[cold]
    pub(super) fn end_of_stream(&mut self, dir: &mut DirectionState, generation: u64) -> io::Result<()> {
        match self.conn_state.report(generation, Op::Read, || Cause::PeerClosed) {
            Report::Broken(fault) => self.tell_reader(dir, &fault.seen_as(Cause::PeerClosed)),
            Report::Over(end) => Err(self.conn_state.end_error(end).into()),
        }
    }

    /// To a reader, the peer's close is the end of the stream and no error.
    fn tell_reader(&mut self, dir: &mut DirectionState, fault: &Fault) -> io::Result<()> {
        let error = self.tell(dir, fault, Op::Read);
        if matches!(fault.cause, Cause::PeerClosed) { Ok(()) } else { Err(error) }
    }

    /// Makes the error of a break and notes that the caller has been told.
    pub(super) fn tell(&mut self, dir: &mut DirectionState, fault: &Fault, op: Op) -> io::Error {
        self.conn_state.publish();
        self.last_reported = fault.generation;
        dir.forget();
        if self.link.get().is_some_and(|link| link.generation <= self.last_reported) {
            self.link.take();
        }
        fault.error(op, &self.conn_state.address).into()
    }
}

/// What a `TcpStream` says to a write after its shutdown.
pub(super) fn write_after_shutdown() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, Error::ClosedConnection)
}
