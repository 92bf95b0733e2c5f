//! What a connection of lines knows of its TLS session: copies, as other tasks own the session.
//!
//! Next: [`super::LineConn`], whose methods return it.

use tokio_rustls::rustls::pki_types::CertificateDer;

use super::{LineConn, Stream};

/// Taken after the handshake.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// The agreed protocol.
    alpn: Option<Vec<u8>>,
    /// The client's chain, its own certificate first.
    certificates: Option<Vec<CertificateDer<'static>>>,
}

impl Session {
    /// Of this stream. Everything is `None` without TLS.
    pub(super) fn of(stream: &Stream) -> Self {
        let Some(session) = stream.tls() else { return Self::default() };
        let certificates =
            session.peer_certificates().map(|chain| chain.iter().map(|der| der.clone().into_owned()).collect());
        Self { alpn: session.alpn_protocol().map(<[u8]>::to_vec), certificates }
    }
}

impl LineConn {
    /// Returns the protocol that client and server have agreed on ([`ServerTls::alpn`](crate::acceptor::ServerTls::alpn)).
    /// `None` if there is none, or no TLS.
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        self.shared.session.alpn.as_deref()
    }

    /// Returns the certificates of the client, its own first; they have been verified against the
    /// [`client_roots_file`](crate::acceptor::ServerTls::client_roots_file). `None` if it sent none, or without TLS.
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.shared.session.certificates.as_deref()
    }
}
