//! What a proxy is asked to connect to.

use std::fmt;
use std::net::SocketAddr;

use crate::{Address, Error};

/// The other end of a tunnel.
pub(super) enum Target {
    /// A name and a port; the proxy resolves it.
    Name(String, u16),
    /// An IP address and a port.
    Ip(SocketAddr),
}

/// `host:port`, with brackets around an IPv6 address.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(host, port) => write!(f, "{host}:{port}"),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// Checks the address of a target.
pub(super) fn check(address: &Address) -> Result<(), Error> {
    let (host, _) = address.parse()?;
    if host.contains('%') {
        let text = format!("address {address}: expected no zone, as a proxy has interfaces of its own");
        return Err(Error::InvalidConfig(text));
    }
    Ok(())
}
