//! macOS, Windows and the others: the runtime's flag of the end of the stream, and a look at the socket once in a while.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::time::sleep;

use super::super::Socket;
use super::super::socket::with_stream;
use crate::io_error::is_try_again;

/// How often the kernel is asked about a connection that is written to: as often as on Linux, where it is the tick of a clock.
const ASK_EVERY: Duration = Duration::from_millis(4);

/// How late the close of a connection is noticed that nobody uses and on which unread bytes lie.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// When the kernel was last asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastCheck {
    /// `None` before the first time.
    at: Option<Instant>,
}

impl LastCheck {
    /// Whether it is time to ask again. Then it counts as done.
    #[inline]
    fn advance(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.at.is_none_or(|at| now.duration_since(at) >= ASK_EVERY);
        if is_due {
            self.at = Some(now);
        }
        is_due
    }
}

impl Socket {
    /// Checks whether the peer's close or reset is known. Asks the kernel if it has not been asked for a while.
    #[inline]
    pub(crate) fn check_closed(&self, last: &mut LastCheck) -> bool {
        self.has_close_flag() || (last.advance() && self.ask_kernel())
    }

    /// Whether the runtime has seen the close. One atomic load as long as nothing has arrived.
    #[inline]
    fn has_close_flag(&self) -> bool {
        // The closure is called only if the socket is readable. It does not return "would block", which would clear that.
        with_stream!(self, stream => stream.try_io(Interest::READABLE, || {
            let ready = pin!(stream.ready(Interest::READABLE));
            match ready.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(ready)) => Ok(ready.is_read_closed()),
                _ => Ok(false),
            }
        }))
        .unwrap_or(false)
    }

    /// Whether the kernel has seen the close. One system call, and a second one if unread bytes lie before it.
    #[cold]
    fn ask_kernel(&self) -> bool {
        with_stream!(self, stream => is_closed_now(&**stream))
    }

    /// Not known here, so it is always possible.
    pub(crate) fn has_hung_up(&self) -> bool {
        true
    }

    /// Waits until the peer's close or reset has arrived. Bytes that nobody reads wake it, too.
    pub(crate) async fn closed_by_peer(&self) {
        loop {
            match with_stream!(self, stream => stream.ready(Interest::READABLE).await) {
                Ok(ready) if ready.is_read_closed() => return,
                // The flag stays until the bytes are read. On the heap, as a silent connection needs no timer.
                Ok(_) => Box::pin(sleep(LOOK_EVERY)).await,
                // The runtime shuts down and drops this task.
                Err(_) => return std::future::pending().await,
            }
        }
    }
}

/// Asks the kernel whether the peer has closed.
pub(crate) fn is_closed_now<'s, S>(stream: &'s S) -> bool
where
    S: rustix::fd::AsFd,
    SockRef<'s>: From<&'s S>,
{
    match SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]) {
        Ok(0) => true,
        Ok(_) => has_hung_up_flag(stream),
        Err(error) => !is_try_again(&error),
    }
}

/// Whether poll(2) knows of the close, before which unread bytes lie.
fn has_hung_up_flag(stream: &impl rustix::fd::AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    // Linux has a flag of its own for a close by one side. macOS (EV_EOF) and Windows (WSAPoll) report `POLLHUP` for it.
    #[cfg(target_os = "linux")]
    const CLOSED: PollFlags = PollFlags::RDHUP.union(PollFlags::HUP).union(PollFlags::NVAL);
    #[cfg(not(target_os = "linux"))]
    const CLOSED: PollFlags = PollFlags::HUP.union(PollFlags::ERR).union(PollFlags::NVAL);
    #[cfg(target_os = "linux")]
    let asked = PollFlags::IN | PollFlags::RDHUP;
    #[cfg(not(target_os = "linux"))]
    let asked = PollFlags::IN;
    let mut fds = [PollFd::new(stream, asked)];
    // If it fails, nothing is known.
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok() && fds[0].revents().intersects(CLOSED)
}

/// The error of a socket that the peer has reset, as far as a look shows it.
pub(crate) fn pending_error(socket: &SockRef<'_>) -> Option<io::Error> {
    socket.peek(&mut [MaybeUninit::uninit()]).err().filter(|error| !is_try_again(error))
}
