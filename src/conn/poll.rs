//! What a whole `Conn` and each half do alike: use the link that is live, and tell each break once.
//!
//! A handle keeps the number of the last break that it has told its caller of. It touches no link whose number is not
//! above that, and takes no link while a break is untold. So the caller hears of every break before the first byte
//! of the next link, and a `write_all` that began on one link can never go on with its rest on another.
//!
//! In a whole `Conn` the two directions are one handle: what one was told, both were. An operation that was already
//! under way in the other direction (it waits, or has written a part of its bytes) is tied to its link by its
//! [`DirectionState`] and ends with that link's break all the same.

use std::io;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::context::ConnContext;
use super::direction::DirectionState;
use super::handle::Handle;
use super::slow_path::write_after_shutdown;
use crate::Op;
use crate::conn_state::{End, Next};
use crate::fault::Cause;
use crate::io_error::is_try_again;
use crate::link::{Bytes, Link, Socket};

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Handle<S> {
    pub(super) fn is_write_vectored(&self) -> bool {
        self.link.get().map_or_else(Socket::is_one::<S>, |link| link.stream.is_write_vectored())
    }

    #[inline]
    pub(super) fn poll_read(
        &mut self,
        dir: &mut DirectionState,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        loop {
            if let Some(link) = self.live(dir) {
                let generation = link.generation;
                match link.stream.poll_read(cx, buf) {
                    Poll::Ready(Ok(())) if buf.filled().len() > before => {
                        link.byte_count.add_read(buf.filled().len() - before);
                        dir.finish_read();
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Ready(Ok(())) => return Poll::Ready(self.end_of_stream(dir, generation)),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(self.fail(dir, generation, Op::Read, error))),
                    Poll::Pending => match self.poll_silence(dir, cx, generation) {
                        Poll::Ready(limit) => match self.read_after_silence(dir, generation, limit, buf) {
                            Some(outcome) => return Poll::Ready(outcome),
                            None => continue,
                        },
                        Poll::Pending if self.wait(dir, generation, cx) => return Poll::Pending,
                        Poll::Pending => continue,
                    },
                }
            }
            if let Some(outcome) = ready!(self.poll_next(dir, cx, Op::Read, Some(buf))) {
                return Poll::Ready(outcome);
            }
        }
    }

    #[inline]
    pub(super) fn poll_write(
        &mut self,
        dir: &mut DirectionState,
        cx: &mut Context<'_>,
        bytes: Bytes<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.is_finished {
            return Poll::Ready(Err(write_after_shutdown()));
        }
        loop {
            if let Some((link, context)) = self.live_and_tether(dir) {
                let generation = link.generation;
                if link.stream.is_closed_by_peer(&mut dir.last_look, |stream| (context.is_closed)(stream)) {
                    self.report_closed(generation, Op::Write);
                    continue;
                }
                match link.stream.poll_write(cx, bytes) {
                    Poll::Ready(Ok(0)) if bytes.len() > 0 => {
                        let error = io::ErrorKind::WriteZero.into();
                        return Poll::Ready(Err(self.fail(dir, generation, Op::Write, error)));
                    }
                    Poll::Ready(Ok(n)) => {
                        link.byte_count.add_written(n);
                        dir.finish_write(generation, n < bytes.len());
                        return Poll::Ready(Ok(n));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(self.fail(dir, generation, Op::Write, error))),
                    Poll::Pending if self.wait(dir, generation, cx) => return Poll::Pending,
                    Poll::Pending => continue,
                }
            }
            if let Some(outcome) = ready!(self.poll_next(dir, cx, Op::Write, None)) {
                return Poll::Ready(outcome.map(|()| 0));
            }
        }
    }

    pub(super) fn poll_flush(&mut self, dir: &mut DirectionState, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(link) = self.live(dir) {
            let generation = link.generation;
            match link.stream.poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    dir.finish();
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.fail(dir, generation, Op::Flush, error))),
                Poll::Pending if self.wait(dir, generation, cx) => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        let ended = !matches!(self.conn_state.ended(), Some(End::Finished) | None);
        // What a stream other than a socket held in a buffer of its own is lost with its link.
        let is_untold = dir.owes(self.last_reported).is_some() || self.link.get().is_some();
        if ended || (is_untold && !Socket::is_one::<S>()) {
            return self.poll_next(dir, cx, Op::Flush, None).map(|outcome| outcome.unwrap_or(Ok(())));
        }
        // Every byte that was accepted has been handed to the kernel.
        Poll::Ready(Ok(()))
    }

    /// Ends the conversation: the writing side of the link, if there is one, and the prospect of any other.
    pub(super) fn poll_shutdown(&mut self, dir: &mut DirectionState, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_finished {
            return Poll::Ready(Ok(()));
        }
        // Whatever was under way, its caller has turned to this.
        dir.forget();
        loop {
            if let Some(generation) = self.live(dir).map(|link| link.generation) {
                // From here on, a break of this link is the end.
                let socket = match self.conn_state.finish() {
                    Some((last, socket)) if last == generation => socket,
                    // It has just broken.
                    _ => continue,
                };
                let outcome = match (socket, self.link.get_mut()) {
                    (None, Some(link)) => match link.stream.poll_shutdown(cx) {
                        Poll::Ready(outcome) => outcome,
                        Poll::Pending if self.wait(dir, generation, cx) => return Poll::Pending,
                        Poll::Pending => continue,
                    },
                    (socket, _) => socket.unwrap_or(Ok(())),
                };
                self.is_finished = true;
                return Poll::Ready(outcome.map_err(|error| self.fail(dir, generation, Op::Shutdown, error)));
            }
            let outcome = match self.conn_state.next(self.last_reported, self.claimant(dir.direction), cx.waker()) {
                Next::Use(link) => {
                    self.link = OnceLock::from(link);
                    continue;
                }
                // What the peer sent before it closed can still be read, and then the end of the stream.
                Next::Tell(fault, leftover) if matches!(fault.cause, Cause::PeerClosed) => {
                    self.hold(leftover);
                    Ok(())
                }
                Next::Tell(fault, _) => Err(self.tell(dir, &fault, Op::Shutdown)),
                Next::Over(End::Finished) => Ok(()),
                Next::Wait => {
                    dir.is_registered(cx);
                    Ok(())
                }
                Next::Over(end) => {
                    self.link.take();
                    return Poll::Ready(Err(self.conn_state.end_error(end).into()));
                }
            };
            // There is no conversation of this handle's to end in good order. If a newer link is up, it ends, too.
            self.finish_now();
            self.conn_state.publish();
            return Poll::Ready(outcome);
        }
    }

    /// The peer has closed the link in hand, which the stream, or the dialer, knows.
    #[cold]
    pub(super) fn report_closed(&self, generation: u64, op: Op) {
        let socket = self.link.get().and_then(|link| link.stream.socket().cloned());
        let cause = || socket.map_or(Cause::SaidClosed, |socket| socket.closing_cause());
        self.conn_state.report(generation, op, cause);
    }

    /// The link to use, if it is live and the dir owes its caller nothing.
    #[inline]
    fn live(&mut self, dir: &DirectionState) -> Option<&mut Link<S>> {
        self.live_and_tether(dir).map(|(link, _)| link)
    }

    #[inline]
    pub(super) fn live_and_tether(&mut self, dir: &DirectionState) -> Option<(&mut Link<S>, &ConnContext<S>)> {
        let link = self.link.get_mut()?;
        let is_live = self.conn_state.is_live(link.generation) && dir.owes(self.last_reported).is_none();
        is_live.then_some((link, &*self.context))
    }

    /// The wait of a read, as far as an idle timeout limits it.
    #[inline]
    fn poll_silence(&mut self, dir: &mut DirectionState, cx: &mut Context<'_>, generation: u64) -> Poll<Duration> {
        let Some(limit) = self.context.idle_timeout else { return Poll::Pending };
        dir.poll_silence(cx, generation, limit, &self.context.runtime).map(|()| limit)
    }

    /// The idle timeout has run out. `None`: the link is broken.
    #[cold]
    fn read_after_silence(
        &mut self,
        dir: &mut DirectionState,
        generation: u64,
        limit: Duration,
        buf: &mut ReadBuf<'_>,
    ) -> Option<io::Result<()>> {
        let before = buf.filled().len();
        let link = self.link.get_mut()?;
        // Something may have come that the runtime has not seen.
        match link.stream.read_arrived(buf) {
            Some(Ok(())) if buf.filled().len() > before => {
                link.byte_count.add_read(buf.filled().len() - before);
                dir.finish_read();
                Some(Ok(()))
            }
            Some(Ok(())) => Some(self.end_of_stream(dir, generation)),
            Some(Err(error)) if !is_try_again(&error) => Some(Err(self.fail(dir, generation, Op::Read, error))),
            Some(Err(_)) | None => {
                self.conn_state.report(generation, Op::Read, || Cause::Silent(limit));
                None
            }
        }
    }

    /// Waits for the stream or the break of its link. False if it has broken already.
    #[inline]
    pub(super) fn wait(&self, dir: &mut DirectionState, generation: u64, cx: &Context<'_>) -> bool {
        dir.wait(generation, &self.conn_state, cx);
        self.conn_state.is_live(generation)
    }
}
