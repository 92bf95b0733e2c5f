//! An address that an acceptor listens on.
//!
//! Next: [`super::listen`], which opens it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// An address that an acceptor listens on; by [`Acceptor::local_addrs`](super::Acceptor::local_addrs).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LocalAddr {
    /// On the network, with the port that the kernel has chosen if the port was 0.
    Tcp(SocketAddr),
    /// A socket of the Unix domain: its path, as it was bound. `None` if it has no path.
    Unix(Option<PathBuf>),
}

impl fmt::Display for LocalAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(Some(path)) => path.display().fmt(f),
            Self::Unix(None) => f.write_str("a Unix socket without a path"),
        }
    }
}
