//! Clients behind a proxy that sends the PROXY protocol.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perconn::acceptor::{
    Acceptor, AcceptorBuilder, Event, LineConn, Overflow, Peer, ProxyHeader, RejectReason, Stream,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

use crate::common::{LONG, client, echo, event, exchange, figures, local, recorder, rest, served};
use crate::support::in_time;

/// A header of version 1.
const TEXT: &[u8] = b"PROXY TCP4 192.0.2.10 192.0.2.20 5555 443\r\n";

/// A header of version 2: `command` is 0x21, or 0x20 for LOCAL.
fn binary(command: u8, family: u8, addresses: &[u8], tlvs: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(addresses.len() + tlvs.len()).unwrap().to_be_bytes());
    header.extend_from_slice(addresses);
    header.extend_from_slice(tlvs);
    header
}

/// What the handler gets: the peer and the header.
type Seen = (Peer, Option<ProxyHeader>);

/// A server that trusts this machine and tells what it sees.
fn proxied() -> (AcceptorBuilder, mpsc::UnboundedReceiver<Seen>) {
    let (sender, seen) = mpsc::unbounded_channel();
    let builder = local().proxy_protocol(["127.0.0.0/8"]).handler(move |stream: Stream, peer| {
        sender.send((peer, stream.proxy_header().cloned())).unwrap();
        echo(stream, peer)
    });
    (builder, seen)
}

/// What was seen of a client that sends a header and then is served.
async fn seen_after(header: &[u8]) -> (ProxyHeader, Peer, SocketAddr) {
    let (builder, mut seen) = proxied();
    let acceptor = builder.build().unwrap();
    let mut stream = client(&acceptor).await;
    let proxy = stream.local_addr().unwrap();
    // The first bytes of the client come in the same segment.
    stream.write_all(&[header, b"first"].concat()).await.unwrap();
    let mut answer = [0; 5];
    in_time("the echo", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"first");
    exchange(&mut stream).await.unwrap();
    let (peer, header) = in_time("the handler", seen.recv()).await.unwrap();
    let header = header.expect("a header was sent");
    assert_eq!(header.proxy(), Peer::Tcp(proxy));
    (header, peer, proxy)
}

/// The address of the client in these tests.
fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn handler_gets_the_client_and_not_the_proxy() {
    let v4 = binary(0x21, 0x11, &[192, 0, 2, 10, 192, 0, 2, 20, 0x15, 0xb3, 0x01, 0xbb], &[]);
    for header in [TEXT, &v4] {
        let (header, peer, _) = seen_after(header).await;
        assert_eq!(peer, Peer::Tcp(address("192.0.2.10:5555")));
        assert_eq!(header.client(), peer.addr());
        assert_eq!(header.destination(), Some(address("192.0.2.20:443")));
        assert_eq!(header.tlv(0x02), None);
    }
}

