//! The dialer through a proxy: each link is a tunnel that a SOCKS5 or an HTTP proxy has opened.
//!
//! Next: [`Proxy`], the settings; [`socks5`] and [`http`], what is said to the proxy.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;

pub use self::settings::Proxy;
use self::target::Target;
use super::address_history::AddressHistory;
use super::address_list::AddressList;
use super::at_address::name_error;
use super::resolver::Resolver;
use super::tcp::all_failed;
use super::{Dial, TcpDialer};
use crate::{Address, Builder, Error, SocketOptions};

mod answer;
mod http;
mod settings;
mod socks5;
mod target;

/// Dials TCP addresses through a [`Proxy`]; made by [`Builder::proxy`](crate::Builder::proxy) or [`ProxyDialer::new`].
///
/// A dial connects to the proxy, as a [`TcpDialer`] does, and asks it for a connection to the target. All of it has to fit into the
/// dial timeout. The link is a [`TcpStream`] to the proxy, so everything that holds for TCP holds for it: a close is noticed while
/// the connection is idle. `peer_addr()` is the address of the proxy.
///
/// # Errors
///
/// What goes wrong on the way to the proxy, or is refused by it, has an error whose text is `proxy` and its address, and whose
/// source says what has happened:
///
/// | what | kind |
/// |---|---|
/// | the proxy cannot be reached | that of the [`TcpDialer`]'s error |
/// | it closes before the end of its answer | [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) |
/// | it does not speak the protocol, or its answer has more than 16 KiB | [`InvalidData`](io::ErrorKind::InvalidData) |
/// | it refuses this client: SOCKS5 methods, user or password; HTTP 401, 403, 407 | [`PermissionDenied`](io::ErrorKind::PermissionDenied) |
/// | it refuses the target: SOCKS5 reply 2 | [`PermissionDenied`](io::ErrorKind::PermissionDenied) |
/// | the target refuses the proxy's connection: SOCKS5 reply 5 | [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) |
/// | it cannot reach the target: SOCKS5 replies 3 and 4; HTTP 502, 503 | [`NetworkUnreachable`](io::ErrorKind::NetworkUnreachable), [`HostUnreachable`](io::ErrorKind::HostUnreachable) |
/// | the target does not answer it: SOCKS5 reply 6; HTTP 408, 504 | [`TimedOut`](io::ErrorKind::TimedOut) |
/// | it cannot do that: SOCKS5 replies 7 and 8; HTTP 405, 501 | [`Unsupported`](io::ErrorKind::Unsupported) |
/// | any other refusal | [`Other`](io::ErrorKind::Other) |
///
/// The text of a refusal has the number, and the reason that an HTTP proxy gives. A proxy that is too slow for the dial timeout is
/// named, too.
///
/// ```
/// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use perconn::{Conn, Proxy, ProxyDialer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let proxy = server.local_addr()?;
/// # tokio::spawn(async move { server.accept().await?.0.write_all(b"HTTP/1.1 403 Filtered\r\n\r\n").await });
/// let dialer = ProxyDialer::new(Proxy::http(proxy), "db.example:5432");
/// let error = Conn::builder("db.example:5432").dialer(dialer).connect().await.unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
/// let text = format!("dial 1 to db.example:5432 failed: proxy {proxy}: it answers 403 Filtered");
/// assert_eq!(error.with_causes().to_string(), text);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ProxyDialer {
    /// The settings.
    proxy: Proxy,
    /// Connects to the proxy.
    to_proxy: TcpDialer,
    /// The addresses of the service.
    targets: AddressList,
    /// Resolves their names, if the proxy does not.
    resolver: Resolver,
    /// How earlier dials to the IP addresses of a name ended. `None` until this side has resolved one that has several.
    history: Option<Box<AddressHistory>>,
    /// Whether the proxy is being dialed. It stays if the dial is dropped meanwhile.
    is_at_proxy: bool,
}

impl ProxyDialer {
    /// A dialer for this address, through the proxy. Both are checked when the connection is built.
    pub fn new(proxy: Proxy, target: impl Into<Address>) -> Self {
        Self::over(TcpDialer::new(target), proxy)
    }

    /// A dialer for several addresses of one service, through the proxy.
    ///
    /// Which of them is dialed is decided as in [`TcpDialer::with_addresses`].
    pub fn with_addresses<A: Into<Address>>(proxy: Proxy, targets: impl IntoIterator<Item = A>) -> Self {
        Self::over(TcpDialer::with_addresses(targets), proxy)
    }

