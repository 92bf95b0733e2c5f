//! A look at a connection before it is handed out again: is it closed, or are there bytes that nobody asked for?
//!
//! Of a socket it asks the kernel, with poll(2), and not the runtime, whose knowledge may be as old as its last turn. Any other
//! stream is read: if that gives anything but "not yet", it is of no use any more. (So a TLS session is told of records that
//! are none of the program's, such as tickets.)

use std::any::Any;
use std::future::poll_fn;
use std::pin::Pin;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use crate::Dial;
use crate::poll_once::poll_once;

/// Whether `value` is open and silent. `None`: it is no socket.
#[inline]
pub(super) fn is_quiet<T: 'static>(value: &T) -> Option<bool> {
    let value: &dyn Any = value;
    // The runtime gives an error if it is going away, and then the socket is of no use.
    if let Some(tcp) = value.downcast_ref::<TcpStream>() {
        return Some(is_quiet_now(tcp) && !matches!(poll_once(poll_fn(|cx| tcp.poll_read_ready(cx))), Some(Err(_))));
    }
    #[cfg(unix)]
    if let Some(unix) = value.downcast_ref::<UnixStream>() {
        let is_quiet = is_quiet_now(unix) && is_writable(unix);
        return Some(is_quiet && !matches!(poll_once(poll_fn(|cx| unix.poll_read_ready(cx))), Some(Err(_))));
    }
    None
}

/// The same for a stream that is no socket.
pub(super) fn is_quiet_stream<D: Dial>(stream: &mut D::Stream) -> bool {
    if D::is_closed(stream) {
        return false;
    }
    let mut byte = [0];
    let mut buf = ReadBuf::new(&mut byte);
    poll_once(poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buf))).is_none()
}

#[cfg(target_os = "linux")]
fn is_quiet_now(stream: &impl std::os::fd::AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(stream, PollFlags::IN | PollFlags::PRI | PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // It fails only for want of memory, and then nothing is known.
    !poll(&mut fds, Some(&at_once)).is_ok_and(|n| n > 0)
}

/// Whether its peer still reads, which the end of a Unix socket knows: then sending nothing is no error.
#[cfg(target_os = "linux")]
fn is_writable(unix: &UnixStream) -> bool {
    use rustix::net::{SendFlags, send};
    send(unix, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_ok()
}

#[cfg(all(unix, not(target_os = "linux")))]
fn is_writable(_: &UnixStream) -> bool {
    true
}

#[cfg(not(target_os = "linux"))]
fn is_quiet_now<'s, S>(stream: &'s S) -> bool
where
    socket2::SockRef<'s>: From<&'s S>,
{
    let peeked = socket2::SockRef::from(stream).peek(&mut [std::mem::MaybeUninit::uninit()]);
    peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}
