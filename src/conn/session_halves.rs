//! What `Sessions` needs of the halves: to take a link without an operation on it, and to give one up unreported.
//!
//! It is here and not in `session` because it works on the private parts of the halves.
//!
//! Next: [`Sessions`](crate::Sessions), its only user.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use super::handle::Released;
use super::split::{ReadHalf, WriteHalf};
use crate::Op;

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> ReadHalf<S> {
    /// Waits for a live link and takes it. Returns its generation, or reports a break that comes before it.
    ///
    /// Also checks whether the peer has closed the link already, as a write would. So no conversation begins on it
    /// then.
    pub(crate) fn poll_live_link(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let Self { handle, dir, .. } = self;
        loop {
            if let Some((link, context)) = handle.live_with_context(dir) {
                let generation = link.generation;
                if !link.stream.check_closed(&mut dir.last_check, |stream| (context.is_closed)(stream)) {
                    return Poll::Ready(Ok(generation));
                }
                handle.record_peer_close(generation, Op::Read);
            }
            if let Some(outcome) = ready!(handle.poll_next_link(dir, cx, Op::Read, None)) {
                outcome?;
            }
        }
    }
}

impl<S> WriteHalf<S> {
    /// Breaks a link on purpose and skips that break. Does nothing to a link that has broken already.
    #[must_use]
    pub(crate) fn discard_link(&mut self, generation: u64) -> Released<S> {
        self.handle.conn_state.break_link(generation);
        self.skip_breaks(generation)
    }
}

#[cfg(feature = "outbox")]
impl<S> WriteHalf<S> {
    /// How many bytes written on this link the peer's kernel has not acknowledged: so far, or when it broke.
    ///
    /// `None` where that is not known.
    pub(crate) fn unacknowledged(&mut self, generation: u64) -> Option<u64> {
        let handle = &mut self.handle;
        handle.take_link(self.dir.direction);
        if !handle.conn_state.is_live(generation) {
            return handle.conn_state.fault(generation, Op::Write).unacknowledged;
        }
        let link = handle.link.get().filter(|link| link.generation == generation)?;
        link.stream.socket()?.unacknowledged()
    }

    /// Breaks a link with this error as the cause. Gives it back if the link has broken already.
    #[must_use]
    pub(crate) fn fail_link(&self, generation: u64, error: io::Error) -> Option<io::Error> {
        let mut error = Some(error);
        let cause = || error.take().unwrap_or_else(|| io::ErrorKind::Other.into()).into();
        // It is an error if an end of the connection has taken the link away. Then the cause does not matter.
        let _ = self.handle.conn_state.record_break(generation, Op::Read, cause);
        error
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> WriteHalf<S> {
    /// Shuts down the stream of a live link if it is not a socket: it may have a closing message of its own.
    ///
    /// A socket needs none of this, as [`discard_link`](Self::discard_link) shuts it down.
    pub(crate) fn poll_shutdown_stream(&mut self, cx: &mut Context<'_>, generation: u64) -> Poll<io::Result<()>> {
        let Self { handle, dir, .. } = self;
        handle.take_link(dir.direction);
        while let Some((link, _)) = handle.live_with_context(dir) {
            if link.generation != generation || link.stream.socket().is_some() {
                return Poll::Ready(Ok(()));
            }
            match link.stream.poll_shutdown(cx) {
                Poll::Pending if handle.begin_wait(dir, generation, cx) => return Poll::Pending,
                Poll::Pending => {}
                Poll::Ready(outcome) => {
                    dir.finish();
                    return Poll::Ready(outcome);
                }
            }
        }
        // The link has broken. What was written may not have left the stream, which only a flush reports.
        handle.poll_flush(dir, cx)
    }
}
