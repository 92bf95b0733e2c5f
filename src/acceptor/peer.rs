//! The peer of an accepted connection.
//!
//! Next: [`super::listener`], which finds out who it is.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// A peer on the network. An IPv4 address is one, also if it comes to an IPv6 listener (as `::ffff:192.0.2.1`).
    Tcp(SocketAddr),
    /// A process on this machine, as the kernel knew it when it connected.
    #[non_exhaustive]
    Unix {
        /// The user that it ran as.
        uid: Option<u32>,
        /// Its process ID, on the platforms that report it.
        pid: Option<i32>,
    },
}

impl Peer {
    /// A peer on the network, with the canonical form of its address.
    pub(super) fn tcp(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            ip @ IpAddr::V4(_) => Self::Tcp(SocketAddr::new(ip, address.port())),
            // The scope of a link-local address belongs to it.
            IpAddr::V6(_) => Self::Tcp(address),
        }
    }

    /// The peer's address, if it is on the network.
    pub fn addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { pid: Some(pid), .. } => write!(f, "process {pid}"),
            Self::Unix { uid: Some(uid), .. } => write!(f, "a process of user {uid}"),
            Self::Unix { .. } => f.write_str("a process"),
        }
    }
}