    /// Resolves names by a function of your own; see [`TcpDialer::resolver`]. That is the name of the proxy and, with
    /// [`Proxy::resolve_locally`], those of the targets.
    pub fn resolver<F, Fut>(self, resolve: F) -> Self
    where
        F: Fn(String, u16) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let resolver = Resolver::own(resolve);
        Self { to_proxy: self.to_proxy.replace_resolver(resolver.clone()), resolver, ..self }
    }

    /// Dials what a `TcpDialer` would dial, through the proxy.
    fn over(dialer: TcpDialer, proxy: Proxy) -> Self {
        let (targets, resolver) = dialer.into_parts();
        let to_proxy = TcpDialer::new(proxy.address().clone()).replace_resolver(resolver.clone());
        Self { proxy, to_proxy, targets, resolver, history: None, is_at_proxy: false }
    }

    /// Opens one tunnel.
    async fn open(&mut self, target: &Target) -> Result<TcpStream, Failure> {
        let mut stream = self.to_proxy.dial().await.map_err(Failure::ToProxy)?;
        self.proxy.handshake(&mut stream, target).await.map_err(Failure::AtProxy)?;
        Ok(stream)
    }

    /// Opens a tunnel to the first of these addresses that the proxy can reach, one after the other.
    async fn open_any(&mut self, found: Vec<SocketAddr>) -> io::Result<TcpStream> {
        let found = match &found[..] {
            [_] => found,
            _ => self.history.get_or_insert_default().sort(found),
        };
        let earlier = self.history.clone();
        let mut failures = Vec::new();
        for address in found {
            if let Some(history) = &mut self.history {
                // Undone below, unless the dial timeout drops this dial.
                history.mark_bad(address);
            }
            match self.open(&Target::Ip(address)).await {
                Ok(stream) => {
                    if let Some(history) = &mut self.history {
                        history.mark_good(address);
                    }
                    return Ok(stream);
                }
                Err(Failure::ToProxy(error)) => {
                    // It says nothing against the address.
                    self.history = earlier;
                    return Err(error);
                }
                Err(Failure::AtProxy(error)) => failures.push((address, error)),
            }
        }
        Err(all_failed(failures))
    }

    /// Names the proxy in an error of the way to it.
    fn at_proxy(&self, error: io::Error) -> io::Error {
        name_error(self.proxy.name(), error)
    }
}

/// Where a tunnel has failed.
enum Failure {
    /// On the way to the proxy, so that another target will fail, too.
    ToProxy(io::Error),
    /// It has answered, but not as it should, or has refused.
    AtProxy(io::Error),
}

impl Dial for ProxyDialer {
    type Stream = TcpStream;

    async fn dial(&mut self) -> io::Result<TcpStream> {
        self.resolver.begin();
        self.is_at_proxy = false;
        let (index, address) = self.targets.begin()?;
        let (host, port) = address.parse()?;
        let is_here = self.proxy.resolves_locally() || host.parse::<IpAddr>().is_ok();
        let outcome = if is_here {
            let found = self.resolver.resolve(index, &address).await?;
            self.is_at_proxy = true;
            self.open_any(found).await
        } else {
            self.is_at_proxy = true;
            let outcome = self.open(&Target::Name(host, port)).await;
            outcome.map_err(|(Failure::ToProxy(error) | Failure::AtProxy(error))| error)
        };
        self.is_at_proxy = false;
        let stream = outcome.map_err(|error| self.at_proxy(error))?;
        self.targets.reached();
        Ok(stream)
    }

    fn check(&self) -> Result<(), Error> {
        self.proxy.check()?;
        self.to_proxy.check()?;
        self.targets.check(target::check)
    }

    fn take_socket_options(&mut self, options: &SocketOptions) -> bool {
        self.to_proxy.take_socket_options(options)
    }

    fn addresses(&self) -> &[Address] {
        self.targets.as_slice()
    }

    fn dialed_address(&self) -> Option<&Address> {
        self.targets.dialed()
    }

    fn unfinished_step(&self) -> Option<String> {
        if self.resolver.is_unfinished() {
            return Some("name resolution".into());
        }
        let proxy = self.is_at_proxy.then(|| self.proxy.name())?;
        Some(match self.to_proxy.unfinished_step() {
            Some(step) => format!("{proxy}: {step}"),
            None => proxy,
        })
    }

    fn dial_failed(&mut self) {
        self.to_proxy.dial_failed();
        if self.targets.failed() {
            if let Some(history) = &mut self.history {
                history.mark_good_as_bad();
            }
        }
    }

    fn is_closed(stream: &TcpStream) -> bool {
        TcpDialer::is_closed(stream)
    }
}

impl Builder {
    /// Dials through a SOCKS5 or an HTTP proxy.
    ///
    /// The targets are the builder's address or its [`addresses`](Builder::addresses), and names are resolved by the proxy. With
    /// [`Proxy::resolve_locally`], this side resolves them, by the builder's [`resolver`](Builder::resolver). Set all of these
    /// before this call. [`tls`](Builder::tls) and [`and_then`](Builder::and_then) after it are between this program and the
    /// target, and the server's certificate has to be for the target's name. Socket options are set on the socket to the proxy.
    /// [`ProxyDialer`] has the errors.
    ///
    /// ```
    /// use perconn::{Conn, Proxy};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::Error> {
    /// let proxy = Proxy::socks5("proxy.corp.example:1080").credentials("agent", "secret");
    /// let conn = Conn::builder("metrics.example:4000").proxy(proxy).build()?;
    /// # drop(conn);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy")))]
    #[doc(alias("socks", "socks5", "http_proxy", "CONNECT", "tunnel", "tor", "bastion"))]
    pub fn proxy(self, proxy: Proxy) -> Builder<ProxyDialer> {
        self.map_dialer(|dialer| ProxyDialer::over(dialer, proxy))
    }
}
