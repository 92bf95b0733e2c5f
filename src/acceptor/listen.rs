//! The place where an acceptor listens: an address, a path, or a listener of the program.
//!
//! Next: [`super::unix`], for paths, and [`super::listener`], for the open listener.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
#[cfg(unix)]
use std::{
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::listener::{Listener, ListeningSocket};
#[cfg(unix)]
use super::unix;
use super::{Error, LocalAddr};

#[cfg(all(target_os = "linux", feature = "activation"))]
mod activation;
mod conversions;

/// Where an [`Acceptor`](super::Acceptor) listens.
///
/// It is made from one of these:
///
/// - an address: `"host:port"`, a `SocketAddr`, or an `(IpAddr, u16)`. For the port 0, the kernel chooses a port;
///   [`local_addr`](super::Acceptor::local_addr) returns it. A name is resolved when the acceptor is built, and the first of
///   its addresses that can be listened on is used;
/// - a `TcpListener` or `UnixListener` of the standard library that your program has made. It need not be non-blocking;
/// - a path, by [`unix`](Self::unix);
/// - the sockets that a service manager has opened, by `from_environment` (Linux, feature `activation`);
/// - several of these, as a `Vec<Listen>`: one acceptor with one limit serves them all.
///
/// ```
/// use std::net::{Ipv4Addr, TcpListener};
/// use perconn::acceptor::Listen;
///
/// # fn main() -> std::io::Result<()> {
/// let by_name = Listen::from("localhost:7777");
/// let by_address = Listen::from((Ipv4Addr::UNSPECIFIED.into(), 7777));
/// let by_listener = Listen::from(TcpListener::bind("127.0.0.1:0")?);
/// let all = Listen::from(vec![by_name, by_address, by_listener]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Listen {
    /// Where to listen.
    source: Source,
    /// What the service manager calls it.
    name: Option<String>,
    /// Access rights were given for what is no path of a Unix socket.
    #[cfg(unix)]
    has_misplaced_access: bool,
}

/// What a [`Listen`] was made from.
#[derive(Debug)]
enum Source {
    /// An address or a name, with a port.
    Address(String),
    /// A listener of the program.
    Tcp(TcpListener),
    /// The path of a Unix socket, whose file the acceptor makes and removes.
    #[cfg(unix)]
    Path(PathBuf, unix::Access),
    /// A listener of the program. Its file belongs to the program.
    #[cfg(unix)]
    Unix(UnixListener),
    /// All of them.
    Several(Vec<Listen>),
}

impl Listen {
    /// Without a name.
    fn new(source: Source) -> Self {
        Self {
            source,
            name: None,
            #[cfg(unix)]
            has_misplaced_access: false,
        }
    }

    /// Listens on a socket of the Unix domain at this path.
    ///
    /// A stale socket file, which no process listens on any more, is replaced. The acceptor removes its own file when
    /// it stops. Which users can connect depends on the permissions of the folder and of the file ([`mode`](Self::mode),
    /// [`owner`](Self::owner)).
    ///
    /// ```
    /// use perconn::acceptor::{Acceptor, Listen};
    ///
    /// let builder = Acceptor::builder(Listen::unix("/run/my-server/socket").mode(0o660));
    /// # drop(builder);
    /// ```
    #[cfg(unix)]
    pub fn unix(path: impl AsRef<Path>) -> Self {
        Self::new(Source::Path(path.as_ref().to_owned(), unix::Access::default()))
    }

    /// Sets the permission bits of the file of a [`unix`](Self::unix) socket, at most `0o777`. Who may write may connect (on
    /// Linux). Defaults to `0o777` without the umask of the process.
    ///
    /// They are set before anybody can connect. The folder must be one in which only trusted users can replace files.
    #[cfg(unix)]
    pub fn mode(self, mode: u32) -> Self {
        self.with_access(|access| access.mode = Some(mode))
    }

