//! A socket that hears nothing, as if the network between it and its peer were cut.
//!
//! On Linux, a filter on the socket drops each packet before TCP sees it (socket(7), `SO_ATTACH_FILTER`). So the peer's
//! kernel gets no acknowledgement: it retransmits, and its `user_timeout` and keepalive find out. Elsewhere, and on a Unix
//! socket, the proxy only stops reading: the peer's kernel is answered until the buffers are full.
//!
//! Next: [`pump`](super::pump), which passes nothing meanwhile.

use socket2::SockRef;

/// Whether the peers' kernels get no answer from a black hole on this platform.
pub(super) const IS_REAL: bool = cfg!(all(target_os = "linux", not(perconn_portable)));

/// Sets whether this socket hears its peer.
#[cfg(all(target_os = "linux", not(perconn_portable)))]
pub(super) fn set_deaf(socket: &SockRef<'_>, is_deaf: bool) {
    // BPF_RET | BPF_K with 0: keep no byte of any packet.
    const DROP_ALL: [socket2::SockFilter; 1] = [socket2::SockFilter::new(0x06, 0, 0, 0)];
    // A socket without a filter has none to detach, and one that is gone hears nothing.
    let _ = if is_deaf { socket.attach_filter(&DROP_ALL) } else { socket.detach_filter() };
}

/// Sets whether this socket hears its peer.
#[cfg(not(all(target_os = "linux", not(perconn_portable))))]
pub(super) fn set_deaf(_socket: &SockRef<'_>, _is_deaf: bool) {}
