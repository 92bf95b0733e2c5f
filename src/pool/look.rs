//! A look at a connection before it is handed out again: is it closed, or are there bytes that nobody asked for?
//!
//! It asks the kernel, with poll(2), and not the runtime, whose knowledge may be as old as its last turn.

use std::any::Any;

use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// Whether `value` is open and silent. `None`: it is no socket, and nothing is known.
#[inline]
pub(super) fn is_quiet<T: 'static>(value: &T) -> Option<bool> {
    let value: &dyn Any = value;
    if let Some(tcp) = value.downcast_ref::<TcpStream>() {
        return Some(is_quiet_now(tcp));
    }
    #[cfg(unix)]
    if let Some(unix) = value.downcast_ref::<UnixStream>() {
        return Some(is_quiet_now(unix));
    }
    None
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
    peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}
