//! The network interface that a socket is bound to.
//!
//! Next: [`SocketOptions::apply`](super::SocketOptions), which binds it.

use std::fmt;

use super::Setter;

/// The longest name that Linux and macOS know, in bytes (`IFNAMSIZ` without the final zero).
const MAX_NAME: usize = 15;

/// The name of an interface, in place, so that options can be copied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceName {
    /// Its first bytes; the rest is zero.
    bytes: [u8; MAX_NAME],
    /// Its length, which is too long until it is checked.
    length: usize,
}

impl DeviceName {
    /// Any text.
    pub(super) fn new(name: &str) -> Self {
        let mut bytes = [0; MAX_NAME];
        for (byte, of_name) in bytes.iter_mut().zip(name.bytes()) {
            *byte = of_name;
        }
        Self { bytes, length: name.len() }
    }

    /// The name, as far as it is kept.
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length.min(MAX_NAME)]
    }

    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=MAX_NAME).contains(&self.length) {
            return Err(format!("bind_device {self} of {} bytes: expected 1 to {MAX_NAME}", self.length));
        }
        let is_bad = |byte: &u8| *byte == b'/' || byte.is_ascii_whitespace() || byte.is_ascii_control();
        if self.as_bytes().iter().any(is_bad) {
            return Err(format!("bind_device {self}: expected the name of an interface, such as \"eth0\""));
        }
        Ok(())
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

impl fmt::Debug for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Binds the socket. `None`: this platform cannot.
pub(super) const BIND_DEVICE: Option<Setter<DeviceName>> = system::BIND;

/// `SO_BINDTODEVICE` of socket(7).
#[cfg(any(target_os = "android", target_os = "fuchsia", all(target_os = "linux", not(perconn_portable))))]
mod system {
    use super::{DeviceName, Setter};

    pub(super) const BIND: Option<Setter<DeviceName>> = Some(|socket, name| socket.bind_device(Some(name.as_bytes())));
}

/// `IP_BOUND_IF` and `IPV6_BOUND_IF` of Apple's `netinet/in.h`. They take the number of the interface.
#[cfg(any(target_os = "ios", target_os = "macos"))]
mod system {
    use std::io;
    use std::num::NonZeroU32;

    use super::{DeviceName, Setter};

    pub(super) const BIND: Option<Setter<DeviceName>> = Some(|socket, name| {
        let index = NonZeroU32::new(nix::net::if_::if_nametoindex(name.as_bytes())?);
        let index = Some(index.ok_or(io::ErrorKind::NotFound)?);
        if socket.local_addr()?.is_ipv6() {
            socket.bind_device_by_index_v6(index)
        } else {
            socket.bind_device_by_index_v4(index)
        }
    });
}

/// Elsewhere, it is an invalid setting.
#[cfg(not(any(
    target_os = "android",
    target_os = "fuchsia",
    target_os = "ios",
    all(target_os = "linux", not(perconn_portable)),
    target_os = "macos",
)))]
mod system {
    use super::{DeviceName, Setter};

    pub(super) const BIND: Option<Setter<DeviceName>> = None;
}
