//! Whether the peer's close or reset has reached this machine.
//!
//! On Linux two things are asked:
//!
//! - When a FIN or RST arrives, epoll reports `EPOLLRDHUP` and tokio keeps it as a readiness flag that never goes away.
//!   `try_io` with an interest in *priority* data looks at just that flag (and at urgent data, for which tokio's streams
//!   are never registered): one atomic load, no lock, no system call, and not confused by unread bytes.
//! - The flag is as old as the runtime's last look at its sockets, and a busy runtime looks seldom. So before the first
//!   write in each tick of the kernel's coarse clock (4 ms with `CONFIG_HZ=250`), poll(2) asks the kernel itself. The
//!   clock is read in about 3 ns. A write can miss only a close that arrived within the tick.
//!
//! Elsewhere a peek at a socket that the runtime knows to be readable has to do, and unread bytes hide the close.

use tokio::io::Interest;

use super::Socket;
use super::socket::with_stream;

/// When the kernel was asked last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastLook {
    /// Nanoseconds on the coarse clock.
    #[cfg(target_os = "linux")]
    tick: i64,
}

#[cfg(target_os = "linux")]
impl Socket {
    /// Whether the peer's close or reset is known.
    #[inline]
    pub(crate) fn is_closed_by_peer(&self, last: &mut LastLook) -> bool {
        self.is_flagged() || (last.is_outdated() && self.ask())
    }

    #[inline]
    fn is_flagged(&self) -> bool {
        with_stream!(self, stream => stream.try_io(Interest::PRIORITY, || Ok(())).is_ok())
    }

    #[cold]
    fn ask(&self) -> bool {
        with_stream!(self, stream => is_closed_now(&**stream))
    }

    /// Waits until the peer's close or reset has arrived, without being woken by anything else.
    pub(crate) async fn closed_by_peer(&self) {
        loop {
            match with_stream!(self, stream => stream.ready(Interest::PRIORITY).await) {
                Ok(ready) if ready.is_read_closed() => return,
                Ok(_) => {}
                // The runtime is going away, and this task with it.
                Err(_) => return std::future::pending().await,
            }
        }
    }
}

#[cfg(target_os = "linux")]
impl LastLook {
    /// Whether the clock has moved on since this was asked last.
    #[inline]
    fn is_outdated(&mut self) -> bool {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        let tick = now.tv_sec.wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec);
        std::mem::replace(&mut self.tick, tick) != tick
    }
}

/// Asks the kernel.
#[cfg(target_os = "linux")]
pub(crate) fn is_closed_now(stream: &impl std::os::fd::AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // It fails only for want of memory, and then nothing is known.
    let has_answer = poll(&mut fds, Some(&at_once)).is_ok_and(|n| n > 0);
    // `POLLERR` alone says that something is in the socket's error queue, such as a time stamp.
    has_answer && fds[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::NVAL)
}

#[cfg(not(target_os = "linux"))]
impl Socket {
    /// Whether the peer's close or reset is known and no unread bytes stand before it.
    #[inline]
    pub(crate) fn is_closed_by_peer(&self, _last: &mut LastLook) -> bool {
        let outcome = with_stream!(self, stream => stream.try_io(Interest::READABLE, || peek(&**stream)));
        is_end(outcome)
    }

    /// There is no way to wait for a close without being woken by data: the next operation notices it.
    pub(crate) async fn closed_by_peer(&self) {
        std::future::pending().await
    }
}

/// Asks the kernel, as far as unread bytes let it tell.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_closed_now<'s, S>(stream: &'s S) -> bool
where
    socket2::SockRef<'s>: From<&'s S>,
{
    is_end(peek(stream))
}

#[cfg(not(target_os = "linux"))]
fn peek<'s, S>(stream: &'s S) -> std::io::Result<usize>
where
    socket2::SockRef<'s>: From<&'s S>,
{
    socket2::SockRef::from(stream).peek(&mut [std::mem::MaybeUninit::uninit()])
}

#[cfg(not(target_os = "linux"))]
fn is_end(peeked: std::io::Result<usize>) -> bool {
    match peeked {
        Ok(n) => n == 0,
        Err(error) => !is_try_again(&error),
    }
}
