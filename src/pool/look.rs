//! A look at a connection before it is handed out again: is it closed, or are there bytes that nobody asked for?
//!
//! What the runtime has seen of a socket is a flag, and looking at it costs nothing. Only if it says that there is something
//! to be read, or when the flag may be outdated, the kernel is asked, with poll(2): once in each tick of its coarse clock
//! (4 ms with `CONFIG_HZ=250`; elsewhere than on Linux, each time). So a close can be missed only if it arrived within the tick and the runtime has not turned
//! since.

use std::any::Any;
use std::io;

use tokio::io::Interest;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// When the kernel was asked last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tick {
    /// Nanoseconds on the coarse clock.
    #[cfg(target_os = "linux")]
    nanoseconds: i64,
}

impl Tick {
    /// Whether the clock has moved on since this was asked last.
    #[cfg(target_os = "linux")]
    #[inline]
    fn is_outdated(&mut self) -> bool {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        let now = now.tv_sec.wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec);
        std::mem::replace(&mut self.nanoseconds, now) != now
    }

    /// There is no such clock.
    #[cfg(not(target_os = "linux"))]
    #[inline]
    fn is_outdated(&mut self) -> bool {
        true
    }
}

/// Whether `value`, if it is a socket, is open and silent. Of anything else, nothing is known.
#[inline]
pub(super) fn is_quiet<T: 'static>(value: &T, last: &mut Tick) -> bool {
    let value: &dyn Any = value;
    if let Some(tcp) = value.downcast_ref::<TcpStream>() {
        return !is_told(|ask| tcp.try_io(Interest::READABLE, ask), || is_quiet_now(tcp), last);
    }
    #[cfg(unix)]
    if let Some(unix) = value.downcast_ref::<UnixStream>() {
        return !is_told(|ask| unix.try_io(Interest::READABLE, ask), || is_quiet_now(unix), last);
    }
    true
}

/// Whether the runtime or the kernel has something to tell of a socket.
#[inline]
fn is_told(
    if_flagged: impl FnOnce(&mut dyn FnMut() -> io::Result<()>) -> io::Result<()>,
    is_quiet: impl Fn() -> bool,
    last: &mut Tick,
) -> bool {
    let mut was_asked = false;
    // "Would block" takes the flag back, if it was outdated.
    let flagged = if_flagged(&mut || {
        was_asked = true;
        if is_quiet() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    flagged.is_ok() || (!was_asked && last.is_outdated() && !is_quiet())
}

#[cfg(target_os = "linux")]
fn is_quiet_now(stream: &impl std::os::fd::AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(stream, PollFlags::IN | PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // It fails only for want of memory, and then nothing is known.
    !poll(&mut fds, Some(&at_once)).is_ok_and(|n| n > 0)
}

#[cfg(not(target_os = "linux"))]
fn is_quiet_now<'s, S>(stream: &'s S) -> bool
where
    socket2::SockRef<'s>: From<&'s S>,
{
    let peeked = socket2::SockRef::from(stream).peek(&mut [std::mem::MaybeUninit::uninit()]);
    peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}
