//! The place where an acceptor listens: an address, a path, or a listener of the program.
//!
//! Next: [`super::unix`], for paths, and [`super::listener`], for the open listener.

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
use super::listener::Listener;
#[cfg(unix)]
use super::unix;

#[cfg(target_os = "linux")]
mod activation;

/// Where an [`Acceptor`](super::Acceptor) listens.
///
/// It is made from one of these:
///
/// - an address: `"host:port"`, a `SocketAddr`, or an `(IpAddr, u16)`. For the port 0, the kernel chooses a port;
///   [`local_addr`](super::Acceptor::local_addr) returns it. A name is resolved when the acceptor is built, and the first of
///   its addresses that can be listened on is used;
/// - a `TcpListener` or `UnixListener` of the standard library that your program has made. It need not be non-blocking;
/// - a path, by [`unix`](Self::unix);
/// - the sockets that a service manager has opened, by [`from_environment`](Self::from_environment).
///
/// ```
/// use std::net::{Ipv4Addr, TcpListener};
/// use perconn::acceptor::Listen;
///
/// # fn main() -> std::io::Result<()> {
/// let by_name = Listen::from("localhost:7777");
/// let by_address = Listen::from((Ipv4Addr::UNSPECIFIED.into(), 7777));
/// let by_listener = Listen::from(TcpListener::bind("127.0.0.1:0")?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Listen(Source);

/// What a [`Listen`] was made from.
#[derive(Debug)]
enum Source {
    /// An address or a name, with a port.
    Address(String),
    /// A listener of the program.
    Tcp(TcpListener),
    /// The path of a Unix socket, whose file the acceptor makes and removes.
    #[cfg(unix)]
    Path(PathBuf),
    /// A listener of the program. Its file belongs to the program.
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Listen {
    /// Listens on a socket of the Unix domain at this path.
    ///
    /// A stale socket file, which no process listens on any more, is replaced. The acceptor removes its own file when
    /// it stops. The permissions of the folder decide which users can connect.
    ///
    /// ```
    /// use perconn::acceptor::{Acceptor, Listen};
    ///
    /// let builder = Acceptor::builder(Listen::unix("/run/my-server/socket"));
    /// # drop(builder);
    /// ```
    #[cfg(unix)]
    pub fn unix(path: impl AsRef<Path>) -> Self {
        Self(Source::Path(path.as_ref().to_owned()))
    }

    /// Returns the sockets that a service manager (systemd and others) has opened for this process, in its order.
    ///
    /// The variable `LISTEN_FDS` has their number, and `LISTEN_PID` must be this process. The sockets are duplicates.
    /// The originals stay open when the acceptor stops, so that clients can wait there for the next start.
    ///
    /// It needs Linux 5.6, and a sandbox that allows pidfd_getfd(2).
    ///
    /// ```no_run
    /// use perconn::acceptor::{Acceptor, Listen};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::acceptor::Error> {
    /// let mut acceptors = Vec::new();
    /// for listen in Listen::from_environment()? {
    ///     acceptors.push(Acceptor::builder(listen).handler(async |_stream, _peer| Ok(())).build()?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidConfig`] if a variable is missing, is not a number, or is for another process, or if a descriptor is
    ///   not a listening socket.
    /// - [`Error::Listen`] if a descriptor cannot be duplicated.
    #[cfg(target_os = "linux")]
    #[cfg_attr(docsrs, doc(cfg(target_os = "linux")))]
    pub fn from_environment() -> Result<Vec<Self>, Error> {
        activation::listeners()
    }

    /// Listens. Returns the address as well, if it is on the network.
    pub(super) fn open(self, backlog: u32) -> Result<(Listener, Option<SocketAddr>), Error> {
        let name = self.to_string();
        let failed = |source| Error::Listen { address: name.clone(), source };
        match self.0 {
            Source::Address(address) => from_tcp(bind(&address, backlog)?, &name),
            Source::Tcp(listener) => from_tcp(listener, &name),
            #[cfg(unix)]
            Source::Path(path) if path.as_os_str().is_empty() => {
                Error::invalid("unix socket: empty path: expected the path of a socket")
            }
            #[cfg(unix)]
            Source::Path(path) => {
                let (listener, file) = unix::bind(&path, backlog).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
                Ok((Listener::Unix(Some(file), listener), None))
            }
            #[cfg(unix)]
            Source::Unix(listener) => {
                check_listens(SockRef::from(&listener), &name)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
                Ok((Listener::Unix(None, listener), None))
            }
        }
    }
}

/// Listens on the first address of a name that works.
fn bind(address: &str, backlog: u32) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { address: address.to_owned(), source };
    let candidates = address.to_socket_addrs().map_err(|source| match source.kind() {
        io::ErrorKind::InvalidInput => Error::InvalidConfig(format!(
            "address {address:?}: {source}; expected \"host:port\", with port 0 for any port"
        )),
        _ => failed(source),
    })?;
    let mut outcome = Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no addresses")));
    for candidate in candidates {
        match listen_on(candidate, backlog) {
            Ok(listener) => return Ok(listener),
            Err(source) => outcome = Err(failed(source)),
        }
    }
    outcome
}

/// Binds an address and listens on it.
fn listen_on(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Allows a restart to take the port while old connections are in TIME_WAIT. Windows allows that by default, and this
    // option would let other processes share the port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// The listener of the acceptor, and its address.
fn from_tcp(listener: TcpListener, name: &str) -> Result<(Listener, Option<SocketAddr>), Error> {
    let failed = |source| Error::Listen { address: name.to_owned(), source };
    check_listens(SockRef::from(&listener), name)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((Listener::Tcp(tokio::net::TcpListener::from_std(listener).map_err(failed)?), Some(address)))
}

/// Rejects a socket that does not listen, as each accept on it would fail.
#[cfg(target_os = "linux")]
fn check_listens(socket: SockRef<'_>, name: &str) -> Result<(), Error> {
    match socket.is_listener() {
        Ok(false) => Error::invalid(format!("{name}: expected a listening socket")),
        _ => Ok(()),
    }
}

/// Only Linux reports whether a socket listens.
#[cfg(not(target_os = "linux"))]
fn check_listens(_: SockRef<'_>, _: &str) -> Result<(), Error> {
    Ok(())
}

impl From<&str> for Listen {
    fn from(address: &str) -> Self {
        Self(Source::Address(address.to_owned()))
    }
}

impl From<String> for Listen {
    fn from(address: String) -> Self {
        Self(Source::Address(address))
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self(Source::Address(address.to_string()))
    }
}

impl From<(IpAddr, u16)> for Listen {
    fn from(address: (IpAddr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<TcpListener> for Listen {
    fn from(listener: TcpListener) -> Self {
        Self(Source::Tcp(listener))
    }
}

#[cfg(unix)]
impl From<UnixListener> for Listen {
    fn from(listener: UnixListener) -> Self {
        Self(Source::Unix(listener))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Address(address) => f.write_str(address),
            Source::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("a listener of the program"),
            },
            #[cfg(unix)]
            Source::Path(path) => path.display().fmt(f),
            #[cfg(unix)]
            Source::Unix(listener) => {
                let address = listener.local_addr().ok();
                match address.as_ref().and_then(|address| address.as_pathname()) {
                    Some(path) => path.display().fmt(f),
                    None => f.write_str("a listener of the program"),
                }
            }
        }
    }
}
