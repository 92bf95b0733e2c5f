//! Marks on packets: for the routes and filters of this machine, and for the routers on the way.
//!
//! Next: [`SocketOptions::apply`](super::SocketOptions), which sets them.

setter! {
    /// `SO_MARK` of socket(7).
    SET_MARK: u32, on any(target_os = "android", target_os = "fuchsia", all(target_os = "linux", not(perconn_portable))),
    |socket, mark| socket.set_mark(mark)
}

setter! {
    /// `IP_TOS` of ip(7) or `IPV6_TCLASS` of ipv6(7), as the socket is. (Windows takes it and does nothing.)
    SET_TYPE_OF_SERVICE: u8, on any(
        target_os = "android",
        target_os = "dragonfly",
        target_os = "freebsd",
        target_os = "linux",
        target_os = "macos",
        target_os = "netbsd",
        target_os = "openbsd",
    ),
    |socket, value| {
        if !socket.local_addr()?.is_ipv6() {
            return socket.set_tos_v4(value.into());
        }
        // For an IPv4 address in its IPv6 form. Not every system takes it.
        let _ = socket.set_tos_v4(value.into());
        socket.set_tclass_v6(value.into())
    }
}
