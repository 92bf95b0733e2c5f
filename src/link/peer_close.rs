//! The check whether the peer's close or reset has reached this machine.
//!
//! On Linux there are two sources:
//!
//! - **The runtime's readiness flag.** When a FIN or RST arrives, epoll reports `EPOLLRDHUP`, and tokio keeps it as a
//!   flag that never goes away. `try_io` with an interest in *priority* data reads just that flag: one atomic load, no
//!   lock, no system call. Unread bytes do not hide it. (The same interest covers urgent data, for which tokio's streams
//!   are never registered.)
//! - **The kernel.** The flag is as old as the runtime's last look at its sockets, and a busy runtime looks rarely. So
//!   the first write in each tick of the kernel's coarse clock (4 ms with `CONFIG_HZ=250`) asks the kernel by poll(2).
//!   Reading that clock takes about 3 ns. A write can miss only a close that arrived within the current tick.
//!
//! On other platforms a peek at a socket that the runtime knows to be readable replaces both. There, unread bytes hide
//! the close.
//!
//! Next: [`Socket::closing_cause`], which finds out why a closed socket is closed.

#[cfg(target_os = "linux")]
use std::os::fd::{AsFd, BorrowedFd};

#[cfg(target_os = "linux")]
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;

use super::Socket;
use super::socket::with_stream;
#[cfg(not(target_os = "linux"))]
use crate::io_error::is_try_again;

/// When the kernel was last asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastCheck {
    /// Nanoseconds on the coarse clock.
    #[cfg(target_os = "linux")]
    tick: i64,
}

#[cfg(target_os = "linux")]
impl Socket {
    /// Checks whether the peer's close or reset is known. Asks the kernel if this is the first check in its tick.
    #[inline]
    pub(crate) fn check_closed(&self, last: &mut LastCheck) -> bool {
        self.has_close_flag() || (last.advance() && self.ask_kernel())
    }

    /// Whether the runtime has seen the close.
    #[inline]
    fn has_close_flag(&self) -> bool {
        with_stream!(self, stream => stream.try_io(Interest::PRIORITY, || Ok(())).is_ok())
    }

    /// Whether the kernel has seen the close. A system call.
    #[cold]
    fn ask_kernel(&self) -> bool {
        with_stream!(self, stream => is_closed_now(&**stream))
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

#[cfg(target_os = "linux")]
impl LastCheck {
    /// Moves to the current tick. Returns whether it is another one than before.
    #[inline]
    fn advance(&mut self) -> bool {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        let tick = now.tv_sec.wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec);
        std::mem::replace(&mut self.tick, tick) != tick
    }
}

/// Asks the kernel whether the peer has closed.
#[cfg(target_os = "linux")]
pub(crate) fn is_closed_now(stream: &impl AsFd) -> bool {
    // `POLLERR` alone means that the socket's error queue holds something, such as a time stamp.
    let closed = PollFlags::RDHUP | PollFlags::HUP | PollFlags::NVAL;
    poll_events(stream.as_fd()).is_some_and(|events| events.intersects(closed))
}

/// What poll(2) says about the end of a socket. `None`: nothing has happened.
#[cfg(target_os = "linux")]
fn poll_events(stream: BorrowedFd<'_>) -> Option<PollFlags> {
    let mut fds = [PollFd::from_borrowed_fd(stream, PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // It fails only when the kernel is out of memory. Then nothing is known.
    let count = poll(&mut fds, Some(&at_once)).ok()?;
    (count > 0).then(|| fds[0].revents())
}

#[cfg(not(target_os = "linux"))]
impl Socket {
    /// Checks whether the peer's close or reset is known. Unread bytes hide it.
    #[inline]
    pub(crate) fn check_closed(&self, _last: &mut LastCheck) -> bool {
        let outcome = with_stream!(self, stream => stream.try_io(Interest::READABLE, || peek(&**stream)));
        is_end(outcome)
    }

    /// Not known here, so it is always possible.
    pub(crate) fn has_hung_up(&self) -> bool {
        true
    }

    /// Never ready: here nothing can wait for a close without being woken by data. The next operation notices it.
    pub(crate) async fn closed_by_peer(&self) {
        std::future::pending().await
    }
}

/// Asks the kernel whether the peer has closed. Unread bytes hide it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_closed_now<'s, S>(stream: &'s S) -> bool
where
    socket2::SockRef<'s>: From<&'s S>,
{
    is_end(peek(stream))
}

/// Looks at the next byte without taking it.
#[cfg(not(target_os = "linux"))]
fn peek<'s, S>(stream: &'s S) -> std::io::Result<usize>
where
    socket2::SockRef<'s>: From<&'s S>,
{
    socket2::SockRef::from(stream).peek(&mut [std::mem::MaybeUninit::uninit()])
}

/// Whether a peek has found the end of the stream or an error.
#[cfg(not(target_os = "linux"))]
fn is_end(peeked: std::io::Result<usize>) -> bool {
    match peeked {
        Ok(n) => n == 0,
        Err(error) => !is_try_again(&error),
    }
}
