//! The slow path of an operation: its handle has no live link.
//!
//! What comes first is decided under the lock of the connection's state, in this order:
//!
//! 1. The program has closed the connection: the operation fails.
//! 2. A break is unreported: the operation reports it. A read first returns what had arrived on that link.
//! 3. The connection has ended otherwise: the operation fails.
//! 4. A link is up: the operation takes it and goes on there.
//! 5. The operation waits, as [`WhenDown`] says.
//!
//! Next: [`conn_state`](crate::conn_state), which says what a handle does next.

use std::io;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::direction::DirectionState;
use super::handle::Handle;
use super::timer::now;
use crate::conn_state::{End, NextStep};
use crate::fault::{Cause, Fault};
use crate::io_error::{SharedIoError, is_try_again};
use crate::link::Link;
use crate::{Error, Op, WhenDown};

/// How long a read waits for the end of a broken link's stream that is not a socket but is built on one.
///
/// The kernel has already reported the break, so the stream normally ends at once. Only a stream that does not pass the
/// end on needs the limit.
const STREAM_END_TIMEOUT: Duration = Duration::from_secs(1);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Handle<S> {
    /// Does what an operation without a live link has to do. `None`: there is a live link now.
    ///
    /// For a reader with a buffer, the outcome can be bytes that had arrived before the break. `op` is the operation
    /// that an error names.
    #[cold]
    pub(super) fn poll_next_link(
        &mut self,
        dir: &mut DirectionState,
        cx: &mut Context<'_>,
        op: Op,
        buf: Option<&mut ReadBuf<'_>>,
    ) -> Poll<Option<io::Result<()>>> {
        if let Some(generation) = dir.interrupted_link(self.last_reported) {
            dir.clear();
            if !self.conn_state.is_closed() {
                let fault = self.conn_state.fault(generation, op);
                return Poll::Ready(Some(Err(fault.error(op, &self.conn_state.address).into())));
            }
        }
        // No stream takes from the task's budget here, and a loop over errors must yield too.
        ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
        let mut claimant = self.claimant(dir.direction);
        if dir.is_for_jobs && !self.context.settle_time.is_zero() {
            claimant.settles = Some(now(&self.context.runtime));
        }
        Poll::Ready(match self.conn_state.next_step(self.last_reported, claimant, cx.waker()) {
            NextStep::Use(link) => {
                dir.link_timeout.stop();
                self.link = OnceLock::from(link);
                None
            }
            NextStep::Report(fault, leftover) => {
                self.adopt_leftover(leftover);
                Some(match buf {
                    // rule: leftover-is-read-before-the-break
                    Some(buf) => ready!(self.poll_read_leftover(dir, cx, &fault, buf)),
                    None => Err(self.report_to_caller(dir, &fault, op)),
                })
            }
            NextStep::Ended(end) => {
                self.link.take();
                Some(match (end, op) {
                    (End::Finished, Op::Flush) => Ok(()),
                    (End::Finished, Op::Write) => Err(write_after_shutdown()),
                    // A read has returned the end of the stream once. Returning it again and again would make a reader
                    // spin that takes it for a break.
                    _ => Err(self.conn_state.end_error(end).into()),
                })
            }
            NextStep::Wait => {
                dir.note_registered(cx);
                Some(Err(ready!(self.poll_when_down(dir, cx))))
            }
            NextStep::Settle => {
                dir.note_registered(cx);
                let (time, runtime) = (self.context.settle_time, &self.context.runtime);
                ready!(dir.link_timeout.poll(cx, self.last_reported, time, runtime));
                // The caller comes again and finds that the link has settled.
                None
            }
        })
    }

    /// Waits for a link as the program's `when_down` says. Ready with the error when the wait is over.
    fn poll_when_down(&self, dir: &mut DirectionState, cx: &mut Context<'_>) -> Poll<io::Error> {
        let address = || self.conn_state.address.clone();
        Poll::Ready(match self.context.when_down {
            _ if dir.is_for_jobs => return Poll::Pending,
            WhenDown::Wait => return Poll::Pending,
            WhenDown::Fail => Error::Down { address: address() }.into(),
            WhenDown::WaitFor(limit) => {
                ready!(dir.link_timeout.poll(cx, self.last_reported, limit, &self.context.runtime));
                Error::WaitTimeout { address: address(), limit }.into()
            }
        })
    }

    /// Takes over a broken link that this reader never had, so that its bytes can be read.
    pub(super) fn adopt_leftover(&mut self, leftover: Option<Link<S>>) {
        if let Some(leftover) = leftover {
            self.link = OnceLock::from(leftover);
        }
    }

    /// Reads what had arrived on a broken link. When nothing is left, reports the break.
    ///
    /// A socket is asked for its bytes without waiting. Any other stream may be built on a socket that the runtime
    /// has not looked at yet, so its last bytes get some time:
    ///
    /// - If the kernel has reported the break, the stream is about to end. The read waits for that end, for at most
    ///   [`STREAM_END_TIMEOUT`].
    /// - Otherwise the read yields to the runtime once.
    fn poll_read_leftover(
        &mut self,
        dir: &mut DirectionState,
        cx: &mut Context<'_>,
        fault: &Arc<Fault>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let Some(link) = self.link.get_mut().filter(|link| link.generation == fault.generation) else {
            return Poll::Ready(self.report_to_reader(dir, fault));
        };
        let mut arrived = link.stream.read_arrived(buf);
        if arrived.is_none() && link.stream.socket().is_none() {
            // A stream built on a socket knows only what the runtime has seen on the socket.
            if fault.cause.is_from_kernel() {
                match link.stream.poll_read(cx, buf) {
                    Poll::Ready(outcome) => arrived = Some(outcome),
                    Poll::Pending => {
                        dir.begin_wait(fault.generation, &self.conn_state, cx);
                        let runtime = &self.context.runtime;
                        ready!(dir.stream_end_timeout.poll(cx, fault.generation, STREAM_END_TIMEOUT, runtime));
                    }
                }
            } else {
                ready!(dir.poll_yield_once(cx, fault.generation));
            }
        }
        Poll::Ready(match arrived {
            Some(Ok(())) if buf.filled().len() > before => {
                dir.finish_read();
                Ok(())
            }
            Some(Err(error)) if is_try_again(&error) => Err(error),
            Some(Err(error)) => Err(self.report_to_caller(dir, &fault.seen_as(error.into()), Op::Read)),
            Some(Ok(())) => self.report_to_reader(dir, &fault.seen_as(Cause::PeerClosed)),
            None => self.report_to_reader(dir, fault),
        })
    }

    /// Breaks the link after an error of its stream. Returns the error to report.
    ///
    /// Every error breaks the link, except the two kinds that mean "call again". A write finds out only that the peer
    /// has gone, so its error gives way to the reason if the dialer knows it.
    #[cold]
    pub(super) fn break_on_error(
        &mut self,
        dir: &mut DirectionState,
        generation: u64,
        op: Op,
        error: io::Error,
    ) -> io::Error {
        if is_try_again(&error) {
            return error;
        }
        let reason = if op == Op::Read { None } else { self.closing_error() };
        let cause = SharedIoError::new(reason.unwrap_or(error));
        match self.conn_state.record_break(generation, op, || Cause::Failed(cause.clone())) {
            Ok(fault) => self.report_to_caller(dir, &fault.seen_as(Cause::Failed(cause)), op),
            Err(end) => self.conn_state.end_error(end).into(),
        }
    }

    /// Breaks the link at the end of its stream, which is the peer's close unless another cause is recorded already.
    #[cold]
    pub(super) fn break_on_eof(&mut self, dir: &mut DirectionState, generation: u64) -> io::Result<()> {
        match self.conn_state.record_break(generation, Op::Read, || Cause::PeerClosed) {
            Ok(fault) => self.report_to_reader(dir, &fault.seen_as(Cause::PeerClosed)),
            Err(end) => Err(self.conn_state.end_error(end).into()),
        }
    }

    /// Notes that the handle has reported this break, and returns what a read returns for it.
    fn report_to_reader(&mut self, dir: &mut DirectionState, fault: &Fault) -> io::Result<()> {
        self.note_reported(dir, fault);
        self.read_outcome(fault, dir.close_as_error)
    }

    /// Notes that the handle has reported this break, and returns the error for its caller.
    pub(super) fn report_to_caller(&mut self, dir: &mut DirectionState, fault: &Fault, op: Op) -> io::Error {
        self.note_reported(dir, fault);
        fault.error(op, &self.conn_state.address).into()
    }

    /// Notes that the handle has reported this break and drops its link.
    ///
    /// From here on the handle may use the next link. In a whole `Conn` this counts for both directions.
    fn note_reported(&mut self, dir: &mut DirectionState, fault: &Fault) {
        self.last_reported = fault.generation; // rule: break-is-reported-once
        dir.clear();
        if self.link.get().is_some_and(|link| link.generation <= self.last_reported) {
            self.link.take();
        }
    }
}

/// What a `TcpStream` returns for a write after its shutdown: [`BrokenPipe`](io::ErrorKind::BrokenPipe).
pub(super) fn write_after_shutdown() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, Error::ClosedConnection)
}
