//! The PROXY protocol on the dialing side: telling a server who the client is that this program speaks for.
//!
//! A server behind a proxy sees the proxy's address. With a header of HAProxy's PROXY protocol
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>), the proxy names its client before the first byte. Send one only to
//! a server that expects it: to any other it is garbage. [`AcceptorBuilder::proxy_protocol`](crate::acceptor::AcceptorBuilder::proxy_protocol)
//! is the receiving side.
//!
//! Next: [`Header`].

use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};

use proxy_header::{ProxiedAddress, ProxyHeader, Tlv};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// The header of a connection, for a session set-up by [`Builder::and_then`](crate::Builder::and_then).
///
/// It goes before everything else, so set it up before [`Builder::tls`](crate::Builder::tls) and any login. Each link gets it. A
/// connection has one client: make one [`Conn`](crate::Conn) for each client that you speak for.
///
/// ```
/// use perconn::Conn;
/// use perconn::acceptor::{Acceptor, Stream};
/// use perconn::proxy_protocol::Header;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Acceptor::builder("127.0.0.1:0").proxy_protocol(["127.0.0.1"]).handler(async |mut stream: Stream, peer| {
///     stream.write_all(format!("you are {peer}").as_bytes()).await
/// });
/// let server = server.build()?;
///
/// let (client, front) = ("192.0.2.10:5555".parse()?, "192.0.2.20:443".parse()?);
/// let header = Header::v2(client, front);
/// let builder = Conn::builder(server.local_addr().unwrap()).and_then(move |stream| header.send(stream));
/// let mut answer = String::new();
/// builder.connect().await?.read_to_string(&mut answer).await?;
/// assert_eq!(answer, "you are 192.0.2.10:5555");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it does nothing until it is sent"]
#[doc(alias("haproxy", "send-proxy", "x-forwarded-for"))]
pub struct Header {
    /// Whether it is a line of text (version 1) or binary.
    version: Version,
    /// What it says.
    header: ProxyHeader<'static>,
    /// The length of a value that does not fit into a header. Sending it fails.
    too_long: Option<usize>,
}

/// The two forms of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// A line of text.
    Text,
    /// Binary, with room for more than the addresses.
    Binary,
}

impl Header {
    /// A header of version 1, a line of text: the client's address, and the one that it has connected to.
    ///
    /// Both have to be of the same IP version in a header. If they are not, the IPv4 address is sent in its IPv6 form
    /// (`::ffff:192.0.2.10`).
    pub fn v1(source: SocketAddr, destination: SocketAddr) -> Self {
        Self::of(Version::Text, ProxyHeader::with_address(addresses(source, destination)))
    }

    /// A header of version 2, which is binary. The addresses are those of [`v1`](Self::v1).
    pub fn v2(source: SocketAddr, destination: SocketAddr) -> Self {
        Self::of(Version::Binary, ProxyHeader::with_address(addresses(source, destination)))
    }

    /// A header of version 2 for a connection of this program itself, such as a health check (`LOCAL`). The server sees the real
    /// address.
    pub fn local() -> Self {
        Self::of(Version::Binary, ProxyHeader::with_local())
    }

    /// Without more than the addresses.
    fn of(version: Version, header: ProxyHeader<'static>) -> Self {
        Self { version, header, too_long: None }
    }

    /// Adds a value of a kind, in version 2 only: `0x02` for the host name that the client has asked for, `0x05` for an
    /// identifier of the connection. [`ProxyHeader::tlv`](crate::acceptor::ProxyHeader::tlv) has a list.
    ///
    /// A header has room for 65,535 bytes; many servers read less, ours 4,096.
    pub fn tlv(mut self, kind: u8, value: impl Into<Vec<u8>>) -> Self {
        let value = value.into();
        match u16::try_from(value.len()) {
            Ok(_) => self.header.append_tlv(Tlv::Custom(kind, Cow::Owned(value))),
            Err(_) => self.too_long = Some(value.len()),
        }
        self
    }

    /// Sends the header. Returns the stream for the next step of the set-up.
    ///
    /// # Errors
    ///
    /// The stream's error. [`InvalidInput`](io::ErrorKind::InvalidInput) for values in a header of version 1, and for more of them
    /// than fit.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop, a part of the header may have been sent. The stream is dropped with the future.
    pub fn send<S>(&self, mut stream: S) -> impl Future<Output = io::Result<S>> + use<S>
    where
        S: AsyncWrite + Unpin,
    {
        let bytes = self.encode();
        async move {
            stream.write_all(&bytes?).await?;
            stream.flush().await?;
            Ok(stream)
        }
    }

    /// The bytes to send.
    fn encode(&self) -> io::Result<Vec<u8>> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, format!("PROXY header: {text}"));
        if let Some(length) = self.too_long {
            return Err(invalid(format!("value of {length} bytes: expected at most 65535")));
        }
        let mut bytes = Vec::new();
        let outcome = match self.version {
            Version::Text => self.header.encode_v1(&mut bytes),
            Version::Binary => self.header.encode_v2(&mut bytes),
        };
        outcome.map(|()| bytes).map_err(|error| invalid(error.to_string()))
    }
}

/// Both addresses in the same IP version.
fn addresses(source: SocketAddr, destination: SocketAddr) -> ProxiedAddress {
    if source.is_ipv4() == destination.is_ipv4() {
        return ProxiedAddress::stream(source, destination);
    }
    let [source, destination] = [source, destination].map(|address| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::from((ip.to_ipv6_mapped(), address.port())),
        IpAddr::V6(_) => address,
    });
    ProxiedAddress::stream(source, destination)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_the_specification() {
        let [client, front] = ["192.0.2.10:5555", "192.0.2.20:443"].map(|address| address.parse().unwrap());
        let text = Header::v1(client, front).encode().unwrap();
        assert_eq!(text.escape_ascii().to_string(), r"PROXY TCP4 192.0.2.10 192.0.2.20 5555 443\r\n");
        let mixed = Header::v1(client, "[2001:db8::1]:443".parse().unwrap()).encode().unwrap();
        assert_eq!(mixed.escape_ascii().to_string(), r"PROXY TCP6 ::ffff:192.0.2.10 2001:db8::1 5555 443\r\n");
        let binary = Header::v2(client, front).tlv(0x05, *b"id").encode().unwrap();
        let expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\xc0\0\x02\x0a\xc0\0\x02\x14\x15\xb3\x01\xbb\x05\0\x02id";
        assert_eq!(binary, expected);
        assert_eq!(Header::local().encode().unwrap(), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    }

    #[test]
    fn values_that_cannot_be_sent_are_errors() {
        let [client, front] = ["192.0.2.10:5555", "192.0.2.20:443"].map(|address| address.parse().unwrap());
        let too_many = Header::v2(client, front).tlv(1, vec![0; 40_000]).tlv(2, vec![0; 40_000]);
        for (header, expected) in [
            (Header::v1(client, front).tlv(5, "id"), "PROXY header: "),
            (Header::v2(client, front).tlv(5, vec![0; 65_536]), "value of 65536 bytes: expected at most 65535"),
            (too_many, "PROXY header: "),
        ] {
            let error = header.encode().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
