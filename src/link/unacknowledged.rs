//! How many of the bytes written on a TCP socket the peer's kernel has not acknowledged.

use tokio::net::TcpStream;

/// Asks the kernel, which knows it even after a reset: `SIOCOUTQ` of tcp(7), the distance from the oldest unacknowledged
/// byte to the end of what was written. If the end of the stream has been sent or queued, it counts as one byte.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
#[expect(unsafe_code, reason = "no crate that is kept well wraps this ioctl")]
pub(super) fn unacknowledged(stream: &TcpStream) -> Option<u64> {
    use std::ffi::c_int;

    use rustix::ioctl::{Getter, Opcode, ioctl};

    /// The number of Linux's `asm-generic/ioctls.h`, where it is called `TIOCOUTQ`; a few architectures have another.
    const SIOCOUTQ: Opcode = 0x5411;

    // SAFETY: on a TCP socket, `SIOCOUTQ` reads nothing and writes one C `int` to its argument, for which `Getter` has
    // made room; the descriptor is borrowed from an open stream.
    let count = unsafe { ioctl(stream, Getter::<SIOCOUTQ, c_int>::new()) };
    count.ok().and_then(|count| u64::try_from(count).ok())
}

/// Elsewhere it is not known.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))))]
pub(super) fn unacknowledged(_stream: &TcpStream) -> Option<u64> {
    None
}
