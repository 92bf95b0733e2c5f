//! The dialer of TLS sessions: each link is a session on the stream of another dialer.
//!
//! Next: [`Tls`], the settings.

use std::io;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

pub use self::settings::Tls;
use super::{Dial, TcpDialer};
use crate::{Address, Builder, Error, SocketOptions};

mod settings;

/// Makes TLS sessions on the streams of another dialer; made by [`Builder::tls`](crate::Builder::tls) or
/// [`TlsDialer::new`].
///
/// The handshake is part of the dial and has to fit into the dial timeout. If the certificate is not trusted or belongs
/// to another host, the dial fails, and the logger gets an [`Error::DialFailure`] with the reason.
///
/// With TLS 1.3, a server can refuse *your* certificate only after the handshake has succeeded on this side. Then the
/// link comes up, and its first read fails.
///
/// # What differs from TCP
///
/// - A write fills a buffer of the session. **Flush** before you wait for an answer: only later writes and flushes send
///   what the socket did not take at once.
/// - If you close a link while bytes from the server are unread, the kernel sends a reset, and the server loses what it
///   has not received yet. With TLS 1.3 this is the usual case for a program that only writes, as the server's session
///   tickets are bytes, too. To make sure that the last bytes arrive, `shutdown` and read to the end of the stream before
///   closing.
///
/// # What a TLS link cannot do
///
/// As with every stream that is not a socket, the end of the link is not noticed while nothing reads or writes, and the
/// two halves share a lock. A write asks the socket below whether the peer has closed.
#[derive(Clone, Debug)]
pub struct TlsDialer<D = TcpDialer> {
    /// Makes the stream below each session. Socket options are passed on to it.
    dialer: D,
    /// Shared by all dials, so that sessions can be resumed.
    connector: Connector,
    /// The name that the server's certificate must be for.
    name: ServerName<'static>,
}

/// A `TlsConnector`, which has no `Debug` of its own.
#[derive(Clone)]
struct Connector(TlsConnector);

impl Connector {
    /// Reads the files of the settings.
    fn new(tls: Tls) -> Result<Self, Error> {
        Ok(Self(TlsConnector::from(Arc::new(tls.config()?))))
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsConnector")
    }
}

impl<D: Dial> TlsDialer<D> {
    /// TLS on the streams of `dialer`. The settings must have a [`server_name`](Tls::server_name).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] for a file that cannot be read or lacks what was expected in it, a key that does not
    /// belong to its certificate, and a server name that is missing or malformed.
    pub fn new(dialer: D, tls: Tls) -> Result<Self, Error> {
        let name = tls.name(None)?;
        Ok(Self { dialer, connector: Connector::new(tls)?, name })
    }
}

impl<D: Dial> Builder<D> {
    /// Makes each link a TLS session with these settings.
    ///
    /// The server's certificate must be for the host of the builder's address, or for [`Tls::server_name`]. A set-up by
    /// [`and_then`](Builder::and_then) after this call runs within the session. A set-up before this call runs before
    /// the handshake, as STARTTLS needs it.
    ///
    /// ```no_run
    /// use perconn::{Conn, Tls};
    ///
    /// # async fn example() -> Result<(), perconn::Error> {
    /// let conn = Conn::builder("chat.example:6697").tls(Tls::new().alpn(["irc"]))?.build()?;
    /// # drop(conn);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`TlsDialer::new`]. The settings need no server name if the address has a host.
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[doc(alias("ssl", "rustls", "handshake", "starttls"))]
    pub fn tls(self, tls: Tls) -> Result<Builder<TlsDialer<D>>, Error> {
        let name = tls.name(Some(self.address()))?;
        let connector = Connector::new(tls)?;
        Ok(self.map_dialer(|dialer| TlsDialer { dialer, connector, name }))
    }
}

impl<D: Dial> Dial for TlsDialer<D> {
    type Stream = TlsStream<D::Stream>;

    async fn dial(&mut self) -> io::Result<Self::Stream> {
        let stream = self.dialer.dial().await?;
        self.connector.0.connect(self.name.clone(), stream).await
    }

    fn check(&self) -> Result<(), Error> {
        self.dialer.check()
    }

    fn take_socket_options(&mut self, options: &SocketOptions) -> bool {
        self.dialer.take_socket_options(options)
    }

    fn addresses(&self) -> &[Address] {
        self.dialer.addresses()
    }

    fn dialed_address(&self) -> Option<&Address> {
        self.dialer.dialed_address()
    }

    fn dial_failed(&mut self) {
        self.dialer.dial_failed();
    }

    fn is_closed(stream: &Self::Stream) -> bool {
        D::is_closed(stream.get_ref().0)
    }
}

/// The host of an address as a server name: without a final dot and without an IPv6 zone.
fn host_name(address: &Address) -> Result<String, Error> {
    let (host, _) = address.parse()?;
    let host = host.split_once('%').map_or(host.as_str(), |(host, _)| host);
    Ok(host.strip_suffix('.').unwrap_or(host).to_owned())
}
