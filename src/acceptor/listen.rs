//! Where an acceptor listens.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
#[cfg(unix)]
use std::{
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::Error;
use super::socket::Listener;
#[cfg(unix)]
use super::unix;

#[cfg(target_os = "linux")]
mod activation;

/// Where an [`Acceptor`](super::Acceptor) listens: made from an address or a listener.
///
/// An address is `"host:port"`, a `SocketAddr`, or an `(IpAddr, u16)`; with the port 0, the kernel chooses one, see
/// [`local_addr`](super::Acceptor::local_addr). A name is resolved when the acceptor is built, and the first of its addresses
/// that can be listened on is taken. A listener is a `TcpListener` or `UnixListener` of the standard library, which the
/// program has made; it need not be non-blocking. [`unix`](Self::unix) is for a path,
/// [`from_environment`](Self::from_environment) for the sockets that a service manager has opened.
#[derive(Debug)]
pub struct Listen(Kind);

#[derive(Debug)]
enum Kind {
    Address(String),
    Tcp(TcpListener),
    #[cfg(unix)]
    Path(PathBuf),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Listen {
    /// A socket of the Unix domain at this path.
    ///
    /// A socket that nobody listens on any more is replaced. When the acceptor stops, its own is removed. Who may connect,
    /// the permissions of its folder say.
    #[cfg(unix)]
    pub fn unix(path: impl AsRef<Path>) -> Self {
        Self(Kind::Path(path.as_ref().to_owned()))
    }

    /// The sockets that a service manager (systemd and others) has opened for this process, in its order: those of
    /// `LISTEN_FDS`, if `LISTEN_PID` is this process.
    ///
    /// They are duplicates: the manager's own stay open, also when the acceptor stops, so that clients can wait there for the
    /// next start. It takes Linux 5.6, and a sandbox that allows pidfd_getfd(2).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if the variables are missing, or for another process; [`Error::Listen`] if one of the
    /// descriptors is no listener or cannot be had.
    #[cfg(target_os = "linux")]
    #[cfg_attr(docsrs, doc(cfg(target_os = "linux")))]
    pub fn from_environment() -> Result<Vec<Self>, Error> {
        activation::listeners()
    }

    /// Listens. Gives the address as well, if it is one of the network.
    pub(super) fn open(self, backlog: u32) -> Result<(Listener, Option<SocketAddr>), Error> {
        let name = self.to_string();
        let wrong = |source| Error::Listen { address: name.clone(), source };
        match self.0 {
            Kind::Address(address) => given(bind(&address, backlog)?, &name),
            Kind::Tcp(listener) => given(listener, &name),
            #[cfg(unix)]
            Kind::Path(path) if path.as_os_str().is_empty() => {
                Error::invalid("unix socket: the path is empty: expected one to listen at")
            }
            #[cfg(unix)]
            Kind::Path(path) => {
                let (listener, file) = unix::bind(&path, backlog).map_err(wrong)?;
                listener.set_nonblocking(true).map_err(wrong)?;
                let listener = tokio::net::UnixListener::from_std(listener).map_err(wrong)?;
                Ok((Listener::Unix(Some(file), listener), None))
            }
            #[cfg(unix)]
            Kind::Unix(listener) => {
                check_listens(SockRef::from(&listener), &name)?;
                listener.set_nonblocking(true).map_err(wrong)?;
                let listener = tokio::net::UnixListener::from_std(listener).map_err(wrong)?;
                Ok((Listener::Unix(None, listener), None))
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
#[cfg(target_os = "linux")]
fn check_listens(socket: SockRef<'_>, name: &str) -> Result<(), Error> {
    match socket.is_listener() {
        Ok(false) => Error::invalid(format!("{name}: expected a socket that listens, and it does not")),
        _ => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn check_listens(_: SockRef<'_>, _: &str) -> Result<(), Error> {
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

#[cfg(unix)]
impl From<UnixListener> for Listen {
    fn from(listener: UnixListener) -> Self {
        Self(Kind::Unix(listener))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Address(address) => f.write_str(address),
            Kind::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("a given listener"),
            },
            #[cfg(unix)]
            Kind::Path(path) => path.display().fmt(f),
            #[cfg(unix)]
            Kind::Unix(listener) => {
                let address = listener.local_addr().ok();
                match address.as_ref().and_then(|address| address.as_pathname()) {
                    Some(path) => path.display().fmt(f),
                    None => f.write_str("a given listener"),
                }
            }
        }
    }
}
