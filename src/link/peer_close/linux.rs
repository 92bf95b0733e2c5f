//! Linux: the runtime's flag of priority data, and poll(2) in each tick of the coarse clock.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;

use super::super::Socket;
use super::super::socket::with_stream;

/// When the kernel was last asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastCheck {
    /// Nanoseconds on the coarse clock.
    tick: i64,
}

impl Socket {
    /// Whether the runtime has seen the close.
    #[inline]
    pub(super) fn has_close_flag(&self) -> bool {
        with_stream!(self, stream => stream.try_io(Interest::PRIORITY, || Ok(())).is_ok())
    }

    /// Whether nothing can pass in either direction any more: after a reset, or a close by both sides. A system call.
    pub(crate) fn has_hung_up(&self) -> bool {
        let is_hang_up = |stream| poll_events(stream).is_some_and(|events| events.contains(PollFlags::HUP));
        with_stream!(self, stream => is_hang_up(stream.as_fd()))
    }

    /// Waits until the peer's close or reset has arrived. Nothing else wakes it.
    pub(crate) async fn closed_by_peer(&self) {
        loop {
            match with_stream!(self, stream => stream.ready(Interest::PRIORITY).await) {
                Ok(ready) if ready.is_read_closed() => return,
                Ok(_) => {}
                // The runtime shuts down and drops this task.
                Err(_) => return std::future::pending().await,
            }
        }
    }
}

impl LastCheck {
    /// Moves to the current tick. Returns whether it is another one than before.
    #[inline]
    pub(super) fn advance(&mut self) -> bool {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        let tick = now.tv_sec.wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec);
        std::mem::replace(&mut self.tick, tick) != tick
    }
}

/// Asks the kernel whether the peer has closed.
pub(crate) fn is_closed_now(stream: &impl AsFd) -> bool {
    // `POLLERR` alone means that the socket's error queue holds something, such as a time stamp.
    let closed = PollFlags::RDHUP | PollFlags::HUP | PollFlags::NVAL;
    poll_events(stream.as_fd()).is_some_and(|events| events.intersects(closed))
}

/// What poll(2) says about the end of a socket. `None`: nothing has happened.
fn poll_events(stream: BorrowedFd<'_>) -> Option<PollFlags> {
    let mut fds = [PollFd::from_borrowed_fd(stream, PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // It fails only when the kernel is out of memory. Then nothing is known.
    let count = poll(&mut fds, Some(&at_once)).ok()?;
    (count > 0).then(|| fds[0].revents())
}
