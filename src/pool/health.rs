//! The health check of a connection before it is lent again: is it closed, or has it received bytes that nobody asked
//! for?
//!
//! A socket's state comes from the kernel, by poll(2). The runtime knows only what it saw in its last turn, which may
//! be long ago. Any other stream is read: unless the answer is "not yet", the connection is of no use any more. The
//! read also lets a TLS session process the records that are not for the program, such as tickets.
//!
//! Next: [`Connection::check`](super::connection::Connection::check), which adds the time limits.

use std::any::Any;
use std::future::poll_fn;
use std::pin::Pin;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use crate::Dial;
use crate::poll_once::poll_once;

/// Whether a socket is open and silent. `None`: `value` is not a socket.
#[inline]
pub(super) fn is_quiet<T: 'static>(value: &T) -> Option<bool> {
    let value: &dyn Any = value;
    // The runtime returns an error if it is shutting down, and then the socket is of no use. It says so for both
    // directions, and an idle socket is writable, so that no waker has to be stored.
    if let Some(tcp) = value.downcast_ref::<TcpStream>() {
        return Some(is_quiet_now(tcp) && !matches!(poll_once(poll_fn(|cx| tcp.poll_write_ready(cx))), Some(Err(_))));
    }
    #[cfg(unix)]
    if let Some(unix) = value.downcast_ref::<UnixStream>() {
        let is_quiet = is_quiet_now(unix) && is_writable(unix);
        return Some(is_quiet && !matches!(poll_once(poll_fn(|cx| unix.poll_write_ready(cx))), Some(Err(_))));
    }
    None
}

/// Whether a stream that is not a socket is open and silent, as far as its dialer and the runtime know.
pub(super) fn is_quiet_stream<D: Dial>(stream: &mut D::Stream) -> bool {
    if D::is_closed(stream) {
        return false;
    }
    let mut byte = [0];
    let mut buf = ReadBuf::new(&mut byte);
    poll_once(poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buf))).is_none()
}

/// Whether the kernel has neither bytes nor a close nor an error for this socket.
fn is_quiet_now(stream: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(stream, ASKED)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // It fails only when the kernel is out of memory, and then nothing is known.
    !poll(&mut fds, Some(&at_once)).is_ok_and(|n| n > 0)
}

/// Bytes, urgent bytes, and a close by the peer.
#[cfg(target_os = "linux")]
const ASKED: PollFlags = PollFlags::IN.union(PollFlags::PRI).union(PollFlags::RDHUP);
/// The same: a close counts as something to read.
#[cfg(all(unix, not(target_os = "linux")))]
const ASKED: PollFlags = PollFlags::IN.union(PollFlags::PRI);
/// WSAPoll does not know of urgent bytes.
#[cfg(not(unix))]
const ASKED: PollFlags = PollFlags::IN;

/// Whether the peer still reads. A Unix socket knows that of its peer: then a send of no bytes succeeds.
#[cfg(all(target_os = "linux", not(perconn_portable)))]
fn is_writable(unix: &UnixStream) -> bool {
    use rustix::net::{SendFlags, send};
    send(unix, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_ok()
}

/// Elsewhere this is not known.
#[cfg(all(unix, any(not(target_os = "linux"), perconn_portable)))]
fn is_writable(_: &UnixStream) -> bool {
    true
}
