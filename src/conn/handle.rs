//! What a whole `Conn` and each half do alike: use the link that is live, and tell each break once.
//!
//! A handle keeps the number of the last break that it has told its caller of. It touches no link whose number is not
//! above that, and takes no link while a break is untold. So the caller hears of every break before the first byte
//! of the next link, and a `write_all` that began on one link can never go on with its rest on another.
//!
//! In a whole `Conn` the two directions are one handle: what one was told, both were. An operation that was already
//! under way in the other direction (it waits, or has written a part of its bytes) is tied to its link by its
//! [`Lane`] and ends with that link's break all the same.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime;
use tokio::time::Sleep;

use crate::fault::{Cause, Fault};
use crate::ledger::{Direction, End, Ledger, Next, Seat};
use crate::link::{Bytes, Grip, Link, Socket};
use crate::{Error, Op, WhenDown};

/// A handle's place in the connection.
pub(super) struct Handle<S> {
    pub(super) tether: Arc<Tether<S>>,
    ledger: Arc<Ledger<S>>,
    /// The link in use. It can be broken already; [`Handle::live`] tells. A cell, so that looking at the stream
    /// through a shared reference can fetch it.
    link: OnceLock<Link<S>>,
    /// The newest generation whose break the caller has been told of.
    told: u64,
    is_half: bool,
    /// The writing side has been shut down through this handle.
    is_finished: bool,
}

/// What all handles of a connection hold; when the last one lets go, the connection closes.
pub(crate) struct Tether<S> {
    pub(crate) ledger: Arc<Ledger<S>>,
    pub(crate) when_down: WhenDown,
    pub(crate) runtime: runtime::Handle,
    /// Begins a shutdown without waiting for it; a function, as a half is dropped where the stream's traits are not
    /// known.
    shutdown_now: fn(&mut Grip<S>),
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Tether<S> {
    pub(crate) fn new(ledger: Arc<Ledger<S>>, when_down: WhenDown, runtime: runtime::Handle) -> Self {
        let shutdown_now = |grip: &mut Grip<S>| {
            let _ = grip.poll_shutdown(&mut Context::from_waker(Waker::noop()));
        };
        Self { ledger, when_down, runtime, shutdown_now }
    }
}

impl<S> Drop for Tether<S> {
    fn drop(&mut self) {
        self.ledger.close();
    }
}

/// One direction of a handle.
pub(super) struct Lane {
    direction: Direction,
    /// The waker that the ledger keeps for this direction.
    waker: Option<Waker>,
    /// The link on which an operation of this direction is under way, 0 if none is.
    tied_to: u64,
    /// Runs while an operation waits for a link.
    patience: Option<Patience>,
}

/// The end of a wait.
struct Patience {
    /// Which outage it belongs to: the generation that was told last when it began.
    told: u64,
    sleep: Pin<Box<Sleep>>,
}

impl Lane {
    pub(super) fn new(direction: Direction) -> Self {
        Self { direction, waker: None, tied_to: 0, patience: None }
    }
}

impl<S> Handle<S> {
    pub(super) fn new(tether: Arc<Tether<S>>) -> Self {
        let ledger = Arc::clone(&tether.ledger);
        Self { tether, ledger, link: OnceLock::new(), told: 0, is_half: false, is_finished: false }
    }

    pub(super) fn ledger(&self) -> &Arc<Ledger<S>> {
        &self.ledger
    }

    /// Divides a whole handle in two.
    pub(super) fn split(self) -> (Self, Self) {
        let Self { tether, ledger, link, told, is_finished, .. } = self;
        let half = |link: Option<Link<S>>| Self {
            tether: Arc::clone(&tether),
            ledger: Arc::clone(&ledger),
            link: link.map_or_else(OnceLock::new, OnceLock::from),
            told,
            is_half: true,
            is_finished,
        };
        match link.into_inner() {
            Some(Link { generation, grip }) => {
                let (one, other) = grip.share();
                (half(Some(Link { generation, grip: one })), half(Some(Link { generation, grip: other })))
            }
            None => (half(None), half(None)),
        }
    }

    /// Makes one handle of two halves: what one of them was told, the whole was.
    pub(super) fn join(self, other: Self) -> Self {
        let told = self.told.max(other.told);
        let newest = match (self.link.into_inner(), other.link.into_inner()) {
            (Some(a), Some(b)) => Some(if a.generation < b.generation { b } else { a }),
            (a, b) => a.or(b),
        };
        let link = newest.filter(|link| link.generation > told).map(|link| self.ledger.unshare(link));
        Self {
            tether: self.tether,
            ledger: self.ledger,
            link: link.map_or_else(OnceLock::new, OnceLock::from),
            told,
            is_half: false,
            is_finished: self.is_finished || other.is_finished,
        }
    }

