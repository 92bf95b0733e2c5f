//! The number of written bytes that the peer's kernel has not acknowledged.
//!
//! Next: [`Error::IoError`](crate::Error::IoError), whose `unacknowledged` it becomes.

use tokio::net::TcpStream;

/// Whether this platform knows the count of a TCP socket.
#[cfg(any(target_os = "linux", feature = "outbox"))]
pub(crate) const COUNTS_UNACKNOWLEDGED: bool = cfg!(all(
    target_os = "linux",
    not(perconn_portable),
    // Where the number of the ioctl below is the usual one.
    any(
        target_arch = "aarch64",
        target_arch = "arm",
        target_arch = "riscv64",
        target_arch = "s390x",
        target_arch = "x86",
        target_arch = "x86_64",
    )
));

/// Asks the kernel for the count, which it knows even after a reset.
///
/// This is `SIOCOUTQ` of tcp(7): the distance from the oldest unacknowledged byte to the end of what was written. If
/// the end of the stream was sent or queued, it counts as one byte.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no well-kept crate wraps this ioctl")]
pub(super) fn unacknowledged(stream: &TcpStream) -> Option<u64> {
    use std::ffi::c_int;

    use rustix::ioctl::{Getter, Opcode, ioctl};

    /// The number in Linux's `asm-generic/ioctls.h`, where it is called `TIOCOUTQ`. A few architectures use another
    /// one.
    const SIOCOUTQ: Opcode = 0x5411;

    if !COUNTS_UNACKNOWLEDGED {
        return None;
    }
    // SAFETY: on a TCP socket, `SIOCOUTQ` reads nothing and writes one C `int` to its argument. `Getter` provides room
    // for that `int`, and the descriptor is borrowed from an open stream.
    let count = unsafe { ioctl(stream, Getter::<SIOCOUTQ, c_int>::new()) };
    count.ok().and_then(|count| u64::try_from(count).ok())
}

/// Not known on this platform.
#[cfg(not(target_os = "linux"))]
pub(super) fn unacknowledged(_stream: &TcpStream) -> Option<u64> {
    None
}