#[tokio::test]
async fn ipv6_and_further_values() {
    let mut addresses = [0; 36];
    addresses[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    addresses[15] = 1;
    addresses[16..20].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    addresses[31] = 2;
    addresses[32..].copy_from_slice(&[0x15, 0xb3, 0x01, 0xbb]);
    // A host name, and a value of a load balancer.
    let tlvs = [&b"\x02\0\x0bexample.com"[..], b"\xea\0\x03\x01vp"].concat();
    let (header, peer, _) = seen_after(&binary(0x21, 0x21, &addresses, &tlvs)).await;
    assert_eq!(peer, Peer::Tcp(address("[2001:db8::1]:5555")));
    assert_eq!(header.destination(), Some(address("[2001:db8::2]:443")));
    assert_eq!(header.tlv(0x02).as_deref(), Some(&b"example.com"[..]));
    assert_eq!(header.tlv(0xea).as_deref(), Some(&b"\x01vp"[..]));
    assert_eq!(header.tlv(0x01), None);
    let text = b"PROXY TCP6 2001:db8::1 2001:db8::2 5555 443\r\n";
    assert_eq!(seen_after(text).await.1, peer);
}

#[tokio::test]
async fn proxy_that_speaks_for_itself_is_the_peer() {
    let unix = binary(0x21, 0x31, &[7; 216], &[]);
    let local = binary(0x20, 0x11, &[192, 0, 2, 10, 192, 0, 2, 20, 0x15, 0xb3, 0x01, 0xbb], &[]);
    for header in
        [b"PROXY UNKNOWN\r\n", &b"PROXY UNKNOWN anything at all\r\n"[..], &binary(0x20, 0, &[], &[]), &local, &unix]
    {
        let (header, peer, proxy) = seen_after(header).await;
        assert_eq!((header.client(), header.destination()), (None, None));
        assert_eq!(peer, Peer::Tcp(proxy));
    }
}

#[tokio::test]
async fn header_may_come_byte_by_byte() {
    let (builder, mut seen) = proxied();
    let acceptor = builder.build().unwrap();
    for header in [TEXT, &binary(0x21, 0x11, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], &[])] {
        let mut stream = client(&acceptor).await;
        stream.set_nodelay(true).unwrap();
        for byte in header {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        exchange(&mut stream).await.unwrap();
        assert!(in_time("the handler", seen.recv()).await.unwrap().1.is_some());
    }
}

/// Who is not trusted is served under its own address, and what it sends is data.
#[tokio::test]
async fn header_of_a_stranger_is_data() {
    let (sender, mut seen) = mpsc::unbounded_channel();
    let acceptor = local()
        .proxy_protocol(["127.0.0.9"])
        .handler(move |stream: Stream, peer| {
            sender.send((peer, stream.proxy_header().cloned())).unwrap();
            echo(stream, peer)
        })
        .build()
        .unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(TEXT).await.unwrap();
    let mut answer = vec![0; TEXT.len()];
    in_time("the echo", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, TEXT);
    let own = Peer::Tcp(stream.local_addr().unwrap());
    assert_eq!(in_time("the handler", seen.recv()).await.unwrap(), (own, None));
    // It need not send anything.
    let mut silent = client(&acceptor).await;
    in_time("the handler", seen.recv()).await.unwrap();
    exchange(&mut silent).await.unwrap();
}

/// What the event of a proxy says that sends these bytes, and then nothing or the end of its stream.
async fn failure(bytes: &[u8], closes: bool) -> io::Error {
    let (hook, mut events) = recorder();
    let (builder, mut seen) = proxied();
    let acceptor = builder.handshake_timeout(Duration::from_millis(200)).on_event(hook).build().unwrap();
    let mut stream = client(&acceptor).await;
    let proxy = Peer::Tcp(stream.local_addr().unwrap());
    stream.write_all(bytes).await.unwrap();
    if closes {
        stream.shutdown().await.unwrap();
    }
    let cause = event(&mut events, |event| match event {
        Event::HandshakeFailed { peer, cause, .. } => {
            assert_eq!(*peer, proxy);
            Some(io::Error::new(cause.kind(), cause.to_string()))
        }
        _ => None,
    });
    let cause = cause.await;
    if let Ok(text) = rest(&mut stream).await {
        assert_eq!(text, "");
    }
    let stats = acceptor.stats();
    assert_eq!((stats.handshakes_failed, stats.accepted), (1, 0));
    drop(acceptor);
    assert!(seen.recv().await.is_none(), "the handler was called");
    cause
}

#[tokio::test]
async fn trusted_peer_has_to_send_a_header() {
    use io::ErrorKind::{InvalidData, TimedOut, UnexpectedEof};
    let cases = [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], false, InvalidData, "received \"GET / HTTP/1\": expected a PROXY header"),
        (b"PROXY TCP4 192.0.2.10 192.0.2.20 5555\r\n", false, InvalidData, "expected one of version 1 or 2"),
        (b"PROXY TCP4 example.com 192.0.2.20 1 2\r\n", false, InvalidData, "example.com"),
        (b"PROXY TCP4 192.0.2.10 192.0.2.20 65536 2\r\n", false, InvalidData, "expected one of version 1 or 2"),
        (&binary(0x31, 0x11, &[7; 12], &[]), false, InvalidData, "expected one of version 1 or 2"),
        (&binary(0x21, 0x11, &[7; 11], &[]), false, InvalidData, "expected one of version 1 or 2"),
        (b"", true, UnexpectedEof, "closed before the end of its PROXY header"),
        (&TEXT[..20], true, UnexpectedEof, "closed before the end of its PROXY header"),
        (b"", false, TimedOut, "no PROXY header within 200ms"),
        (&TEXT[..TEXT.len() - 1], false, TimedOut, "no PROXY header within 200ms"),
    ];
    for (bytes, closes, kind, expected) in cases {
        let error = failure(bytes, closes).await;
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// An address has one form, whichever socket or header it comes by.
#[tokio::test]
async fn mapped_address_is_an_ipv4_address() {
    let (_, peer, _) = seen_after(b"PROXY TCP6 ::ffff:192.0.2.66 ::ffff:192.0.2.1 5555 443\r\n").await;
    assert_eq!(peer, Peer::Tcp(address("192.0.2.66:5555")));
    let (sender, mut asked) = mpsc::unbounded_channel();
    let accept_if = move |peer: &Peer| sender.send(*peer).is_ok();
    // Without IPv6 on the machine there is nothing to see, and on Windows there is not either: a listener of IPv6 is for IPv6 alone.
    if cfg!(windows) {
        return;
    }
    let builder = Acceptor::builder("[::]:0").logger(|_| {}).accept_if(accept_if);
    let Ok(acceptor) = builder.proxy_protocol(["::ffff:10.0.0.0/104"]).handler(echo).build() else { return };
    let port = acceptor.local_addr().unwrap().port();
    let mut stream = in_time("connect", TcpStream::connect(("127.0.0.1", port))).await.unwrap();
    exchange(&mut stream).await.unwrap();
    assert_eq!(in_time("the filter", asked.recv()).await.unwrap(), Peer::Tcp(stream.local_addr().unwrap()));
}

/// A proxy that is silent takes no slot, and the clients behind it have their own limits.
#[tokio::test]
async fn admission_is_that_of_the_client() {
    let (hook, mut events) = recorder();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let (builder, _seen) = proxied();
    let acceptor = builder
        .acceptors(2)
        .max_per_peer(1)
        .accept_if(move |peer| {
            log.lock().unwrap().push(*peer);
            peer.addr().is_none_or(|address| !address.ip().to_string().ends_with(".66"))
        })
        .on_event(hook)
        .build()
        .unwrap();
    let behind = async |header: &[u8]| {
        let mut stream = client(&acceptor).await;
        stream.write_all(header).await.unwrap();
        stream
    };
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(client(&acceptor).await);
    }
    let mut first = behind(b"PROXY TCP4 192.0.2.1 192.0.2.9 1 2\r\n").await;
    exchange(&mut first).await.unwrap();
    let mut second = behind(b"PROXY TCP4 192.0.2.2 192.0.2.9 1 2\r\n").await;
    exchange(&mut second).await.unwrap();
    for (header, expected) in [
        (&b"PROXY TCP4 192.0.2.1 192.0.2.9 3 2\r\n"[..], RejectReason::MaxPerPeer),
        (b"PROXY TCP4 192.0.2.66 192.0.2.9 1 2\r\n", RejectReason::Filter),
    ] {
        let mut rejected = behind(header).await;
        assert!(rest(&mut rejected).await.is_ok_and(|text| text.is_empty()));
        let reason = event(&mut events, |event| match event {
            Event::Rejected { peer, reason, .. } => Some((peer.addr().unwrap().ip().to_string(), *reason)),
            _ => None,
        });
        let (ip, reason) = reason.await;
        assert!(reason == expected && header.windows(ip.len()).any(|part| part == ip.as_bytes()), "{ip} {reason}");
    }
    assert!(asked.lock().unwrap().iter().all(|peer| peer.addr().unwrap().ip().to_string().starts_with("192.0.2.")));
    let stats = acceptor.stats();
    assert_eq!((stats.busy, stats.handshaking, stats.rejected), (2, 5, 2));
}

