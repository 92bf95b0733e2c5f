//! What a whole `Conn` and each half do alike: use the link that is live, and tell each break once.
//!
//! A handle keeps the number of the last break that it has told its caller of. It touches no link whose number is not
//! above that, and takes no link while a break is untold. So the caller hears of every break before the first byte
//! of the next link, and a `write_all` that began on one link can never go on with its rest on another.
//!
//! In a whole `Conn` the two directions are one handle: what one was told, both were. An operation that was already
//! under way in the other direction (it waits, or has written a part of its bytes) is tied to its link by its
//! [`Lane`] and ends with that link's break all the same.

use std::io;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::handle::Handle;
use super::lane::Lane;
use crate::fault::{Cause, Fault, SharedIoError};
use crate::ledger::{End, Next, Report};
use crate::link::{Bytes, Link, Socket};
use crate::{Error, Op, WhenDown};

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Handle<S> {
    pub(super) fn is_write_vectored(&self) -> bool {
        self.link.get().map_or_else(Socket::is_one::<S>, |link| link.grip.is_write_vectored())
    }

    pub(super) fn poll_read(
        &mut self,
        lane: &mut Lane,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        loop {
            if let Some(link) = self.live(lane) {
                let generation = link.generation;
                match link.grip.poll_read(cx, buf) {
                    Poll::Ready(Ok(())) if buf.filled().len() > before => {
                        lane.tie(None);
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Ready(Ok(())) => return Poll::Ready(self.end_of_stream(lane, generation)),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(self.fail(lane, generation, Op::Read, error))),
                    Poll::Pending if self.wait(lane, generation, cx) => return Poll::Pending,
                    Poll::Pending => continue,
                }
            }
            if let Some(outcome) = ready!(self.poll_next(lane, cx, Op::Read, Some(buf))) {
                return Poll::Ready(outcome);
            }
        }
    }

    pub(super) fn poll_write(
        &mut self,
        lane: &mut Lane,
        cx: &mut Context<'_>,
        bytes: Bytes<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.is_finished {
            return Poll::Ready(Err(write_after_shutdown()));
        }
        loop {
            if let Some(link) = self.live(lane) {
                let generation = link.generation;
                if let Some(socket) = link.grip.socket() {
                    if socket.is_closed_by_peer() {
                        let socket = socket.clone();
                        self.ledger.report(generation, Op::Write, || socket.closing_cause());
                        continue;
                    }
                }
                match link.grip.poll_write(cx, bytes) {
                    Poll::Ready(Ok(0)) if bytes.len() > 0 => {
                        let error = io::ErrorKind::WriteZero.into();
                        return Poll::Ready(Err(self.fail(lane, generation, Op::Write, error)));
                    }
                    Poll::Ready(Ok(n)) => {
                        // The caller has a rest to write, which belongs to this link only.
                        lane.tie((n < bytes.len()).then_some(generation));
                        return Poll::Ready(Ok(n));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(self.fail(lane, generation, Op::Write, error))),
                    Poll::Pending if self.wait(lane, generation, cx) => return Poll::Pending,
                    Poll::Pending => continue,
                }
            }
            if let Some(outcome) = ready!(self.poll_next(lane, cx, Op::Write, None)) {
                return Poll::Ready(outcome.map(|()| 0));
            }
        }
    }

    pub(super) fn poll_flush(&mut self, lane: &mut Lane, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(link) = self.live(lane) {
            let generation = link.generation;
            match link.grip.poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    lane.tie(None);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.fail(lane, generation, Op::Flush, error))),
                Poll::Pending if self.wait(lane, generation, cx) => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        let ended = !matches!(self.ledger.ended(), Some(End::Finished) | None);
        // What a stream other than a socket held in a buffer of its own is lost with its link.
        let is_untold = lane.owes(self.told).is_some() || self.link.get().is_some();
        if ended || (is_untold && !Socket::is_one::<S>()) {
            return self.poll_next(lane, cx, Op::Flush, None).map(|outcome| outcome.unwrap_or(Ok(())));
        }
        // Every byte that was accepted has been handed to the kernel.
        Poll::Ready(Ok(()))
    }

    /// Ends the conversation: the writing side of the link, if there is one, and the prospect of any other.
    pub(super) fn poll_shutdown(&mut self, lane: &mut Lane, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_finished {
            return Poll::Ready(Ok(()));
        }
        // Whatever was under way, its caller has turned to this.
        lane.tie(None);
        loop {
            if let Some(generation) = self.live(lane).map(|link| link.generation) {
                // From here on, a break of this link is the end.
                let socket = match self.ledger.finish() {
                    Some((last, socket)) if last == generation => socket,
                    // It has just broken.
                    _ => continue,
                };
                let outcome = match (socket, self.link.get_mut()) {
                    (None, Some(link)) => match link.grip.poll_shutdown(cx) {
                        Poll::Ready(outcome) => outcome,
                        Poll::Pending if self.wait(lane, generation, cx) => return Poll::Pending,
                        Poll::Pending => continue,
                    },
                    (socket, _) => socket.unwrap_or(Ok(())),
                };
                self.is_finished = true;
                return Poll::Ready(outcome.map_err(|error| self.fail(lane, generation, Op::Shutdown, error)));
            }
            let outcome = match self.ledger.next(self.told, self.seat(lane.direction), cx.waker()) {
                Next::Use(link) => {
                    self.link = OnceLock::from(link);
                    continue;
                }
                // What the peer sent before it closed can still be read, and then the end of the stream.
                Next::Tell(fault, leftover) if matches!(fault.cause, Cause::PeerClosed) => {
                    self.hold(leftover);
                    Ok(())
                }
                Next::Tell(fault, _) => Err(self.tell(lane, &fault, Op::Shutdown)),
                Next::Over(End::Finished) => Ok(()),
                Next::Wait => {
                    lane.is_registered(cx);
                    Ok(())
                }
                Next::Over(end) => {
                    self.link.take();
                    return Poll::Ready(Err(self.ledger.end_error(end).into()));
                }
            };
            // There is no conversation of this handle's to end in good order. If a newer link is up, it ends, too.
            self.finish_now();
            self.ledger.publish();
            return Poll::Ready(outcome);
        }
    }

    /// The link to use, if it is live and the lane owes its caller nothing.
    #[inline]
    fn live(&mut self, lane: &Lane) -> Option<&mut Link<S>> {
        let link = self.link.get_mut()?;
        (self.ledger.is_live(link.generation) && lane.owes(self.told).is_none()).then_some(link)
    }

    /// Waits for the stream or the break of its link. False if it has broken already.
    #[inline]
    fn wait(&self, lane: &mut Lane, generation: u64, cx: &Context<'_>) -> bool {
        lane.wait(generation, &self.ledger, cx);
        self.ledger.is_live(generation)
    }

    /// Finds out what to do without a live link. `None`: there is one now. For a reader with a buffer, the outcome can
    /// be bytes that had arrived before the break.
    #[cold]
    fn poll_next(
        &mut self,
        lane: &mut Lane,
        cx: &mut Context<'_>,
        op: Op,
        buf: Option<&mut ReadBuf<'_>>,
    ) -> Poll<Option<io::Result<()>>> {
        if let Some(generation) = lane.owes(self.told) {
            lane.tie(None);
            let fault = self.ledger.fault(generation, op);
            return Poll::Ready(Some(Err(fault.error(op, &self.ledger.address).into())));
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
            WhenDown::Wait => return Poll::Pending,
            WhenDown::Fail => Error::Down { address: address() }.into(),
            WhenDown::WaitFor(limit) => {
                ready!(lane.poll_patience(cx, self.told, limit, &self.tether.runtime));
                Error::WaitTimeout { address: address(), limit }.into()
            }
        })
    }

    /// Takes a broken link that the reader never had in its hands.
    fn hold(&mut self, leftover: Option<Link<S>>) {
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
        let is_socket = link.grip.socket().is_some();
        Poll::Ready(match link.grip.read_arrived(buf) {
            Some(Ok(())) if buf.filled().len() > before => {
                lane.tie(None);
                Ok(())
            }
            Some(Err(error)) if is_passing(&error) => Err(error),
            // The stream knows better.
            Some(Err(error)) => {
                let fault = Fault { cause: error.into(), ..*fault };
                Err(self.tell(lane, &fault, Op::Read))
            }
            None if !is_socket => {
                // A stream built on a socket knows only what the runtime has seen of it.
                ready!(lane.poll_turn(cx, fault.generation));
                self.tell_reader(lane, fault)
            }
            Some(Ok(())) | None => self.tell_reader(lane, fault),
        })
    }

    /// The stream has given an error: that is a break, whatever the kind, but for the two that say "try again".
    #[cold]
    fn fail(&mut self, lane: &mut Lane, generation: u64, op: Op, error: io::Error) -> io::Error {
        if is_passing(&error) {
            return error;
        }
        let cause = SharedIoError::new(error);
        let own = Fault { cause: Cause::Failed(cause.clone()), ..Fault::forgotten(generation, op) };
        match self.ledger.report(generation, op, || Cause::Failed(cause)) {
            // The error is the echo of what this program did to the link.
            Report::Broken(fault) if matches!(fault.cause, Cause::Requested) => self.tell(lane, &fault, op),
            Report::Over(end) => self.ledger.end_error(end).into(),
            Report::Broken(_) => self.tell(lane, &own, op),
        }
    }

    /// The stream has ended. That is the peer's close, unless it is known already that it was not.
    #[cold]
    fn end_of_stream(&mut self, lane: &mut Lane, generation: u64) -> io::Result<()> {
        match self.ledger.report(generation, Op::Read, || Cause::PeerClosed) {
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
    fn tell(&mut self, lane: &mut Lane, fault: &Fault, op: Op) -> io::Error {
        self.ledger.publish();
        self.told = fault.generation;
        lane.tie(None);
        if self.link.get().is_some_and(|link| link.generation <= self.told) {
            self.link.take();
        }
        fault.error(op, &self.ledger.address).into()
    }
}

/// The two kinds that are no break (and that no tokio stream gives).
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// What a `TcpStream` says to a write after its shutdown.
fn write_after_shutdown() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, Error::ClosedConnection)
}
