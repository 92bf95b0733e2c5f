//! The PROXY protocol: a proxy's header tells who the client is, before its first byte.
//!
//! Versions 1 (a line of text) and 2 (binary) of HAProxy's specification,
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>. A header is read up to its last byte and no further, as a TLS
//! handshake may follow. It is only read from peers that the program trusts, and they have to send one: the specification forbids
//! to guess.
//!
//! Next: [`extent`], which knows how long a header is, and [`trusted`], which knows the proxies.

use std::io;
use std::net::SocketAddr;

use proxy_header::ParseConfig;
use tokio::io::{AsyncRead, AsyncReadExt};

pub(super) use self::trusted::TrustedProxies;
use super::{Peer, Stream};

mod extent;
mod trusted;

/// What a proxy says of a connection; by [`Stream::proxy_header`](super::Stream::proxy_header) and
/// [`LineConn::proxy_header`](super::LineConn::proxy_header).
///
/// ```
/// use perconn::acceptor::{Acceptor, ProxyHeader, Stream};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), perconn::acceptor::Error> {
/// /// The server name that the client has asked for (SNI), if the proxy has ended its TLS session.
/// fn host(header: &ProxyHeader) -> Option<String> {
///     String::from_utf8(header.tlv(0x02)?).ok()
/// }
///
/// let acceptor = Acceptor::builder("127.0.0.1:0")
///     .proxy_protocol(["10.0.0.0/8"])
///     .handler(async |stream: Stream, peer| {
///         println!("{peer} asks for {:?}", stream.proxy_header().and_then(host));
///         Ok(())
///     })
///     .build()?;
/// # drop(acceptor);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The other end of the socket.
    proxy: Peer,
    /// As it was sent, but for the addresses of Unix sockets.
    header: proxy_header::ProxyHeader<'static>,
}

impl ProxyHeader {
    /// The proxy: the other end of the socket.
    pub fn proxy(&self) -> Peer {
        self.proxy
    }

    /// The client's address. `None` if the proxy speaks for itself, as in a health check (`LOCAL`), or if it does not know the
    /// address (`UNKNOWN`, or a client on a Unix socket).
    pub fn client(&self) -> Option<SocketAddr> {
        self.header.proxied_address().map(|addresses| addresses.source)
    }

    /// The address that the client has connected to. `None` if there is no [`client`](Self::client).
    pub fn destination(&self) -> Option<SocketAddr> {
        self.header.proxied_address().map(|addresses| addresses.destination)
    }

    /// The value of the first TLV of this kind (version 2 only). The acceptor neither needs nor checks any.
    ///
    /// | kind | value |
    /// |---|---|
    /// | `0x01` | the protocol that client and proxy have agreed on (ALPN) |
    /// | `0x02` | the host name that the client has asked for (SNI) |
    /// | `0x05` | an identifier of the connection |
    /// | `0x20` | the client's TLS session, as a structure of the specification |
    /// | `0xEA`, `0xEE`, `0xE0` | of Amazon's, Microsoft's and Google's load balancers |
    pub fn tlv(&self, kind: u8) -> Option<Vec<u8>> {
        let tlv = self.header.tlvs().flatten().find(|tlv| tlv.kind() == kind)?;
        let mut encoded = Vec::new();
        tlv.encode(&mut encoded);
        // The kind and the length.
        Some(encoded.split_off(3))
    }

    /// Who is at the other end: the client, or else the proxy.
    pub(super) fn peer(&self) -> Peer {
        self.client().map_or(self.proxy, Peer::tcp)
    }

    /// Reads the header, and nothing after it.
    ///
    /// # Errors
    ///
    /// The kind `InvalidData` if something else arrives, and `UnexpectedEof` if the proxy closes before.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin), proxy: Peer) -> io::Result<Self> {
        let mut bytes = Vec::new();
        loop {
            let missing = extent::missing(&bytes).map_err(invalid)?;
            if missing == 0 {
                break;
            }
            let start = bytes.len();
            bytes.resize(start + missing, 0);
            stream.read_exact(&mut bytes[start..]).await.map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    io::Error::new(error.kind(), "closed before the end of its PROXY header")
                }
                _ => error,
            })?;
        }
        let malformed = || invalid(format!("PROXY header {}: expected one of version 1 or 2", extent::shown(&bytes)));
        let (header, length) =
            proxy_header::ProxyHeader::parse(&bytes, ParseConfig::default()).map_err(|_| malformed())?;
        if length != bytes.len() {
            return Err(malformed());
        }
        Ok(Self { proxy, header: header.into_owned() })
    }
}

impl Stream {
    /// What the proxy has said of the connection. `None` if it comes from no
    /// [trusted proxy](super::AcceptorBuilder::proxy_protocol).
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
    pub fn proxy_header(&self) -> Option<&ProxyHeader> {
        self.registration().admitted.proxy_header.as_deref()
    }
}

/// The error of what is no header.
fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
