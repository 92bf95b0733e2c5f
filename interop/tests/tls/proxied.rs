//! Clients behind HAProxy, which sends PROXY headers of both versions, with and without TLS.

use std::process::Command;

use perconn::acceptor::{AcceptorBuilder, Event, Peer, Stream};
use perconn::proxy_protocol::Header;
use perconn::tokio_rustls::rustls::pki_types::ServerName;
use perconn::{Conn, Tls};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::authority::{Authority, exchange};
use crate::common::{echo, exchange as exchange_plain, local, recorder};
use crate::real_server::{RealServer, program};
use crate::support::{in_time, quick, wait_for_generation};

/// What the handler sees of a client: its peer, the address that it has connected to, and the host that it has asked for.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    peer: Peer,
    destination: u16,
    host: Option<String>,
}

/// A server that tells what it sees, and trusts this machine.
fn proxied() -> (AcceptorBuilder, mpsc::UnboundedReceiver<Seen>) {
    let (sender, seen) = mpsc::unbounded_channel();
    let builder = local().proxy_protocol(["127.0.0.1"]).handler(move |stream: Stream, peer| {
        let header = stream.proxy_header().unwrap();
        // A health check has no client.
        if header.client().is_some() {
            let destination = header.destination().unwrap().port();
            let host = header.tlv(0x02).map(|host| String::from_utf8(host).unwrap());
            sender.send(Seen { peer, destination, host }).unwrap();
        }
        echo(stream, peer)
    });
    (builder, seen)
}

/// Starts HAProxy with one listener, whose server is at `backend`.
fn haproxy(listen: &str, backend: &str) -> Option<RealServer> {
    let program = program("tls: proxied", "haproxy", &["/usr/sbin"])?;
    Some(RealServer::start("haproxy", |folder, port| {
        let file = folder.join("haproxy.cfg");
        let config = format!(
            "defaults\n mode tcp\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n\
             listen front\n bind 127.0.0.1:{port} {listen}\n server back {backend}\n"
        );
        std::fs::write(&file, config).unwrap();
        move || {
            let mut command = Command::new(&program);
            command.args(["-db", "-f"]).arg(&file);
            command
        }
    }))
}

/// A client of HAProxy, and what is to be seen of it.
async fn client(proxy: &RealServer, host: Option<&str>) -> (TcpStream, Seen) {
    let stream = in_time("connect", TcpStream::connect(proxy.address)).await.unwrap();
    let peer = Peer::Tcp(stream.local_addr().unwrap());
    (stream, Seen { peer, destination: proxy.address.port(), host: host.map(Into::into) })
}

/// The next client with this peer. (The start of HAProxy is awaited by a connection, which it passes on.)
async fn next(seen: &mut mpsc::UnboundedReceiver<Seen>, peer: Peer) -> Seen {
    loop {
        let next = in_time("the handler", seen.recv()).await.unwrap();
        if next.peer == peer {
            return next;
        }
    }
}

#[tokio::test]
async fn both_versions_without_tls() {
    for version in ["send-proxy", "send-proxy-v2"] {
        let (builder, mut seen) = proxied();
        let acceptor = builder.build().unwrap();
        let Some(proxy) = haproxy("", &format!("{} {version}", acceptor.local_addr().unwrap())) else { return };
        for _ in 0..3 {
            let (mut stream, expected) = client(&proxy, None).await;
            exchange_plain(&mut stream).await.unwrap();
            assert_eq!(next(&mut seen, expected.peer).await, expected);
        }
    }
}

/// The header comes before the TLS handshake, which the proxy passes through.
#[tokio::test]
async fn tls_session_after_the_header() {
    let authority = Authority::new();
    for version in ["send-proxy", "send-proxy-v2"] {
        let (builder, mut seen) = proxied();
        let acceptor = builder.tls(authority.server()).build().unwrap();
        let Some(proxy) = haproxy("", &format!("{} {version}", acceptor.local_addr().unwrap())) else { return };
        let (stream, expected) = client(&proxy, None).await;
        let name = ServerName::try_from("localhost").unwrap();
        let mut session = in_time("a handshake", authority.connector().connect(name, stream)).await.unwrap();
        exchange(&mut session).await;
        assert_eq!(next(&mut seen, expected.peer).await, expected);
    }
}

