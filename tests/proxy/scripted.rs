//! A proxy that plays a script: what it expects, and what it answers.

use std::net::SocketAddr;

use perconn::{Builder, Conn, Dial, Error, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Server, in_time, quick};

/// The request of a tunnel to `db.example:5432`, in SOCKS5.
pub const SOCKS_REQUEST: &[u8] = b"\x05\x01\x00\x03\x0adb.example\x15\x38";
/// The same in HTTP.
pub const HTTP_REQUEST: &[u8] = b"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n";

/// Accepts one connection and plays the script on it: expects bytes, then answers.
pub async fn play(server: &Server, script: &[(&[u8], &[u8])]) -> TcpStream {
    let mut stream = in_time("a connection to the proxy", server.accept()).await;
    for (expected, answer) in script {
        let mut received = vec![0; expected.len()];
        in_time("a message to the proxy", stream.read_exact(&mut received)).await.unwrap();
        assert_eq!(received.escape_ascii().to_string(), expected.escape_ascii().to_string());
        stream.write_all(answer).await.unwrap();
    }
    stream
}

/// A connection to `db.example:5432` through this proxy.
pub fn through(proxy: Proxy) -> Builder<perconn::ProxyDialer> {
    quick(Conn::builder("db.example:5432")).proxy(proxy)
}

/// The failure of the first dial, when the proxy plays this script and closes or stays silent.
pub async fn failure_of(
    proxy: impl FnOnce(SocketAddr) -> Proxy,
    script: &[(&[u8], &[u8])],
    closes: bool,
) -> (String, std::io::ErrorKind) {
    let server = Server::start().await;
    let address = server.address;
    let builder = through(proxy(address));
    let playing = async {
        let stream = play(&server, script).await;
        // Kept open, so that only what it has answered can end the dial.
        if closes { None } else { Some(stream) }
    };
    let (outcome, _open) = tokio::join!(failure(builder), playing);
    let (text, kind) = outcome;
    let prefix = format!("dial 1 to db.example:5432 failed: proxy {address}: ");
    let rest = text.strip_prefix(&prefix).unwrap_or_else(|| panic!("{text:?} does not begin with {prefix:?}"));
    (rest.to_owned(), kind)
}

/// The text and the kind of the failure of a first dial.
pub async fn failure(builder: Builder<impl Dial>) -> (String, std::io::ErrorKind) {
    match in_time("connect", builder.connect()).await {
        Err(error @ Error::DialFailure { .. }) => (error.with_causes().to_string(), error.kind()),
        Err(other) => panic!("expected DialFailure: {other:?}"),
        Ok(_) => panic!("expected a failure, but the dial has succeeded"),
    }
}
