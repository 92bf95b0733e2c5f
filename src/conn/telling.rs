//! The slow path of an operation: there is no live link in its handle's hands. It tells its caller of a break, gets the
//! next link, or waits.

use std::io;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::handle::Handle;
use super::lane::Lane;
use crate::fault::{Cause, Fault, SharedIoError};
use crate::ledger::{End, Next, Report};
use crate::link::Link;
use crate::{Error, Op, WhenDown};

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Handle<S> {
    /// Finds out what to do without a live link. `None`: there is one now. For a reader with a buffer, the outcome can
    /// be bytes that had arrived before the break.
    #[cold]
    pub(super) fn poll_next(
        &mut self,
        lane: &mut Lane,
        cx: &mut Context<'_>,
        op: Op,
        buf: Option<&mut ReadBuf<'_>>,
    ) -> Poll<Option<io::Result<()>>> {
        if let Some(generation) = lane.owes(self.told) {
            lane.forget();
            if !self.ledger.is_closed() {
                let fault = self.ledger.fault(generation, op);
                return Poll::Ready(Some(Err(fault.error(op, &self.ledger.address).into())));
            }
        }
        // Without a link there is no stream to take its share of the task's budget: a loop of errors must yield, too.
        ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
        Poll::Ready(match self.ledger.next(self.told, self.seat(lane.direction), cx.waker()) {
            Next::Use(link) => {
                lane.end_patience();
                self.link = OnceLock::from(link);
                None
            }
            Next::Tell(fault, leftover) => {
                self.hold(leftover);
                Some(match buf {
                    Some(buf) => ready!(self.poll_rest(lane, cx, &fault, buf)),
                    None => Err(self.tell(lane, &fault, op)),
                })
            }
            Next::Over(end) => {
                self.link.take();
                self.ledger.publish();
                Some(match (end, op) {
                    (End::Finished, Op::Flush) => Ok(()),
                    (End::Finished, Op::Write) => Err(write_after_shutdown()),
                    // To a read, the end of the last link was the end of the stream, once. Again and again, it would
                    // make a reader spin who takes it for a break.
                    _ => Err(self.ledger.end_error(end).into()),
                })
            }
            Next::Wait => {
                lane.is_registered(cx);
                Some(Err(ready!(self.poll_patience(lane, cx))))
            }
        })
    }

    /// How long an operation waits for a link.
    fn poll_patience(&self, lane: &mut Lane, cx: &mut Context<'_>) -> Poll<io::Error> {
        let address = || self.ledger.address.clone();
        Poll::Ready(match self.tether.when_down {
            _ if lane.is_patient => return Poll::Pending,
            WhenDown::Wait => return Poll::Pending,
            WhenDown::Fail => Error::Down { address: address() }.into(),
            WhenDown::WaitFor(limit) => {
                ready!(lane.poll_patience(cx, self.told, limit, &self.tether.runtime));
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
        lane: &mut Lane,
        cx: &mut Context<'_>,
        fault: &Fault,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let Some(link) = self.link.get_mut().filter(|link| link.generation == fault.generation) else {
            return Poll::Ready(self.tell_reader(lane, fault));
        };
        let mut arrived = link.grip.read_arrived(buf);
        if arrived.is_none() && link.grip.socket().is_none() {
            // A stream built on a socket knows only what the runtime has seen of it.
            if fault.cause.is_of_the_kernel() {
                match link.grip.poll_read(cx, buf) {
                    Poll::Ready(outcome) => arrived = Some(outcome),
                    Poll::Pending => {
                        lane.wait(fault.generation, &self.ledger, cx);
                        ready!(lane.poll_last_words(cx, fault.generation, &self.tether.runtime));
                    }
                }
            } else {
                ready!(lane.poll_turn(cx, fault.generation));
            }
        }
        Poll::Ready(match arrived {
            Some(Ok(())) if buf.filled().len() > before => {
                lane.finish_read();
                Ok(())
            }
            Some(Err(error)) if is_passing(&error) => Err(error),
            // The stream knows better why.
            Some(Err(error)) if !fault.cause.is_own() => {
                Err(self.tell(lane, &fault.with_cause(error.into()), Op::Read))
            }
            // The end of the stream, of which the dialer knew only that it had come. (After an error on it, what a
            // socket beneath reads as the end is not the peer's word.)
            Some(Ok(())) if matches!(fault.cause, Cause::SaidClosed) => {
                self.tell_reader(lane, &fault.with_cause(Cause::PeerClosed))
            }
            _ => self.tell_reader(lane, fault),
        })
    }

    /// The stream has given an error: that is a break, whatever the kind, but for the two that say "try again".
    #[cold]
    pub(super) fn fail(&mut self, lane: &mut Lane, generation: u64, op: Op, error: io::Error) -> io::Error {
        if is_passing(&error) {
            return error;
        }
        let cause = SharedIoError::new(error);
        match self.ledger.report(generation, op, || Cause::Failed(cause.clone())) {
            Report::Broken(fault) if fault.cause.is_own() => self.tell(lane, &fault, op),
            Report::Over(end) => self.ledger.end_error(end).into(),
            Report::Broken(fault) => self.tell(lane, &fault.with_cause(Cause::Failed(cause)), op),
        }
    }

    /// The stream has ended. That is the peer's close, unless it is known already that it was not.
    #[cold]
    pub(super) fn end_of_stream(&mut self, lane: &mut Lane, generation: u64) -> io::Result<()> {
        match self.ledger.report(generation, Op::Read, || Cause::PeerClosed) {
            // The dialer knew only that it had come.
            Report::Broken(fault) if matches!(fault.cause, Cause::SaidClosed) => {
                self.tell_reader(lane, &fault.with_cause(Cause::PeerClosed))
            }
            Report::Broken(fault) => self.tell_reader(lane, &fault),
            Report::Over(end) => Err(self.ledger.end_error(end).into()),
        }
    }

    /// To a reader, the peer's close is the end of the stream and no error.
    fn tell_reader(&mut self, lane: &mut Lane, fault: &Fault) -> io::Result<()> {
        let error = self.tell(lane, fault, Op::Read);
        if matches!(fault.cause, Cause::PeerClosed) { Ok(()) } else { Err(error) }
    }

    /// Makes the error of a break and notes that the caller has been told.
    pub(super) fn tell(&mut self, lane: &mut Lane, fault: &Fault, op: Op) -> io::Error {
        self.ledger.publish();
        self.told = fault.generation;
        lane.forget();
        if self.link.get().is_some_and(|link| link.generation <= self.told) {
            self.link.take();
        }
        fault.error(op, &self.ledger.address).into()
    }
}

/// The two kinds that are no break (and that no tokio stream gives).
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// What a `TcpStream` says to a write after its shutdown.
pub(super) fn write_after_shutdown() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, Error::ClosedConnection)
}
