//! The dialer of TLS sessions: each link is a session on the stream of another dialer.
//!
//! Next: [`Tls`], the settings.

use std::io;

use tokio_rustls::client::TlsStream;

use self::closing::session_error;
pub use self::handle::TlsHandle;
use self::names::ServerNames;
use self::reload::Certificates;
pub use self::settings::Tls;
use super::{Dial, TcpDialer};
use crate::{Address, Builder, Error, SocketOptions};

mod closing;
mod handle;
mod names;
mod reload;
mod settings;

/// Makes TLS sessions on the streams of another dialer; made by [`Builder::tls`](crate::Builder::tls) or
/// [`TlsDialer::new`].
///
/// The handshake is part of the dial and has to fit into the dial timeout. If the certificate is not trusted or belongs
/// to another host, the dial fails, and the logger gets an [`Error::DialFailure`] with the reason. The files of the
/// settings are [read again](Tls#new-certificates-without-a-restart) at each dial.
///
/// With TLS 1.3, a server can refuse *your* certificate only after the handshake has succeeded on this side. Then the
/// link comes up and breaks when the refusal has arrived. The next read or write fails, with the server's alert as the
/// reason. Data that was written before is lost.
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
    /// The roots and the client's certificate.
    certificates: Certificates,
    /// The names that the certificates of the servers must be for.
    names: ServerNames,
}

impl<D: Dial> TlsDialer<D> {
    /// TLS on the streams of `dialer`.
    ///
    /// The server's certificate must be for the host of the address that is dialed, or for [`Tls::server_name`]. A
    /// dialer without [`addresses`](Dial::addresses), such as a closure, needs the latter.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] for a file that cannot be read or lacks what was expected in it, a key that does not
    /// belong to its certificate, a server name that is missing or malformed, and an address without a host that can be
    /// one.
    pub fn new(dialer: D, tls: Tls) -> Result<Self, Error> {
        Self::with_name_of(None, dialer, &tls)
    }

    /// The same. A dialer without addresses reaches the host of `address`.
    fn with_name_of(address: Option<&Address>, dialer: D, tls: &Tls) -> Result<Self, Error> {
        let names = ServerNames::new(tls.given_name(), dialer.addresses(), address)?;
        Ok(Self { certificates: Certificates::new(tls)?, names, dialer })
    }
}

impl<D: Dial> Builder<D> {
    /// Makes each link a TLS session with these settings.
    ///
    /// The server's certificate must be for the host of the address that is dialed, or for [`Tls::server_name`]. With
    /// several [`addresses`](Builder::addresses), each server is verified by its own host. With a
    /// [`dialer`](Builder::dialer) that has no [`addresses`](Dial::addresses), such as a closure, the host is that of
    /// the builder's address.
    ///
    /// A set-up by [`and_then`](Builder::and_then) after this call runs within the session. A set-up before this call
    /// runs before the handshake, as STARTTLS needs it.
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
    /// As for [`TlsDialer::new`]. The settings need no server name if each address has a host.
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[doc(alias("ssl", "rustls", "handshake", "starttls"))]
    pub fn tls(self, tls: Tls) -> Result<Builder<TlsDialer<D>>, Error> {
        let address = self.address().clone();
        self.try_map_dialer(|dialer| TlsDialer::with_name_of(Some(&address), dialer, &tls))
    }
}

impl<D: Dial> Dial for TlsDialer<D> {
    type Stream = TlsStream<D::Stream>;

    async fn dial(&mut self) -> io::Result<Self::Stream> {
        // Before the dial: a disk that hangs says nothing against the address.
        let connector = self.certificates.refresh().await;
        let stream = self.dialer.dial().await?;
        let name = self.names.of(self.dialer.dialed_address())?;
        connector.connect(name, stream).await
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

    fn unfinished_step(&self) -> Option<String> {
        self.dialer.unfinished_step()
    }

    fn dial_failed(&mut self) {
        self.dialer.dial_failed();
    }

    fn take_warning(&mut self) -> Option<Error> {
        self.certificates.take_warning().or_else(|| self.dialer.take_warning())
    }

    fn is_closed(stream: &Self::Stream) -> bool {
        D::is_closed(stream.get_ref().0)
    }

    fn closing_error(stream: &mut Self::Stream) -> Option<io::Error> {
        let (below, session) = stream.get_mut();
        session_error(below, session).or_else(|| D::closing_error(below))
    }
}
