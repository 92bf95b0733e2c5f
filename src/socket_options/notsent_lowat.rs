//! How many bytes the kernel takes beyond what it can send.
//!
//! Apple's systems have the option, too. There, it only decides when a socket is ready again: a write into a ready one takes as much
//! as before.
//!
//! Next: [`SocketOptions::apply`](super::SocketOptions), which calls it with a value that it has checked.

setter! {
    /// `TCP_NOTSENT_LOWAT` of tcp(7). The largest value is an `i32`.
    SET_NOTSENT_LOWAT: usize, on any(target_os = "android", all(target_os = "linux", not(perconn_portable))),
    |socket, bytes| socket.set_tcp_notsent_lowat(bytes.try_into().unwrap_or(i32::MAX as u32))
}