    /// Sets the user and the group of the file of a [`unix`](Self::unix) socket, by their numbers. `None` for those of the
    /// process, the default.
    ///
    /// Only a privileged process can choose another user, or a group that it does not belong to. Otherwise `build` fails with
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied).
    ///
    /// ```
    /// use perconn::acceptor::Listen;
    ///
    /// let group_of_the_web_server = 33;
    /// let listen = Listen::unix("/run/my-server/socket").owner(None, group_of_the_web_server).mode(0o660);
    /// # drop(listen);
    /// ```
    #[cfg(unix)]
    pub fn owner(self, uid: impl Into<Option<u32>>, gid: impl Into<Option<u32>>) -> Self {
        self.with_access(|access| (access.uid, access.gid) = (uid.into(), gid.into()))
    }

    /// Changes the access rights of the file, or notes that there is none.
    #[cfg(unix)]
    fn with_access(mut self, change: impl FnOnce(&mut unix::Access)) -> Self {
        match &mut self.source {
            Source::Path(_, access) => change(access),
            _ => self.has_misplaced_access = true,
        }
        self
    }

    /// Returns the sockets that a service manager (systemd and others) has opened for this process, in its order; at least
    /// one. Give all of them to one acceptor: its limits then hold for all clients together.
    ///
    /// ```no_run
    /// use perconn::acceptor::{Acceptor, Listen};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::acceptor::Error> {
    /// let acceptor = Acceptor::builder(Listen::from_environment()?).handler(async |_stream, _peer| Ok(())).build()?;
    /// # drop(acceptor);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// For several acceptors, tell the sockets apart by their [`name`](Self::name).
    ///
    /// The variable `LISTEN_FDS` has their number, `LISTEN_PID` must be this process, and `LISTEN_FDNAMES` may name them.
    /// These variables stay set: no program can remove a variable soundly once it has threads. Child processes inherit the
    /// variables, and see that they are for another process. They do not inherit the sockets, which this call marks as
    /// close-on-exec.
    ///
    /// The sockets are duplicates, so you can call this again. The originals stay open when the acceptor stops, so that
    /// clients can wait there for the next start.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidConfig`] if a variable is missing, cannot be parsed, or is for another process, or if a descriptor is
    ///   not a stream socket that listens: `ListenDatagram`, `ListenSequentialPacket` and `Accept=yes` of systemd.socket(5)
    ///   cannot be used.
    /// - [`Error::Listen`] if a descriptor is not open, or cannot be duplicated because the process has no descriptor free.
    #[cfg(all(target_os = "linux", feature = "activation"))]
    #[cfg_attr(docsrs, doc(cfg(all(target_os = "linux", feature = "activation"))))]
    pub fn from_environment() -> Result<Vec<Self>, Error> {
        activation::listeners()
    }

    /// What the service manager calls the socket (`FileDescriptorName` of systemd.socket(5)). `None` if it has no name, or
    /// does not come from a service manager.
    ///
    /// ```no_run
    /// use perconn::acceptor::{Acceptor, Listen};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::acceptor::Error> {
    /// # #[cfg(all(target_os = "linux", feature = "activation"))]
    /// # {
    /// let (admin, public): (Vec<_>, Vec<_>) =
    ///     Listen::from_environment()?.into_iter().partition(|listen| listen.name() == Some("admin"));
    /// let public = Acceptor::builder(public).line_handler(async |line, conn| conn.send(line).await).build()?;
    /// let admin = Acceptor::builder(admin).acceptors(5).line_handler(async |_, conn| conn.send("ok").await).build()?;
    /// # drop((public, admin));
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Listens. Returns the addresses as well, in the order of the sockets.
    pub(super) fn open(self, backlog: u32) -> Result<(Listener, Vec<LocalAddr>), Error> {
        let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
        self.open_into(backlog, &mut sockets, &mut addresses)?;
        if sockets.is_empty() {
            return Error::invalid("no sockets to listen on: expected at least one");
        }
        Ok((Listener::new(sockets), addresses))
    }

    /// Listens, and appends the sockets and their addresses. After a failure, the caller closes those that are open.
    fn open_into(
        self,
        backlog: u32,
        sockets: &mut Vec<ListeningSocket>,
        addresses: &mut Vec<LocalAddr>,
    ) -> Result<(), Error> {
        let name = self.to_string();
        #[cfg(unix)]
        let failed = |source| Error::Listen { address: name.clone(), source };
        #[cfg(unix)]
        if self.has_misplaced_access {
            return Error::invalid(format!("{name}: mode or owner: expected the path of a socket, by Listen::unix"));
        }
        let (socket, address) = match self.source {
            Source::Several(several) => {
                return several.into_iter().try_for_each(|listen| listen.open_into(backlog, sockets, addresses));
            }
            Source::Address(address) => from_tcp(bind(&address, backlog)?, &name)?,
            Source::Tcp(listener) => from_tcp(listener, &name)?,
            #[cfg(unix)]
            Source::Path(path, _) if path.as_os_str().is_empty() => {
                return Error::invalid("unix socket: empty path: expected the path of a socket");
            }
            #[cfg(unix)]
            Source::Path(_, unix::Access { mode: Some(mode), .. }) if mode > 0o777 => {
                return Error::invalid(format!("{name}: mode {mode:#o}: expected at most 0o777"));
            }
            #[cfg(unix)]
            Source::Path(path, access) => {
                let (listener, file) = unix::bind(&path, access, backlog).map_err(failed)?;
                from_unix(Some(file), listener).map_err(failed)?
            }
            #[cfg(unix)]
            Source::Unix(listener) => {
                check_socket(SockRef::from(&listener), &name)?;
                from_unix(None, listener).map_err(failed)?
            }
        };
        sockets.push(socket);
        addresses.push(address);
        Ok(())
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

/// A listening socket of the network, and its address.
fn from_tcp(listener: TcpListener, name: &str) -> Result<(ListeningSocket, LocalAddr), Error> {
    let failed = |source| Error::Listen { address: name.to_owned(), source };
    check_socket(SockRef::from(&listener), name)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    Ok((ListeningSocket::Tcp(listener), LocalAddr::Tcp(address)))
}

/// A listening socket of the Unix domain, and its address.
#[cfg(unix)]
fn from_unix(file: Option<unix::SocketFile>, listener: UnixListener) -> io::Result<(ListeningSocket, LocalAddr)> {
    listener.set_nonblocking(true)?;
    let path = listener.local_addr()?.as_pathname().map(Path::to_owned);
    let listener = tokio::net::UnixListener::from_std(listener)?;
    Ok((ListeningSocket::Unix(file, listener), LocalAddr::Unix(path)))
}

/// Rejects a socket that is not a stream socket that listens, as each accept on it would fail, or its connections would not
/// be streams.
fn check_socket(socket: SockRef<'_>, name: &str) -> Result<(), Error> {
    let kind = match socket.r#type() {
        Ok(Type::DGRAM) => "a datagram socket",
        Ok(Type::SEQPACKET) => "a seqpacket socket",
        _ => return check_listens(socket, name),
    };
    Error::invalid(format!("{name}: {kind}: expected a stream socket that listens"))
}

/// Rejects a socket that does not listen, as each accept on it would fail.
#[cfg(all(target_os = "linux", not(perconn_portable)))]
fn check_listens(socket: SockRef<'_>, name: &str) -> Result<(), Error> {
    match socket.is_listener() {
        Ok(false) => Error::invalid(format!("{name}: expected a listening socket")),
        _ => Ok(()),
    }
}

/// Only Linux reports whether a socket listens.
#[cfg(not(all(target_os = "linux", not(perconn_portable))))]
fn check_listens(_: SockRef<'_>, _: &str) -> Result<(), Error> {
    Ok(())
}
