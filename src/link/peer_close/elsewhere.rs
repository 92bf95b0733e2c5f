//! macOS, Windows and the others: the runtime's flag of the end of the stream, and a look at the socket once in a while.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
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
    pub(super) fn advance(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.at.is_none_or(|at| now.duration_since(at) >= ASK_EVERY);
        if is_due {
            self.at = Some(now);
        }
        is_due
    }
}

impl Socket {
    /// Whether the runtime has seen the close. One atomic load as long as nothing has arrived.
    #[inline]
    pub(super) fn has_close_flag(&self) -> bool {
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

    /// Whether nothing can pass in either direction any more: after a reset, or a close by both sides. Where poll(2) does not
    /// tell the difference, a close by the peer counts as well.
    pub(crate) fn has_hung_up(&self) -> bool {
        with_stream!(self, stream => poll_events(&**stream).contains(PollFlags::HUP))
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
pub(crate) fn is_closed_now<'s, S: AsFd>(stream: &'s S) -> bool
where
    SockRef<'s>: From<&'s S>,
{
    let events = poll_events(stream);
    if events.intersects(CLOSED) {
        return true;
    }
    // Some systems have no event for a close by the peer alone. A peek finds it, unless unread bytes lie before it. It is not
    // the first question: on Linux it would take the pending error.
    events.contains(PollFlags::IN) && is_end(SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]))
}

/// The events of poll(2) that say that the peer has closed. macOS (as `EV_EOF`) and Windows (WSAPoll) report `HUP` for a close by
/// one side as well, and Linux has an event of its own.
const CLOSED: PollFlags = PollFlags::HUP.union(PollFlags::ERR).union(PollFlags::NVAL).union(HALF_CLOSED);

/// That event.
#[cfg(target_os = "linux")]
const HALF_CLOSED: PollFlags = PollFlags::RDHUP;
/// There is none.
#[cfg(not(target_os = "linux"))]
const HALF_CLOSED: PollFlags = PollFlags::empty();

/// What poll(2) says of a socket. Nothing if it fails.
fn poll_events(stream: &impl AsFd) -> PollFlags {
    let mut fds = [PollFd::new(stream, PollFlags::IN.union(HALF_CLOSED))];
    match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(_) => fds[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

/// Whether a peek has found the end of the stream, or an error.
fn is_end(peeked: io::Result<usize>) -> bool {
    match peeked {
        Ok(n) => n == 0,
        Err(error) => !is_try_again(&error),
    }
}

/// The error of a socket that the peer has reset, as far as a look shows it.
pub(crate) fn pending_error(socket: &SockRef<'_>) -> Option<io::Error> {
    socket.peek(&mut [MaybeUninit::uninit()]).err().filter(|error| !is_try_again(error))
}
