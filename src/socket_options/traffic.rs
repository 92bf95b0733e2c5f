//! Marks on packets: for the routes and filters of this machine, and for the routers on the way.
//!
//! Next: [`SocketOptions::apply`](super::SocketOptions), which sets them.

use super::Setter;

/// Sets the mark. `None`: this platform has none.
pub(super) const SET_MARK: Option<Setter<u32>> = mark::SET;

/// Sets the type of service. `None`: this platform has none that has an effect.
pub(super) const SET_TYPE_OF_SERVICE: Option<Setter<u8>> = type_of_service::SET;

/// `SO_MARK` of socket(7).
#[cfg(any(target_os = "android", target_os = "fuchsia", all(target_os = "linux", not(perconn_portable))))]
mod mark {
    use super::Setter;

    pub(super) const SET: Option<Setter<u32>> = Some(|socket, mark| socket.set_mark(mark));
}

/// Elsewhere, a mark is an invalid setting.
#[cfg(not(any(target_os = "android", target_os = "fuchsia", all(target_os = "linux", not(perconn_portable)))))]
mod mark {
    use super::Setter;

    pub(super) const SET: Option<Setter<u32>> = None;
}

/// `IP_TOS` of ip(7) or `IPV6_TCLASS` of ipv6(7), as the socket is.
#[cfg(any(
    target_os = "android",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "linux",
    target_os = "macos",
    target_os = "netbsd",
    target_os = "openbsd",
))]
mod type_of_service {
    use super::Setter;

    pub(super) const SET: Option<Setter<u8>> = Some(|socket, value| {
        if !socket.local_addr()?.is_ipv6() {
            return socket.set_tos_v4(value.into());
        }
        // For an IPv4 address in its IPv6 form. Not every system takes it.
        let _ = socket.set_tos_v4(value.into());
        socket.set_tclass_v6(value.into())
    });
}

/// Elsewhere, it is an invalid setting. (Windows takes it and does nothing.)
#[cfg(not(any(
    target_os = "android",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "linux",
    target_os = "macos",
    target_os = "netbsd",
    target_os = "openbsd",
)))]
mod type_of_service {
    use super::Setter;

    pub(super) const SET: Option<Setter<u8>> = None;
}