#[tokio::test]
async fn client_behind_a_proxy_is_refused_or_waits_as_any_other() {
    for overflow in [Overflow::Refuse, Overflow::Wait] {
        let (hook, mut events) = recorder();
        let (builder, _seen) = proxied();
        let acceptor = builder.acceptors(1).overflow(overflow).refusal("no room").on_event(hook).build().unwrap();
        let mut first = client(&acceptor).await;
        first.write_all(TEXT).await.unwrap();
        exchange(&mut first).await.unwrap();
        let mut second = client(&acceptor).await;
        second.write_all(TEXT).await.unwrap();
        match overflow {
            Overflow::Refuse => {
                assert_eq!(rest(&mut second).await.unwrap(), "no room");
                let peer = event(&mut events, |event| match event {
                    Event::Refused { peer, .. } => Some(*peer),
                    _ => None,
                });
                assert_eq!(peer.await, Peer::Tcp(address("192.0.2.10:5555")));
            }
            _ => {
                second.write_all(b"ping").await.unwrap();
                drop(first);
                let mut answer = [0; 4];
                in_time("the echo", second.read_exact(&mut answer)).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn stop_closes_a_connection_without_a_header() {
    let (builder, _seen) = proxied();
    let acceptor = builder.build().unwrap();
    let mut silent = client(&acceptor).await;
    figures(&acceptor, "it is pending", |stats| stats.handshaking == 1).await;
    let stopped = in_time("the stop", acceptor.stop(LONG)).await;
    assert_eq!((stopped.idle, stopped.finished, stopped.cut), (0, 0, 0));
    assert_eq!(rest(&mut silent).await.unwrap(), "");
}

#[tokio::test]
async fn lines_have_the_header_as_well() {
    let acceptor = local()
        .proxy_protocol(["127.0.0.0/8"])
        .line_handler(async |_, conn: LineConn| {
            let header = conn.proxy_header().unwrap();
            conn.send(format!("{} for {}", conn.peer(), header.destination().unwrap())).await
        })
        .build()
        .unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(&[TEXT, b"who am I\n"].concat()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), "192.0.2.10:5555 for 192.0.2.20:443\n");
}

#[tokio::test]
async fn one_address_of_many_is_trusted() {
    let (sender, mut seen) = mpsc::unbounded_channel();
    let acceptor = local()
        .proxy_protocol(["127.0.0.1", "10.0.0.0/8"])
        .handler(move |stream: Stream, peer| {
            sender.send(stream.proxy_header().is_some()).unwrap();
            echo(stream, peer)
        })
        .build()
        .unwrap();
    let mut proxy = client(&acceptor).await;
    proxy.write_all(TEXT).await.unwrap();
    exchange(&mut proxy).await.unwrap();
    assert!(in_time("the handler", seen.recv()).await.unwrap());
    if cfg!(target_os = "linux") {
        // All of 127.0.0.0/8 is this machine there.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(address("127.0.0.2:0")).unwrap();
        let mut other: TcpStream = in_time("connect", socket.connect(acceptor.local_addr().unwrap())).await.unwrap();
        exchange(&mut other).await.unwrap();
        assert!(!in_time("the handler", seen.recv()).await.unwrap());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn proxy_on_a_unix_socket() {
    use perconn::acceptor::Listen;

    let path = std::env::temp_dir().join(format!("perconn-{}-proxied", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let (sender, mut seen) = mpsc::unbounded_channel();
    let acceptor = Acceptor::builder(Listen::unix(&path))
        .proxy_protocol(["unix"])
        .handler(move |stream: Stream, peer| {
            sender.send(peer).unwrap();
            echo(stream, peer)
        })
        .build()
        .unwrap();
    let mut stream = in_time("connect", tokio::net::UnixStream::connect(&path)).await.unwrap();
    stream.write_all(&[TEXT, b"ping"].concat()).await.unwrap();
    let mut answer = [0; 4];
    in_time("the echo", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(in_time("the handler", seen.recv()).await.unwrap(), Peer::Tcp(address("192.0.2.10:5555")));
    drop((acceptor, stream));
    let _ = std::fs::remove_file(&path);
}

/// Without the setting, nothing is read before the handler.
#[tokio::test]
async fn header_is_data_unless_it_is_set() {
    let acceptor = local().handler(echo).build().unwrap();
    let mut stream = served(&acceptor).await;
    stream.write_all(TEXT).await.unwrap();
    let mut answer = vec![0; TEXT.len()];
    in_time("the echo", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, TEXT);
}
