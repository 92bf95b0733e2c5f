//! The operations of a handle on a live link.
//!
//! A whole `Conn` and each half use the live link and report each break once. A handle keeps the number of the last
//! break that it has reported. It uses no link whose number is not above that, and takes no link while a break is
//! unreported. So the caller learns of every break before the first byte of the next link. A `write_all` that began
//! on one link can never go on with its rest on another.
//!
//! In a whole `Conn` the two directions are one handle: a break that one has reported counts as reported for both. An
//! operation under way in the other direction (it waits, or has written a part of its bytes) is tied to its link by its
//! [`DirectionState`]. It reports that link's break all the same.
//!
//! Each operation has the same shape. It tries the live link. If the stream is pending, it stores its waker and checks
//! once more that the link is live. If there is no live link, the slow path decides.
//!
//! Next: [`slow_path`](super::slow_path), for a handle without a live link.

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
use crate::conn_state::{End, NextStep};
use crate::fault::Cause;
use crate::io_error::is_try_again;
use crate::link::{Link, Socket, WriteBufs};

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Handle<S> {
    /// Without a link: what the streams of this connection will answer.
    pub(super) fn is_write_vectored(&self) -> bool {
        self.link.get().map_or_else(Socket::is_socket::<S>, |link| link.stream.is_write_vectored())
    }

    /// Reads from the live link. Reports a break only after everything that had arrived before it was read.
    ///
    /// On a live link this takes no lock (unless halves share a stream that is not a socket) and allocates nothing. The
    /// loop turns only when the link breaks or is replaced.
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
                        link.byte_count.add_read(buf.filled().len() - before); // rule: reads-are-counted
                        dir.finish_read();
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Ready(Ok(())) => {
                        if let Some(outcome) = ready!(self.poll_eof(dir, cx, generation)) {
                            return Poll::Ready(outcome);
                        }
                    }
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Err(self.break_on_error(dir, generation, Op::Read, error)));
                    }
                    Poll::Pending => match self.poll_idle_timeout(dir, cx, generation) {
                        Poll::Ready(limit) => match self.read_after_idle_timeout(dir, generation, limit, buf) {
                            Some(outcome) => return Poll::Ready(outcome),
                            None => continue,
                        },
                        Poll::Pending if self.begin_wait(dir, generation, cx) => return Poll::Pending,
                        Poll::Pending => continue,
                    },
                }
            }
            if let Some(outcome) = ready!(self.poll_next_link(dir, cx, Op::Read, Some(buf))) {
                return Poll::Ready(outcome);
            }
        }
    }

    /// Writes on the live link, after checking whether the peer has closed it.
    ///
    /// On a live link this takes no lock (unless halves share a stream that is not a socket) and allocates nothing. A
    /// stream that takes no byte of a non-empty buffer counts as broken, as for tokio's `write_all`.
    #[inline]
    pub(super) fn poll_write(
        &mut self,
        dir: &mut DirectionState,
        cx: &mut Context<'_>,
        bufs: WriteBufs<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.is_shut_down {
            return Poll::Ready(Err(write_after_shutdown()));
        }
        loop {
            if let Some((link, context)) = self.live_with_context(dir) {
                let generation = link.generation;
                // rule: no-write-into-a-closed-link
                if link.stream.check_closed(&mut dir.last_check, |stream| (context.is_closed)(stream)) {
                    ready!(self.poll_peer_close(dir, cx, generation));
                    continue;
                }
                match link.stream.poll_write(cx, bufs) {
                    Poll::Ready(Ok(0)) if bufs.len() > 0 => {
                        let error = io::ErrorKind::WriteZero.into();
                        return Poll::Ready(Err(self.break_on_error(dir, generation, Op::Write, error)));
                    }
                    Poll::Ready(Ok(n)) => {
                        link.byte_count.add_written(n); // rule: writes-are-counted
                        dir.finish_write(generation, n < bufs.len());
                        return Poll::Ready(Ok(n));
                    }
                    Poll::Ready(Err(error)) => match ready!(self.poll_failed_write(dir, cx, generation, error)) {
                        Some(error) => return Poll::Ready(Err(error)),
                        None => continue,
                    },
                    Poll::Pending if self.begin_wait(dir, generation, cx) => return Poll::Pending,
                    Poll::Pending => continue,
                }
            }
            if let Some(outcome) = ready!(self.poll_next_link(dir, cx, Op::Write, None)) {
                return Poll::Ready(outcome.map(|()| 0));
            }
        }
    }

    /// Flushes the stream of the live link.
    ///
    /// Without a live link it reports a break only if bytes may have been lost in a buffer of the stream. A socket
    /// has no such buffer, so a flush on a broken socket succeeds and leaves the report to the next read or write.
    pub(super) fn poll_flush(&mut self, dir: &mut DirectionState, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(link) = self.live(dir) {
            let generation = link.generation;
            match link.stream.poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    dir.finish();
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(self.break_on_error(dir, generation, Op::Flush, error)));
                }
                Poll::Pending if self.begin_wait(dir, generation, cx) => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        let ended = !matches!(self.conn_state.ended(), Some(End::Finished) | None);
        // A stream that is not a socket may have had bytes in a buffer of its own. They are lost with its link.
        let is_unreported = dir.interrupted_link(self.last_reported).is_some() || self.link.get().is_some();
        if ended || (is_unreported && !Socket::is_socket::<S>()) {
            return self.poll_next_link(dir, cx, Op::Flush, None).map(|outcome| outcome.unwrap_or(Ok(())));
        }
        // The kernel has every byte that was accepted.
        Poll::Ready(Ok(()))
    }

    /// Shuts down the writing side of the link, if there is one. No other link follows.
    ///
    /// The live link stays readable to the end of its stream. A break that is not reported yet is reported here,
    /// unless it is the peer's close, which the reads still report.
    pub(super) fn poll_shutdown(&mut self, dir: &mut DirectionState, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_shut_down {
            return Poll::Ready(Ok(()));
        }
        // The caller has given up any write that was under way.
        dir.clear();
        loop {
            if let Some(generation) = self.live(dir).map(|link| link.generation) {
                // From here on, a break of this link ends the connection.
                let socket = match self.conn_state.begin_shutdown() {
                    Some((last, socket)) if last == generation => socket,
                    // It has just broken.
                    _ => continue,
                };
                let outcome = match (socket, self.link.get_mut()) {
                    (None, Some(link)) => match link.stream.poll_shutdown(cx) {
                        Poll::Ready(outcome) => outcome,
                        Poll::Pending if self.begin_wait(dir, generation, cx) => return Poll::Pending,
                        Poll::Pending => continue,
                    },
                    (socket, _) => socket.unwrap_or(Ok(())),
                };
                self.is_shut_down = true;
                return Poll::Ready(outcome.map_err(|error| self.break_on_error(dir, generation, Op::Shutdown, error)));
            }
            let outcome = match self.conn_state.next_step(self.last_reported, self.claimant(dir.direction), cx.waker())
            {
                NextStep::Use(link) => {
                    self.link = OnceLock::from(link);
                    continue;
                }
                // The bytes that the peer sent before it closed can still be read, and then the end of the stream.
                NextStep::Report(fault, leftover) if matches!(fault.cause, Cause::PeerClosed) => {
                    self.adopt_leftover(leftover);
                    Ok(())
                }
                NextStep::Report(fault, _) => Err(self.report_to_caller(dir, &fault, Op::Shutdown)),
                NextStep::Ended(End::Finished) => Ok(()),
                NextStep::Wait | NextStep::Settle => {
                    dir.note_registered(cx);
                    Ok(())
                }
                NextStep::Ended(end) => {
                    self.link.take();
                    return Poll::Ready(Err(self.conn_state.end_error(end).into()));
                }
            };
            // This handle has no live link to shut down. If a newer link is up, it is shut down instead.
            self.shut_down_now();
            return Poll::Ready(outcome);
        }
    }

    /// A read has found the end of the stream. `None`: the other half has recorded why.
    #[cold]
    fn poll_eof(
        &mut self,
        dir: &mut DirectionState,
        cx: &mut Context<'_>,
        generation: u64,
    ) -> Poll<Option<io::Result<()>>> {
        ready!(self.poll_yield_to_other_half(dir, cx, generation));
        Poll::Ready(self.conn_state.is_live(generation).then(|| self.break_on_eof(dir, generation)))
    }

    /// A check before a write has found that the peer has closed the link. Afterwards the link is broken.
    #[cold]
    fn poll_peer_close(&mut self, dir: &mut DirectionState, cx: &mut Context<'_>, generation: u64) -> Poll<()> {
        ready!(self.poll_yield_to_other_half(dir, cx, generation));
        self.record_peer_close(generation, Op::Write);
        Poll::Ready(())
    }

    /// A write has failed. `None`: the other half has recorded why.
    #[cold]
    fn poll_failed_write(
        &mut self,
        dir: &mut DirectionState,
        cx: &mut Context<'_>,
        generation: u64,
        error: io::Error,
    ) -> Poll<Option<io::Error>> {
        if error.kind() == io::ErrorKind::BrokenPipe {
            ready!(self.poll_yield_to_other_half(dir, cx, generation));
            if !self.conn_state.is_live(generation) {
                return Poll::Ready(None);
            }
        }
        Poll::Ready(Some(self.break_on_error(dir, generation, Op::Write, error)))
    }

    /// Gives the other half, which may be on another thread, a moment to record why the socket has failed.
    ///
    /// The kernel reports a reset only once, to the first of two operations. To the second one the socket just looks
    /// closed: a read finds the end of the stream, a write a broken pipe.
    fn poll_yield_to_other_half(&self, dir: &mut DirectionState, cx: &mut Context<'_>, generation: u64) -> Poll<()> {
        let socket = self.link.get().and_then(|link| link.stream.socket());
        if !(self.is_half && socket.is_some_and(Socket::has_hung_up)) {
            return Poll::Ready(());
        }
        let yielded = dir.poll_yield_once(cx, generation);
        if yielded.is_pending() {
            // The system may have stopped the other thread between its call and its record.
            std::thread::yield_now();
            dir.begin_wait(generation, &self.conn_state, cx);
        }
        yielded
    }

    /// Records that the peer has closed this handle's link, as the socket or the dialer says.
    #[cold]
    pub(super) fn record_peer_close(&mut self, generation: u64, op: Op) {
        let socket = self.link.get().and_then(|link| link.stream.socket().cloned());
        // Asked for before the state's lock is taken: that lock is the last one, and this may take the stream's.
        let closing_error = self.closing_error();
        let cause = || match socket {
            // No write comes after a shutdown.
            Some(socket) => socket.closing_cause(false),
            None => closing_error.map_or(Cause::DialerSaysClosed, Cause::from),
        };
        // The caller then finds the link broken, whatever broke it first.
        let _ = self.conn_state.record_break(generation, op, cause);
    }

    /// Why the peer has closed this handle's link, if it is not a socket and the dialer knows.
    ///
    /// The answer may have replaced the waker of a reader in the stream. Recording the break wakes the reader.
    #[cold]
    pub(super) fn closing_error(&mut self) -> Option<io::Error> {
        self.link.get_mut()?.stream.closing_error(self.context.closing_error)
    }

    /// The link to use, if it is live and the operation under way has no break to report. One atomic load.
    #[inline]
    fn live(&mut self, dir: &DirectionState) -> Option<&mut Link<S>> {
        self.live_with_context(dir).map(|(link, _)| link)
    }

    /// The same, with the context, which the borrow of the link would otherwise hide.
    #[inline]
    pub(super) fn live_with_context(&mut self, dir: &DirectionState) -> Option<(&mut Link<S>, &ConnContext<S>)> {
        let link = self.link.get_mut()?;
        let is_live = self.conn_state.is_live(link.generation) && dir.interrupted_link(self.last_reported).is_none();
        is_live.then_some((link, &*self.context))
    }

    /// Ready with the idle timeout when it has passed for a waiting read.
    #[inline]
    fn poll_idle_timeout(&mut self, dir: &mut DirectionState, cx: &mut Context<'_>, generation: u64) -> Poll<Duration> {
        let Some(limit) = self.context.idle_timeout else { return Poll::Pending };
        let idle_timer = dir.idle_timer.get_or_insert_default();
        idle_timer.poll(cx, generation, limit, &self.context.runtime).map(|()| limit)
    }

    /// Reads once more after the idle timeout has passed. `None`: nothing came, and the link is broken now.
    #[cold]
    fn read_after_idle_timeout(
        &mut self,
        dir: &mut DirectionState,
        generation: u64,
        limit: Duration,
        buf: &mut ReadBuf<'_>,
    ) -> Option<io::Result<()>> {
        let before = buf.filled().len();
        let link = self.link.get_mut()?;
        // Bytes may have arrived that the runtime has not seen.
        match link.stream.read_arrived(buf) {
            Some(Ok(())) if buf.filled().len() > before => {
                link.byte_count.add_read(buf.filled().len() - before);
                dir.finish_read();
                Some(Ok(()))
            }
            Some(Ok(())) => Some(self.break_on_eof(dir, generation)),
            Some(Err(error)) if !is_try_again(&error) => {
                Some(Err(self.break_on_error(dir, generation, Op::Read, error)))
            }
            Some(Err(_)) | None => {
                let _ = self.conn_state.record_break(generation, Op::Read, || Cause::IdleTimeout(limit));
                None
            }
        }
    }

    /// Prepares to wait for the stream or the break of its link. False if the link has broken already.
    ///
    /// The check comes after the waker is stored. So a break that this check misses finds the waker.
    #[inline]
    pub(super) fn begin_wait(&self, dir: &mut DirectionState, generation: u64, cx: &Context<'_>) -> bool {
        dir.begin_wait(generation, &self.conn_state, cx); // rule: waker-before-the-look-at-the-link
        self.conn_state.is_live(generation)
    }
}
