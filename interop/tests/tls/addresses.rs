//! TLS with several addresses: each server is verified by its own name.
//!
//! Next: [`client`](crate::client), the tests of one address.

use perconn::{Conn, Error, TcpDialer, Tls, TlsDialer, dial_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Authority, accept, acceptor, invalid};
use crate::support::{Server, in_time, quick};

#[tokio::test]
async fn each_of_several_servers_is_verified_by_its_own_name() {
    let (mut one, mut two, authority) = (Server::start().await, Server::start().await, Authority::new());
    let (for_name, for_ip) = (authority.issue("localhost"), authority.issue("127.0.0.1"));
    let (by_name, by_ip) = (acceptor(&for_name, None, &[]), acceptor(&for_ip, None, &[]));
    let addresses = [("localhost", one.address.port()), ("127.0.0.1", two.address.port())];
    let builder = quick(Conn::builder("brokers").addresses(addresses)).tls(authority.trusted()).unwrap();
    let (conn, peer) = tokio::join!(builder.connect(), accept(&one, &by_name));
    let (mut conn, mut peer) = (conn.unwrap(), peer.unwrap());
    for generation in 1..=6 {
        peer.write_all(b"x").await.unwrap();
        peer.flush().await.unwrap();
        assert_eq!((in_time("read", conn.read_u8()).await.unwrap(), conn.generation()), (b'x', generation));
        // The server goes away, and the other one takes over.
        peer.shutdown().await.unwrap();
        drop(peer);
        let (gone, next, acceptor) = match generation % 2 {
            1 => (&mut one, &two, &by_ip),
            _ => (&mut two, &one, &by_name),
        };
        gone.stop();
        assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
        peer = accept(next, acceptor).await.unwrap();
        gone.restart().await;
    }
}

/// A certificate of one server does not let another one pass for it.
#[tokio::test]
async fn certificate_for_another_address_of_the_list_is_refused() {
    let (server, authority) = (Server::start().await, Authority::new());
    let port = server.address.port();
    for (dialed, other) in [("localhost", "127.0.0.1"), ("127.0.0.1", "localhost")] {
        let acceptor = acceptor(&authority.issue(other), None, &[]);
        // The builder's own address is not dialed, and its name is not looked at.
        let builder = Conn::builder((other, port)).addresses([(dialed, port), (other, port)]);
        let (logged, mut failures) = tokio::sync::mpsc::unbounded_channel();
        let builder = quick(builder).logger(move |error| _ = logged.send(error.with_causes().to_string()));
        let builder = builder.tls(authority.trusted()).unwrap();
        // `connect` goes on to the address that the certificate is for.
        let (conn, (refused, accepted)) = tokio::join!(builder.connect(), async {
            (accept(&server, &acceptor).await, accept(&server, &acceptor).await)
        });
        assert!(conn.is_ok() && refused.is_err() && accepted.is_ok());
        let failure = failures.recv().await.unwrap();
        assert!(failure.contains(dialed) && failure.contains("certificate"), "{failure}");
    }
    // The name that the program has set is that of all servers.
    let acceptor = acceptor(&authority.issue("cluster.example"), None, &[]);
    let builder = Conn::builder("brokers").addresses([("localhost", port), ("127.0.0.1", port)]);
    let builder = quick(builder).tls(authority.trusted().server_name("cluster.example")).unwrap();
    let (conn, peer) = tokio::join!(builder.connect(), accept(&server, &acceptor));
    assert_eq!(peer.unwrap().get_ref().1.server_name(), Some("cluster.example"));
    conn.unwrap();
}

#[tokio::test]
async fn every_name_is_checked_when_tls_is_set() {
    let trusted = || Authority::new().trusted();
    for bad in ["two.example", "under_score..example:1", "http://two.example:1", ""] {
        let several = Conn::builder("brokers").addresses(["one.example:1", bad]);
        let text = invalid(several.tls(trusted()));
        assert!(text.contains(&format!("{bad:?}")) && text.contains("Tls::server_name"), "{text}");
        let text = invalid(TlsDialer::new(TcpDialer::with_addresses(["one.example:1", bad]), trusted()));
        assert!(text.contains(&format!("{bad:?}")), "{text}");
    }
    assert!(Conn::builder("brokers").addresses(["one.example:1", "[2001:db8::1]:1"]).tls(trusted()).is_ok());
    // Without a list, the builder's address has to have a name, and a dialer on its own has none.
    let unknown = || dial_fn(|| TcpStream::connect("127.0.0.1:1"));
    let text = invalid(Conn::builder("brokers").dialer(unknown()).tls(trusted()));
    assert!(text.contains("\"brokers\"") && text.contains("Tls::server_name"), "{text}");
    assert!(invalid(TlsDialer::new(unknown(), trusted())).contains("Tls::server_name"));
    let none: [&str; 0] = [];
    let empty = Conn::builder("broker.example:1").addresses(none).tls(trusted()).unwrap().build();
    assert!(matches!(empty, Err(Error::InvalidConfig(text)) if text.contains("addresses []")));
}

#[tokio::test]
async fn name_of_a_dialer_without_addresses_is_that_of_the_builder() {
    let (server, authority) = (Server::start().await, Authority::new());
    let address = server.address;
    let acceptor = acceptor(&authority.issue("db.example"), None, &[]);
    let dialer = dial_fn(move || TcpStream::connect(address));
    let builder = quick(Conn::builder("db.example:5432").dialer(dialer)).tls(authority.trusted()).unwrap();
    let (conn, peer) = tokio::join!(builder.connect(), accept(&server, &acceptor));
    assert_eq!(peer.unwrap().get_ref().1.server_name(), Some("db.example"));
    conn.unwrap();
}

#[tokio::test]
async fn dialer_with_addresses_needs_no_server_name() {
    let (server, authority) = (Server::start().await, Authority::new());
    let acceptor = acceptor(&authority.issue("localhost"), None, &[]);
    let tcp = TcpDialer::new(("localhost", server.address.port()));
    let dialer = TlsDialer::new(tcp, Tls::new().roots_pem(authority.certificate.as_str())).unwrap();
    let builder = quick(Conn::builder("brokers").dialer(dialer));
    let (conn, peer) = tokio::join!(builder.connect(), accept(&server, &acceptor));
    assert_eq!(peer.unwrap().get_ref().1.server_name(), Some("localhost"));
    conn.unwrap();
}
