//! TLS beneath a connection: each link is a TLS session.

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
/// The handshake is a part of the dial and has to fit into the dial timeout. A certificate that is not trusted, or is
/// another host's, is a failed dial, told to the logger as [`Error::DialFailure`] with the reason.
///
/// A server that refuses *our* certificate says so only after a TLS 1.3 handshake has ended well on this side: then the
/// link comes up, and its first read fails.
///
/// # What differs from TCP
///
/// - A write fills a buffer of the session's. **Flush** before waiting for an answer: what the socket did not take at once is
///   sent by later writes and flushes only.
/// - The end of a link loses what the server has not received if something from it lies unread, as the kernel then sends a
///   reset. With TLS 1.3 that is the rule for a program that only writes: the server's session tickets are bytes, too. To
///   be sure that the last bytes arrive, `shutdown` and read to the end of the stream before closing.
///
/// # What a TLS link cannot do
///
/// While nobody reads or writes, the end of a TLS link is not noticed, and its halves share a lock, as with every stream
/// that is not a socket. A write asks the socket beneath whether the peer has closed.
#[derive(Clone, Debug)]
pub struct TlsDialer<D = TcpDialer> {
    dialer: D,
    connector: Connector,
    name: ServerName<'static>,
}

/// A `TlsConnector`, which has no `Debug` of its own.
#[derive(Clone)]
struct Connector(TlsConnector);

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
    /// [`Error::InvalidConfig`] for a file that cannot be read or has nothing of what was expected in it, a key that does not
    /// belong to its certificate, a server name that is no name or is missing.
    pub fn new(dialer: D, tls: Tls) -> Result<Self, Error> {
        let name = tls.name(None)?;
        Self::with_name(dialer, tls, name)
    }

    fn with_name(dialer: D, tls: Tls, name: ServerName<'static>) -> Result<Self, Error> {
        let config = tls.config()?;
        Ok(Self { dialer, connector: Connector(TlsConnector::from(Arc::new(config))), name })
    }
}

impl<D: Dial> Builder<D> {
    /// Makes each link a TLS session, with these settings.
    ///
    /// The server has to prove that it is the one named in the address that the builder was made with, or in
    /// [`Tls::server_name`]. A session set-up by [`and_then`](Builder::and_then) that is given after this runs within the
    /// session; one given before it runs before the handshake, as STARTTLS needs it.
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
    /// As [`TlsDialer::new`]; but the name may be missing in the settings if the address has one.
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls(self, tls: Tls) -> Result<Builder<TlsDialer<D>>, Error> {
        let name = tls.name(Some(self.address()))?;
        let mut outcome = Ok(());
        let mut made = None;
        let builder = self.map_dialer(|dialer| match TlsDialer::with_name(dialer, tls, name) {
            Ok(dialer) => made = Some(dialer),
            Err(error) => outcome = Err(error),
        });
        outcome?;
        Ok(builder.map_dialer(|()| made.take().unwrap_or_else(|| unreachable!("there was no error"))))
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

    fn dial_failed(&mut self) {
        self.dialer.dial_failed();
    }

    fn is_closed(stream: &Self::Stream) -> bool {
        D::is_closed(stream.get_ref().0)
    }
}

/// The host of an address, as a server's name: without the dot at the end, and without an IPv6 zone.
fn host(address: &Address) -> Result<String, Error> {
    let (host, _) = address.parse()?;
    let host = host.split_once('%').map_or(host.as_str(), |(host, _)| host);
    Ok(host.strip_suffix('.').unwrap_or(host).to_owned())
}
