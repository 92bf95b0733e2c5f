//! How long written bytes may stay unacknowledged: an option with another name and another unit on each system.
//!
//! Next: [`SocketOptions::apply`](super::SocketOptions), which calls it with a value that it has checked.

use std::time::Duration;

use super::Setter;

/// Sets the option. `None`: this platform does not have it.
pub(super) const SET_USER_TIMEOUT: Option<Setter<Duration>> = system::SET;

/// `TCP_USER_TIMEOUT` of tcp(7), in milliseconds.
#[cfg(any(target_os = "android", target_os = "fuchsia", all(target_os = "linux", not(perconn_portable))))]
mod system {
    use super::{Duration, Setter};

    pub(super) const SET: Option<Setter<Duration>> = Some(|socket, limit| socket.set_tcp_user_timeout(Some(limit)));
}

/// `TCP_RXT_CONNDROPTIME` of Apple's `netinet/tcp.h`, in seconds. They count from the first retransmission.
#[cfg(any(target_os = "ios", target_os = "macos"))]
mod system {
    use nix::sys::socket::setsockopt;
    use nix::{libc, setsockopt_impl, sockopt_impl}; // The macro names the other two.

    use super::{Duration, Setter};

    /// Missing in `libc`.
    const TCP_RXT_CONNDROPTIME: libc::c_int = 0x80;

    sockopt_impl!(
        /// The option, with its type.
        DropTime, SetOnly, libc::IPPROTO_TCP, TCP_RXT_CONNDROPTIME, u32
    );

    pub(super) const SET: Option<Setter<Duration>> = Some(|socket, limit| {
        // Zero would mean "no limit". The largest limit has fewer seconds than a `u32`.
        let seconds = limit.as_millis().div_ceil(1000).try_into().unwrap_or(u32::MAX);
        Ok(setsockopt(&**socket, DropTime, &seconds)?)
    });
}

/// `TCP_MAXRTMS` of Windows, since its version 1607, in milliseconds.
#[cfg(windows)]
mod system {
    use std::io;
    use std::os::windows::io::AsRawSocket;

    use socket2::SockRef;
    use windows_sys::Win32::Networking::WinSock;

    use super::{Duration, Setter};

    pub(super) const SET: Option<Setter<Duration>> = Some(set);

    #[expect(unsafe_code, reason = "no well-kept crate sets this option")]
    fn set(socket: &SockRef<'_>, limit: Duration) -> io::Result<()> {
        let limit: u32 = limit.as_millis().try_into().unwrap_or(u32::MAX);
        let bytes = limit.to_ne_bytes();
        // SAFETY: the socket is open for as long as it is borrowed. The value of this option is a `DWORD` (MSDN, "IPPROTO_TCP socket
        // options"), and the pointer and the length are those of four bytes that live until the call returns.
        let outcome = unsafe {
            WinSock::setsockopt(
                socket.as_raw_socket() as WinSock::SOCKET,
                WinSock::IPPROTO_TCP,
                WinSock::TCP_MAXRTMS,
                bytes.as_ptr(),
                bytes.len() as i32,
            )
        };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Elsewhere, a user timeout is an invalid setting.
#[cfg(not(any(
    target_os = "android",
    target_os = "fuchsia",
    target_os = "ios",
    all(target_os = "linux", not(perconn_portable)),
    target_os = "macos",
    windows,
)))]
mod system {
    use super::{Duration, Setter};

    pub(super) const SET: Option<Setter<Duration>> = None;
}
