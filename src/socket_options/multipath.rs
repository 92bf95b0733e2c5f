//! Sockets of Multipath TCP (RFC 8684), with TCP where the kernel has it not.
//!
//! Next: [`TcpDialer`](crate::TcpDialer), which connects them.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpSocket;

use super::SocketOptions;

/// Whether this platform may have it.
#[cfg(all(target_os = "linux", not(perconn_portable)))]
pub(super) const HAS_MULTIPATH: bool = true;
/// Elsewhere, it is an invalid setting.
#[cfg(not(all(target_os = "linux", not(perconn_portable))))]
pub(super) const HAS_MULTIPATH: bool = false;

impl SocketOptions {
    /// A socket for a connection to this address, with all options but the local address.
    pub(crate) fn open(&self, address: SocketAddr) -> io::Result<TcpSocket> {
        if self.multipath == Some(true) {
            if let Some(socket) = multipath_socket(address) {
                match self.apply(&socket) {
                    // Not every kernel has each option for these sockets.
                    Err(error) if is_unsupported(&error) => {}
                    outcome => return outcome.map(|()| socket),
                }
            }
        }
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        self.apply(&socket)?;
        Ok(socket)
    }
}

/// A socket of Multipath TCP. `None` if the kernel has none: too old, built without it, or switched off.
#[cfg(all(target_os = "linux", not(perconn_portable)))]
fn multipath_socket(address: SocketAddr) -> Option<TcpSocket> {
    use socket2::{Domain, Protocol, Socket, Type};

    // For any other reason, such as a lack of descriptors, a socket of TCP fails as well, and reports it.
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::MPTCP)).ok()?;
    Some(TcpSocket::from_std_stream(socket.into()))
}

/// There is none.
#[cfg(not(all(target_os = "linux", not(perconn_portable))))]
fn multipath_socket(_address: SocketAddr) -> Option<TcpSocket> {
    None
}

/// Whether a socket lacks an option.
#[cfg(unix)]
fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;

    let lacking = [Errno::NOPROTOOPT, Errno::OPNOTSUPP].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| lacking.contains(&code)) || error.kind() == io::ErrorKind::Unsupported
}

/// There is no such socket.
#[cfg(not(unix))]
fn is_unsupported(_error: &io::Error) -> bool {
    false
}
