//! TLS as PostgreSQL negotiates it: requested in plain text, then spoken.
//!
//! Next: [`Host`](super::hosts::Host), which upgrades its streams with it; then `end_point`, what a login is bound to.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};

use self::end_point::end_point;
use super::Error;
use super::hosts::HostStream;
use crate::Dial;
use crate::dial::BoxedStream;
use crate::sync::Mutex;
use crate::{Tls, TlsDialer};

mod end_point;

/// The SSLRequest message: its length, then 1234 and 5679 in place of a protocol version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Makes TLS sessions on streams that are already connected.
pub(super) struct TlsUpgrade {
    /// The stream that the inner dialer of `dialer` returns next.
    connected: Connected,
    /// Makes a session on the stream in `connected`.
    dialer: TlsDialer<Connected>,
    /// Whether TLS is requested in plain text first.
    sends_request: bool,
    /// Whether the attempt fails if the server does not speak TLS.
    is_required: bool,
}

impl TlsUpgrade {
    /// `None` if the configuration disables TLS. The certificate must be for `name`, unless `tls` names another server.
    pub(super) fn new(tls: &Tls, config: &Config, name: &str) -> Result<Option<Self>, Error> {
        let is_required = match (config.get_ssl_mode(), config.get_channel_binding()) {
            (SslMode::Disable, _) => return Ok(None),
            (SslMode::Prefer, ChannelBinding::Disable | ChannelBinding::Prefer) => false,
            _ => true,
        };
        let is_direct = config.get_ssl_negotiation() == SslNegotiation::Direct;
        let mut tls = tls.clone();
        if is_direct {
            tls = tls.alpn(["postgresql"]);
        }
        let connected = Connected::default();
        // A server name in the settings takes precedence.
        let name = name.split_once('%').map_or(name, |(name, _)| name);
        let name = name.trim_matches(['[', ']']).trim_end_matches('.');
        let dialer = TlsDialer::new(connected.clone(), tls.server_name_or(name)).map_err(Error::from_core)?;
        Ok(Some(Self { connected, dialer, sends_request: !is_direct, is_required }))
    }

    /// Makes a TLS session on `stream`, or returns it as it is if the server has no TLS and none is required.
    pub(super) async fn upgrade(&mut self, mut stream: BoxedStream) -> io::Result<HostStream> {
        if self.sends_request {
            stream.write_all(&SSL_REQUEST).await?;
            stream.flush().await?;
            match stream.read_u8().await? {
                b'S' => {}
                b'N' if !self.is_required => return Ok(HostStream { stream, end_point: None }),
                b'N' => {
                    let text = "the server speaks no TLS: expected it, as sslmode or channel_binding is require";
                    return Err(io::Error::other(text));
                }
                other => {
                    let text = format!("answer {other:#04x} to the request for TLS: expected 'S' or 'N'");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
        }
        *self.connected.0.lock() = Some(stream);
        let stream = self.dialer.dial().await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let end_point = certificate.and_then(|certificate| end_point(certificate));
        Ok(HostStream { stream: Box::new(stream), end_point })
    }

    /// Takes the warning that the files of the settings are not usable any more.
    pub(super) fn take_warning(&mut self) -> Option<crate::Error> {
        self.dialer.take_warning()
    }
}

/// The dialer under that of TLS: it connects nowhere, and returns a stream that is connected already.
#[derive(Clone, Default)]
struct Connected(Arc<Mutex<Option<BoxedStream>>>);

impl Dial for Connected {
    type Stream = BoxedStream;

    async fn dial(&mut self) -> io::Result<BoxedStream> {
        self.0.lock().take().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}
