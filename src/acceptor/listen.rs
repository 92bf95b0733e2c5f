//! Where an acceptor listens.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::Error;
use super::socket::Listener;

/// Where an [`Acceptor`](super::Acceptor) listens: made from an address or a listener.
///
/// An address is `"host:port"`, a `SocketAddr`, or an `(IpAddr, u16)`; with the port 0, the kernel chooses one, see
/// [`local_addr`](super::Acceptor::local_addr). A name is resolved when the acceptor is built, and the first of its addresses
/// that can be listened on is taken. A listener is a `std::net::TcpListener`, given by the program; it need not be
/// non-blocking.
#[derive(Debug)]
pub struct Listen(Kind);

#[derive(Debug)]
enum Kind {
    Address(String),
    Tcp(TcpListener),
}

impl Listen {
    /// Listens. Gives the address as well, if it is one of the network.
    pub(super) fn open(self, backlog: u32) -> Result<(Listener, Option<SocketAddr>), Error> {
        match self.0 {
            Kind::Address(address) => {
                let listener = bind(&address, backlog)?;
                given(listener, &address)
            }
            Kind::Tcp(listener) => {
                let name = listener.local_addr().map_or_else(|_| "a given listener".into(), |addr| addr.to_string());
                given(listener, &name)
            }
        }
    }
}

fn bind(address: &str, backlog: u32) -> Result<TcpListener, Error> {
    let wrong = |source| Error::Listen { address: address.to_owned(), source };
    let candidates = address.to_socket_addrs().map_err(|source| match source.kind() {
        io::ErrorKind::InvalidInput => {
            Error::InvalidConfig(format!("address {address:?}: {source}; expected \"host:port\", the port 0 for any"))
        }
        _ => wrong(source),
    })?;
    let mut outcome = Err(wrong(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    for candidate in candidates {
        match listen_on(candidate, backlog) {
            Ok(listener) => return Ok(listener),
            Err(source) => outcome = Err(wrong(source)),
        }
    }
    outcome
}

fn listen_on(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets the port be taken again while connections of the last life linger. On Windows that needs no option, and this one
    // would let others take it, too.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

fn given(listener: TcpListener, name: &str) -> Result<(Listener, Option<SocketAddr>), Error> {
    let wrong = |source| Error::Listen { address: name.to_owned(), source };
    check_listens(SockRef::from(&listener), name)?;
    listener.set_nonblocking(true).map_err(wrong)?;
    let address = listener.local_addr().map_err(wrong)?;
    Ok((Listener::Tcp(tokio::net::TcpListener::from_std(listener).map_err(wrong)?), Some(address)))
}

/// A socket that does not listen would fail at each accept.
fn check_listens(socket: SockRef<'_>, name: &str) -> Result<(), Error> {
    #[cfg(target_os = "linux")]
    if !socket.is_listener().unwrap_or(true) {
        return Error::invalid(format!("given listener {name}: it does not listen"));
    }
    let _ = (socket, name);
    Ok(())
}

impl From<&str> for Listen {
    fn from(address: &str) -> Self {
        Self(Kind::Address(address.to_owned()))
    }
}

impl From<String> for Listen {
    fn from(address: String) -> Self {
        Self(Kind::Address(address))
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self(Kind::Address(address.to_string()))
    }
}

impl From<(IpAddr, u16)> for Listen {
    fn from(address: (IpAddr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<TcpListener> for Listen {
    fn from(listener: TcpListener) -> Self {
        Self(Kind::Tcp(listener))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Address(address) => f.write_str(address),
            Kind::Tcp(_) => f.write_str("a given listener"),
        }
    }
}
