//! How many bytes the kernel takes beyond what it can send.
//!
//! Apple's systems have the option, too. There, it only decides when a socket is ready again: a write into a ready one takes as much
//! as before.
//!
//! Next: [`SocketOptions::apply`](super::SocketOptions), which calls it with a value that it has checked.

use super::Setter;

/// Sets the option. `None`: this platform does not have it.
#[cfg(any(target_os = "android", all(target_os = "linux", not(perconn_portable))))]
pub(super) const SET_NOTSENT_LOWAT: Option<Setter<usize>> = Some(|socket, bytes| {
    // The largest value is an `i32`.
    socket.set_tcp_notsent_lowat(bytes.try_into().unwrap_or(i32::MAX as u32))
});
/// Elsewhere, it is an invalid setting.
#[cfg(not(any(target_os = "android", all(target_os = "linux", not(perconn_portable)))))]
pub(super) const SET_NOTSENT_LOWAT: Option<Setter<usize>> = None;