/// The proxy ends the TLS session, and says which host the client has asked for.
#[tokio::test]
async fn tls_session_of_the_proxy() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue();
    let both = authority.file("both.pem", &format!("{certificate}{key}"));
    let (builder, mut seen) = proxied();
    let acceptor = builder.build().unwrap();
    let backend =
        format!("{} send-proxy-v2 proxy-v2-options ssl,cert-cn,authority,crc32c", acceptor.local_addr().unwrap());
    let Some(proxy) = haproxy(&format!("ssl crt {}", both.display()), &backend) else { return };
    let (stream, expected) = client(&proxy, Some("localhost")).await;
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = in_time("a handshake", authority.connector().connect(name, stream)).await.unwrap();
    exchange(&mut session).await;
    assert_eq!(next(&mut seen, expected.peer).await, expected);
}

/// A health check is a connection of the proxy itself.
#[tokio::test]
async fn health_check_is_a_connection_of_the_proxy() {
    let (hook, mut events) = recorder();
    let (builder, mut seen) = proxied();
    let acceptor = builder.on_event(hook).build().unwrap();
    let backend = format!("{} send-proxy-v2 check inter 50ms check-send-proxy", acceptor.local_addr().unwrap());
    let Some(proxy) = haproxy("", &backend) else { return };
    // Whether its check has succeeded is in HAProxy's own hands: a client is served all the same.
    let (mut stream, expected) = client(&proxy, None).await;
    exchange_plain(&mut stream).await.unwrap();
    assert_eq!(next(&mut seen, expected.peer).await, expected);
    let mut checks = 0;
    while checks < 3 {
        match in_time("an event", events.recv()).await.unwrap() {
            Event::Accepted { peer, .. } if peer != expected.peer => checks += 1,
            Event::HandshakeFailed { cause, .. } => panic!("{cause}"),
            _ => {}
        }
    }
}

/// An echo over any stream.
async fn echo_of(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    stream.write_all(b"ping").await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = [0; 4];
    in_time("an echo", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"ping");
}

/// A connection announces its client to HAProxy, which passes it on. In TLS, the header comes before the handshake.
#[tokio::test]
async fn header_of_a_connection_is_understood() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue();
    let both = authority.file("both.pem", &format!("{certificate}{key}"));
    let (builder, mut seen) = proxied();
    let acceptor = builder.build().unwrap();
    let backend = format!("{} send-proxy-v2", acceptor.local_addr().unwrap());
    let [client, front] = ["192.0.2.10:5555", "192.0.2.20:443"].map(|address| address.parse().unwrap());
    for header in [Header::v1(client, front), Header::v2(client, front).tlv(0x05, "an identifier")] {
        let Some(proxy) = haproxy("accept-proxy", &backend) else { return };
        let expected = Peer::Tcp(client);
        let sent = header.clone();
        let builder = quick(Conn::builder(proxy.address)).and_then(move |stream| sent.send(stream));
        let mut conn = in_time("connect", builder.connect()).await.unwrap();
        for generation in 1..=3 {
            wait_for_generation(&conn, generation).await;
            echo_of(&mut conn).await;
            assert_eq!(next(&mut seen, expected).await, Seen { peer: expected, destination: front.port(), host: None });
            conn.abandon();
        }
        let Some(proxy) = haproxy(&format!("accept-proxy ssl crt {}", both.display()), &backend) else { return };
        let builder = quick(Conn::builder(("localhost", proxy.address.port())));
        let builder = builder.and_then(move |stream: TcpStream| header.send(stream));
        let mut conn =
            in_time("connect", builder.tls(Tls::new().roots_pem(authority.certificate.as_str())).unwrap().connect())
                .await
                .unwrap();
        echo_of(&mut conn).await;
        assert_eq!(next(&mut seen, expected).await, Seen { peer: expected, destination: front.port(), host: None });
    }
}
