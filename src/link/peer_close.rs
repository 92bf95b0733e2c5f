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
//! On other systems the same flag comes from kqueue (`EV_EOF`) or from Windows (`AFD_POLL_DISCONNECT` and `AFD_POLL_ABORT`). Tokio
//! shows it together with "readable" only. So an idle connection with unread bytes is looked at twice a second, and before a write
//! the flag is looked at if the socket is readable. There is no coarse clock. Once in 4 ms the kernel is asked by poll(2), and by a
//! peek where that does not tell a close from bytes.
//!
//! `--cfg perconn_portable` takes the second way on Linux, too, so that tests can run it.
//!
//! Next: [`Socket::closing_cause`](super::Socket::closing_cause), which finds out why a closed socket is closed.

use super::Socket;
use super::socket::with_stream;

#[cfg(not(all(target_os = "linux", not(perconn_portable))))]
pub(crate) use self::elsewhere::{LastCheck, is_closed_now, pending_error};
#[cfg(all(target_os = "linux", not(perconn_portable)))]
pub(crate) use self::linux::{LastCheck, is_closed_now};

#[cfg(not(all(target_os = "linux", not(perconn_portable))))]
mod elsewhere;
#[cfg(all(target_os = "linux", not(perconn_portable)))]
mod linux;

impl Socket {
    /// Checks whether the peer's close or reset is known. Asks the kernel if it was not asked for a while.
    #[inline]
    pub(crate) fn check_closed(&self, last: &mut LastCheck) -> bool {
        self.has_close_flag() || (last.advance() && self.ask_kernel())
    }

    /// Whether the kernel has seen the close. A system call; elsewhere two, if there is something to read.
    #[cold]
    fn ask_kernel(&self) -> bool {
        with_stream!(self, stream => is_closed_now(&**stream))
    }
}