    /// Takes everything out of a handle that is about to be dropped.
    pub(super) fn detach(&mut self) -> Self {
        Self {
            tether: Arc::clone(&self.tether),
            ledger: Arc::clone(&self.ledger),
            link: std::mem::take(&mut self.link),
            told: self.told,
            is_half: self.is_half,
            is_finished: self.is_finished,
        }
    }

    pub(super) fn is_same_connection(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.ledger, &other.ledger)
    }

    /// Shuts the writing side down without waiting: what a dropped half does.
    pub(super) fn shutdown_now(&mut self) {
        if self.link.get().is_none() {
            let link = self.ledger.take_live(self.told, self.seat(Direction::Write));
            self.link = link.map_or_else(OnceLock::new, OnceLock::from);
        }
        let live = self.link.get_mut().filter(|link| self.ledger.is_live(link.generation));
        let shut = live.map_or(0, |link| {
            (self.tether.shutdown_now)(&mut link.grip);
            link.generation
        });
        self.finish(shut);
    }

    fn finish(&mut self, shut: u64) {
        self.is_finished = true;
        self.ledger.finish(shut);
    }

    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("address", &self.ledger.address)
            .field("status", &*self.ledger.status().borrow())
            .finish_non_exhaustive()
    }

    fn seat(&self, direction: Direction) -> Seat {
        Seat { direction, is_half: self.is_half }
    }

    fn end_error(&self, end: End) -> io::Error {
        self.ledger.end_error(end).into()
    }
}

