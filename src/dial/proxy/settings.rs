//! The settings of a proxy.
//!
//! Next: [`ProxyDialer`](super::ProxyDialer), which uses them.

use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncWrite};

use super::target::Target;
use super::{http, socks5};
use crate::{Address, Error};

/// A proxy to dial through, for [`Builder::proxy`](crate::Builder::proxy) and [`ProxyDialer`](super::ProxyDialer).
///
/// ```
/// use perconn::Proxy;
///
/// let socks = Proxy::socks5("127.0.0.1:1080");
/// let http = Proxy::http("proxy.corp.example:3128").credentials("agent", "secret");
/// assert!(!format!("{http:?}").contains("secret"));
/// # drop(socks);
/// ```
#[derive(Clone)]
#[must_use = "it does nothing until it is passed to `Builder::proxy`"]
#[doc(alias("socks", "socks5", "http_proxy", "https_proxy", "ALL_PROXY"))]
pub struct Proxy {
    /// What it speaks.
    protocol: Protocol,
    /// Where it is. Malformed until it is checked.
    address: Address,
    /// Who this client is. `None`: the proxy is not to ask.
    credentials: Option<Credentials>,
    /// Whether names of targets are resolved on this side. Defaults to false.
    resolves_locally: bool,
}

/// How a tunnel is asked for.
#[derive(Clone, Copy, Debug)]
enum Protocol {
    /// RFC 1928.
    Socks5,
    /// RFC 9110, section 9.3.6.
    Http,
}

/// A user and a password. They are in no error, and not in `Debug`.
#[derive(Clone)]
pub(super) struct Credentials {
    /// For SOCKS5: 1 to 255 bytes. For HTTP: without a colon.
    pub(super) user: String,
    /// For SOCKS5: 1 to 255 bytes.
    pub(super) password: String,
}

impl Proxy {
    /// A SOCKS5 proxy (RFC 1928), such as the one of `ssh -D` or Tor.
    pub fn socks5(address: impl Into<Address>) -> Self {
        Self::of(Protocol::Socks5, address.into())
    }

    /// An HTTP proxy, which is asked by `CONNECT` (RFC 9110, section 9.3.6).
    ///
    /// The connection to the proxy itself is not encrypted. Many of these proxies allow port 443 only.
    pub fn http(address: impl Into<Address>) -> Self {
        Self::of(Protocol::Http, address.into())
    }

    /// No credentials, and names are resolved by the proxy.
    fn of(protocol: Protocol, address: Address) -> Self {
        Self { protocol, address, credentials: None, resolves_locally: false }
    }

    /// The user and the password for the proxy: those of RFC 1929 for SOCKS5, Basic (RFC 7617) for HTTP.
    ///
    /// They are sent as they are, to everybody who can read the connection to the proxy. A SOCKS5 proxy is also offered to do
    /// without. For SOCKS5, each has 1 to 255 bytes. For HTTP, they have no control characters, and the user no colon. Defaults to
    /// none.
    #[doc(alias("auth", "basic_auth", "password", "login"))]
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some(Credentials { user: user.into(), password: password.into() });
        self
    }

    /// Whether names of targets are resolved on this side instead of by the proxy. Defaults to `false`.
    ///
    /// With `true`, a name that has several IP addresses is tried at one after the other, each over a connection to the proxy of
    /// its own, beginning with the one that has worked last. With `false`, the choice is the proxy's.
    #[doc(alias("socks5h", "remote_dns", "dns"))]
    pub fn resolve_locally(mut self, is_local: bool) -> Self {
        self.resolves_locally = is_local;
        self
    }

    /// Where it is.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// For errors.
    pub(super) fn name(&self) -> String {
        format!("proxy {}", self.address)
    }

    /// What [`resolve_locally`](Self::resolve_locally) was set to.
    pub(super) fn resolves_locally(&self) -> bool {
        self.resolves_locally
    }

    /// Checks the credentials. The error has no part of them.
    pub(super) fn check(&self) -> Result<(), Error> {
        let Some(Credentials { user, password }) = &self.credentials else { return Ok(()) };
        let invalid = |text: String| Err(Error::InvalidConfig(format!("{}: {text}", self.name())));
        match self.protocol {
            Protocol::Socks5 => {
                for (what, value) in [("user", user), ("password", password)] {
                    if !(1..=255).contains(&value.len()) {
                        return invalid(format!("{what} of {} bytes: expected 1 to 255 for SOCKS5", value.len()));
                    }
                }
            }
            Protocol::Http if user.contains(':') => return invalid("user with a colon: expected none for HTTP".into()),
            Protocol::Http if [user, password].iter().any(|value| value.contains(char::is_control)) => {
                return invalid("user or password with a control character: expected none for HTTP".into());
            }
            Protocol::Http => {}
        }
        Ok(())
    }

    /// Asks for a tunnel on a fresh connection to the proxy. Reads its answer, and nothing after it.
    pub(super) async fn handshake<S>(&self, stream: &mut S, target: &Target) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let credentials = self.credentials.as_ref();
        match self.protocol {
            Protocol::Socks5 => socks5::open(stream, target, credentials).await,
            Protocol::Http => http::open(stream, target, credentials).await,
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("protocol", &self.protocol)
            .field("address", &self.address.as_str())
            .field("has_credentials", &self.credentials.is_some())
            .field("resolves_locally", &self.resolves_locally)
            .finish()
    }
}
