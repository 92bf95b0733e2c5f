//! What a connection that is lent link by link needs of its halves: to take a link without a word on it, and to let go of
//! it for good.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use super::direction::DirectionState;
use super::handle::Handle;
use super::split::{ReadHalf, WriteHalf};
use crate::Op;
use crate::conn_state::Direction;
use crate::fault::Cause;
use crate::link::Link;

/// A link that a half has let go of. What drops it is the program's own code, so that it is dropped where no lock is held.
pub(crate) type Released<S> = Option<Link<S>>;

impl<S> Handle<S> {
    /// Takes the breaks of the links up to `generation` for told, and lets go of them.
    fn pass_over(&mut self, dir: &mut DirectionState, generation: u64) -> Released<S> {
        dir.forget_link();
        self.last_reported = self.last_reported.max(generation);
        if dir.direction == Direction::Read {
            self.conn_state.pass_over(self.last_reported);
        }
        if self.link.get()?.generation <= self.last_reported { self.link.take() } else { None }
    }
}

impl<S> ReadHalf<S> {
    /// Passes over the breaks of the links up to `generation`, and what is left to read of them. Whoever waits looks again.
    #[must_use]
    pub(crate) fn pass_over(&mut self, generation: u64) -> Released<S> {
        self.handle.pass_over(&mut self.dir, generation)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> ReadHalf<S> {
    /// Takes the link that is live in hand, or the next one, as soon as everything before it has been told. Gives its number.
    pub(crate) fn poll_link(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let Self { handle, dir, .. } = self;
        loop {
            if let Some((link, context)) = handle.live_and_tether(dir) {
                let generation = link.generation;
                if !link.stream.is_closed_by_peer(&mut dir.last_look, |stream| (context.is_closed)(stream)) {
                    return Poll::Ready(Ok(generation));
                }
                handle.report_closed(generation, Op::Read);
            }
            if let Some(outcome) = ready!(handle.poll_next(dir, cx, Op::Read, None)) {
                outcome?;
            }
        }
    }
}

impl<S> WriteHalf<S> {
    /// Passes over the breaks of the links up to `generation`.
    #[must_use]
    pub(crate) fn pass_over(&mut self, generation: u64) -> Released<S> {
        self.handle.pass_over(&mut self.dir, generation)
    }

    /// Breaks a link on purpose, unless it has broken already, and passes over what is to be told of it.
    ///
    /// (Of a link that is gone, the actor knows: to ask for another one again would cut the backoff short.)
    #[must_use]
    pub(crate) fn hang_up(&mut self, generation: u64) -> Released<S> {
        self.handle.conn_state.report(generation, Op::Read, || Cause::Requested);
        self.pass_over(generation)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> WriteHalf<S> {
    /// Shuts down the stream of a live link, if it is no socket: it may have a farewell of its own. (A socket is shut down
    /// when it is hung up.)
    pub(crate) fn poll_farewell(&mut self, cx: &mut Context<'_>, generation: u64) -> Poll<io::Result<()>> {
        let Self { handle, dir, .. } = self;
        handle.take_link(dir.direction);
        while let Some((link, _)) = handle.live_and_tether(dir) {
            if link.generation != generation || link.stream.socket().is_some() {
                return Poll::Ready(Ok(()));
            }
            match link.stream.poll_shutdown(cx) {
                Poll::Pending if handle.wait(dir, generation, cx) => return Poll::Pending,
                Poll::Pending => {}
                Poll::Ready(outcome) => {
                    dir.finish();
                    return Poll::Ready(outcome);
                }
            }
        }
        // What was written may not have left the stream.
        handle.poll_flush(dir, cx)
    }
}