impl<S: 'static> Handle<S> {
    /// The stream of the live link, if there is one and nothing has to be told before it.
    pub(super) fn get_ref(&self, direction: Direction) -> Option<&S> {
        if self.link.get().is_none() {
            if let Some(link) = self.ledger.take_live(self.told, self.seat(direction)) {
                // If another thread was faster, this is a second grip on the same socket.
                let _ = self.link.set(link);
            }
        }
        let link = self.link.get().filter(|link| self.ledger.is_live(link.generation))?;
        link.grip.get_ref()
    }
}

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
                        lane.tied_to = 0;
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
                        lane.tied_to = if n < bytes.len() { generation } else { 0 };
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
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.fail(lane, generation, Op::Flush, error))),
                Poll::Pending if self.wait(lane, generation, cx) => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        if let Some(end) = self.ledger.ended() {
            return Poll::Ready(Err(self.end_error(end)));
        }
        let link = self.link.get();
        if link.is_some_and(|link| link.grip.socket().is_none() && link.generation > self.told) {
            // The stream had a buffer of its own, and what it held is lost.
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
        lane.tied_to = 0;
        loop {
            if let Some(link) = self.live(lane) {
                let generation = link.generation;
                let outcome = match link.grip.poll_shutdown(cx) {
                    Poll::Ready(outcome) => outcome,
                    Poll::Pending if self.wait(lane, generation, cx) => return Poll::Pending,
                    Poll::Pending => continue,
                };
                self.finish(generation);
                return Poll::Ready(outcome.map_err(|error| self.fail(lane, generation, Op::Shutdown, error)));
            }
            let outcome = match self.ledger.next(self.told, self.seat(lane.direction), cx.waker()) {
                Next::Use(link) => {
                    self.link = OnceLock::from(link);
                    continue;
                }
                // What the peer sent before it closed can still be read, and then the end of the stream.
                Next::Tell(fault, leftover) if matches!(fault.cause, Cause::PeerClosed) => {
                    if let Some(leftover) = leftover {
                        self.link = OnceLock::from(leftover);
                    }
                    Ok(())
                }
                Next::Tell(fault, _) => Err(self.tell(lane, &fault, Op::Shutdown)),
                Next::Over(End::Finished) | Next::Wait => Ok(()),
                Next::Over(end) => return Poll::Ready(Err(self.end_error(end))),
            };
            self.finish(0);
            return Poll::Ready(outcome);
        }
    }

    /// The link to use, if it is live and the lane owes its caller nothing.
    #[inline]
    fn live(&mut self, lane: &Lane) -> Option<&mut Link<S>> {
        let is_owed = lane.tied_to != 0 && lane.tied_to <= self.told;
        let link = self.link.get_mut()?;
        (!is_owed && self.ledger.is_live(link.generation)).then_some(link)
    }

    /// Prepares to wait for the stream: from now on, a break of the link wakes this task as well. False if the link
    /// has broken already.
    #[inline]
    fn wait(&self, lane: &mut Lane, generation: u64, cx: &Context<'_>) -> bool {
        lane.tied_to = generation;
        if lane.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            self.ledger.register(lane.direction, cx.waker());
            lane.waker = Some(cx.waker().clone());
        }
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
        if lane.tied_to != 0 && lane.tied_to <= self.told {
            // The other direction was told first.
            let error = match self.ledger.fault(lane.tied_to) {
                Some(fault) => fault.error(op, &self.ledger.address).into(),
                None => io::ErrorKind::ConnectionAborted.into(),
            };
            lane.tied_to = 0;
            return Poll::Ready(Some(Err(error)));
        }
        // The ledger may store the waker below; it does so only when this ends in waiting.
        match self.ledger.next(self.told, self.seat(lane.direction), cx.waker()) {
            Next::Use(link) => {
                self.link = OnceLock::from(link);
                Poll::Ready(None)
            }
            Next::Tell(fault, leftover) => {
                if let Some(leftover) = leftover {
                    self.link = OnceLock::from(leftover);
                }
                if let Some(buf) = buf {
                    let before = buf.filled().len();
                    let link = self.link.get_mut().filter(|link| link.generation == fault.generation);
                    match link.and_then(|link| link.grip.read_arrived(buf)) {
                        Some(Ok(())) if buf.filled().len() > before => {
                            lane.tied_to = 0;
                            return Poll::Ready(Some(Ok(())));
                        }
                        Some(Err(error)) if !is_passing(&error) => {
                            let error = Fault { cause: error.into(), op, ..*fault };
                            return Poll::Ready(Some(Err(self.tell(lane, &error, op))));
                        }
                        _ => {}
                    }
                    if matches!(fault.cause, Cause::PeerClosed) {
                        self.tell(lane, &fault, op);
                        return Poll::Ready(Some(Ok(())));
                    }
                }
                Poll::Ready(Some(Err(self.tell(lane, &fault, op))))
            }
            Next::Over(End::Finished) if op == Op::Read => Poll::Ready(Some(Ok(()))),
            Next::Over(End::Finished) if op == Op::Write => Poll::Ready(Some(Err(write_after_shutdown()))),
            Next::Over(end) => Poll::Ready(Some(Err(self.end_error(end)))),
            Next::Wait => {
                lane.waker = Some(cx.waker().clone());
                self.poll_patience(lane, cx).map(|error| Some(Err(error)))
            }
        }
    }

    /// How long an operation waits for a link.
    fn poll_patience(&self, lane: &mut Lane, cx: &mut Context<'_>) -> Poll<io::Error> {
        let limit = match self.tether.when_down {
            WhenDown::Wait => return Poll::Pending,
            WhenDown::Fail => {
                return Poll::Ready(Error::Down { address: self.ledger.address.clone() }.into());
            }
            WhenDown::WaitFor(limit) => limit,
        };
        let current = lane.patience.take().filter(|patience| patience.told == self.told);
        let patience = lane.patience.insert(current.unwrap_or_else(|| self.begin_patience(limit)));
        ready!(patience.sleep.as_mut().poll(cx));
        lane.patience = None;
        Poll::Ready(Error::WaitTimeout { address: self.ledger.address.clone(), limit }.into())
    }

    fn begin_patience(&self, limit: Duration) -> Patience {
        // A timer of the connection's own runtime, whoever polls this handle.
        let _guard = self.tether.runtime.enter();
        Patience { told: self.told, sleep: Box::pin(tokio::time::sleep(limit)) }
    }

    /// The stream has given an error: that is a break, whatever the kind, but for the two that say "try again".
    #[cold]
    fn fail(&mut self, lane: &mut Lane, generation: u64, op: Op, error: io::Error) -> io::Error {
        if is_passing(&error) {
            return error;
        }
        let cause = Cause::from(error);
        let Cause::Failed(shared) = &cause else { unreachable!("an I/O error is a failure") };
        let shared = shared.clone();
        self.ledger.report(generation, op, || cause);
        let fault = Fault { generation, op, cause: Cause::Failed(shared), lived: Duration::ZERO };
        self.tell(lane, &fault, op)
    }

    /// The stream has ended. That is the peer's close, unless it is known already that it was not.
    #[cold]
    fn end_of_stream(&mut self, lane: &mut Lane, generation: u64) -> io::Result<()> {
        match self.ledger.report(generation, Op::Read, || Cause::PeerClosed) {
            Some(fault) => {
                let error = self.tell(lane, &fault, Op::Read);
                if matches!(fault.cause, Cause::PeerClosed) { Ok(()) } else { Err(error) }
            }
            None => match self.ledger.ended() {
                Some(end) => Err(self.end_error(end)),
                None => Ok(()),
            },
        }
    }

    /// Makes the error of a break and notes that the caller has been told.
    fn tell(&mut self, lane: &mut Lane, fault: &Fault, op: Op) -> io::Error {
        self.told = fault.generation;
        lane.tied_to = 0;
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
