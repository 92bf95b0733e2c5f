//! Connections that announce the client they speak for, and the acceptor that hears it.

use std::net::SocketAddr;

use perconn::acceptor::{Peer, ProxyHeader, Stream};
use perconn::proxy_protocol::Header;
use perconn::{Conn, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::common::{echo, local};
use crate::support::{in_time, quick, wait_for_generation};

#[tokio::test]
async fn acceptor_sees_the_announced_client_on_every_link() {
    let (sender, mut seen) = mpsc::unbounded_channel::<(Peer, ProxyHeader)>();
    let server = local().proxy_protocol(["127.0.0.1"]).handler(move |stream: Stream, peer| {
        sender.send((peer, stream.proxy_header().unwrap().clone())).unwrap();
        echo(stream, peer)
    });
    let server = server.build().unwrap();
    let address = server.local_addr().unwrap();
    let [v4, front4, v6, front6] = ["192.0.2.10:5555", "192.0.2.20:443", "[2001:db8::1]:5555", "[2001:db8::2]:443"]
        .map(|address| address.parse::<SocketAddr>().unwrap());
    for (header, client, front, host) in [
        (Header::v1(v4, front4), Some(v4), Some(front4), None),
        (Header::v2(v4, front4), Some(v4), Some(front4), None),
        (Header::v1(v6, front6), Some(v6), Some(front6), None),
        (Header::v2(v6, front6).tlv(0x02, "front.example"), Some(v6), Some(front6), Some("front.example")),
        (Header::v1(v4, front6), Some(v4), Some(front6), None),
        (Header::v2(v6, front4), Some(v6), Some(front4), None),
        (Header::local(), None, None, None),
    ] {
        let builder = quick(Conn::builder(address)).and_then(move |stream| header.send(stream));
        let mut conn = in_time("connect", builder.connect()).await.unwrap();
        for generation in 1..=3 {
            wait_for_generation(&conn, generation).await;
            conn.write_all(b"first").await.unwrap();
            let mut answer = [0; 5];
            in_time("the echo", conn.read_exact(&mut answer)).await.unwrap();
            assert_eq!(&answer, b"first");
            let (peer, header) = in_time("the handler", seen.recv()).await.unwrap();
            let expected = client.unwrap_or_else(|| conn.local_addr().unwrap());
            assert_eq!(peer.addr(), Some(expected));
            let canonical = |address: Option<SocketAddr>| address.map(|a| (a.ip().to_canonical(), a.port()));
            assert_eq!(canonical(header.client()), canonical(client));
            assert_eq!(canonical(header.destination()), canonical(front));
            assert_eq!(header.tlv(0x02), host.map(Into::into));
            conn.abandon();
        }
    }
}

#[tokio::test]
async fn header_that_cannot_be_sent_fails_the_dial() {
    let server = local().proxy_protocol(["127.0.0.1"]).handler(echo).build().unwrap();
    let client = "192.0.2.10:5555".parse().unwrap();
    let header = Header::v1(client, client).tlv(0x05, "id");
    let builder = quick(Conn::builder(server.local_addr().unwrap())).and_then(move |stream| header.send(stream));
    let error = in_time("connect", builder.connect()).await.unwrap_err();
    assert!(matches!(&error, Error::DialFailure { source, .. } if source.kind() == std::io::ErrorKind::InvalidInput));
}
