//! TLS as PostgreSQL has it: asked for in the clear, and then spoken.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, SslNegotiation};

use super::Error;
use crate::dial::{BoxedDialer, BoxedStream};
use crate::sync::Mutex;
use crate::{Dial, Tls, TlsDialer, dial_fn};

/// The SSLRequest: its length, and 1234 and 5679 in place of a version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Makes TLS sessions on streams that are there already.
pub(super) struct TlsUpgrade {
    /// What the dialer below finds.
    stream: Arc<Mutex<Option<BoxedStream>>>,
    dialer: BoxedDialer,
    is_asked_for: bool,
    is_required: bool,
}

impl TlsUpgrade {
    /// `None` if there is to be no TLS. `name`: whose certificate it must be, unless the settings say otherwise.
    pub(super) fn new(tls: &Tls, config: &Config, name: &str) -> Result<Option<Self>, Error> {
        let is_required = match config.get_ssl_mode() {
            SslMode::Disable => return Ok(None),
            SslMode::Prefer => false,
            _ => true,
        };
        let is_direct = config.get_ssl_negotiation() == SslNegotiation::Direct;
        let mut tls = tls.clone();
        if is_direct {
            tls = tls.alpn(["postgresql"]);
        }
        let stream: Arc<Mutex<Option<BoxedStream>>> = Arc::default();
        let given = || {
            let stream = Arc::clone(&stream);
            dial_fn(move || {
                let stream = stream.lock().take();
                std::future::ready(stream.ok_or_else(|| io::ErrorKind::NotConnected.into()))
            })
        };
        // The settings' own name goes first, and only they know whether there is one.
        let name = name.split_once('%').map_or(name, |(name, _)| name);
        let name = name.trim_matches(['[', ']']).trim_end_matches('.');
        let dialer = TlsDialer::new(given(), tls.clone())
            .or_else(|_| TlsDialer::new(given(), tls.server_name(name)))
            .map_err(Error::from_core)?;
        Ok(Some(Self { stream, dialer: BoxedDialer::new(dialer), is_asked_for: !is_direct, is_required }))
    }

    pub(super) async fn upgrade(&mut self, mut stream: BoxedStream) -> io::Result<BoxedStream> {
        if self.is_asked_for {
            stream.write_all(&SSL_REQUEST).await?;
            stream.flush().await?;
            match stream.read_u8().await? {
                b'S' => {}
                b'N' if !self.is_required => return Ok(stream),
                b'N' => return Err(io::Error::other("the server speaks no TLS, and sslmode is require")),
                other => {
                    let text = format!("answer {other:#04x} to the request for TLS: expected 'S' or 'N'");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
        }
        *self.stream.lock() = Some(stream);
        self.dialer.dial().await
    }
}
