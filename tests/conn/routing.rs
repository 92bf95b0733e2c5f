//! Socket options that say which way the packets of a link take: the interface, marks, the type of service, Multipath TCP.

use perconn::{Conn, Error, SocketOptions};

/// Prints that a test was not run. The test harness would capture `eprintln!`.
#[cfg(unix)]
fn skipped(what: &str, why: impl std::fmt::Display) {
    use std::io::Write;

    let _ = writeln!(std::io::stderr(), "skipped: conn: {what}: {why}");
}

/// Why these options cannot work.
fn invalid(options: SocketOptions) -> String {
    match Conn::builder("192.0.2.1:1").socket_options(options).build() {
        Err(Error::InvalidConfig(text)) => text,
        Err(other) => panic!("expected InvalidConfig: {other:?}"),
        Ok(_) => panic!("expected InvalidConfig, but the connection was built: {options:?}"),
    }
}

#[tokio::test]
async fn bad_names_of_interfaces_and_types_of_service_are_refused_when_built() {
    for (name, expected) in [
        ("", "bind_device \"\" of 0 bytes: expected 1 to 15"),
        ("an-interface-beyond-all-limits", "bind_device \"an-interface-be\" of 30 bytes: expected 1 to 15"),
        ("eth0\0", "bind_device \"eth0\\0\": expected the name of an interface"),
        ("../eth0", "bind_device \"../eth0\": expected the name of an interface"),
        ("eth 0", "bind_device \"eth 0\": expected the name of an interface"),
    ] {
        let text = invalid(SocketOptions::new().bind_device(name));
        assert!(text.starts_with(expected), "{text}");
    }
    for value in [1, 2, 3, 255] {
        let text = invalid(SocketOptions::new().type_of_service(value));
        assert!(text.starts_with(&format!("type_of_service {value}: ")), "{text}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn type_of_service_is_on_every_link_of_both_ip_versions() {
    use socket2::SockRef;
    use tokio::net::TcpListener;

    use crate::support::{in_time, quick, wait_for_generation};

    let mut addresses = vec!["127.0.0.1:0"];
    match TcpListener::bind("[::1]:0").await {
        Ok(_) => addresses.push("[::1]:0"),
        Err(error) => skipped("type of service over IPv6", error),
    }
    for address in addresses {
        let listener = TcpListener::bind(address).await.unwrap();
        let options = SocketOptions::new().type_of_service(46 << 2);
        let builder = quick(Conn::builder(listener.local_addr().unwrap())).socket_options(options);
        let mut conn = in_time("connect", builder.connect()).await.unwrap();
        for generation in 1..=2 {
            wait_for_generation(&conn, generation).await;
            {
                let stream = conn.get_ref().unwrap();
                let socket = SockRef::from(stream);
                let value = if address.starts_with('[') { socket.tclass_v6() } else { socket.tos_v4() };
                assert_eq!(value.unwrap(), 46 << 2, "{address}");
            }
            conn.abandon();
        }
    }
}

#[cfg(all(target_os = "linux", not(perconn_portable)))]
mod linux {
    use std::io;

    use perconn::dial_fn;
    use socket2::SockRef;
    use tokio::net::TcpStream;

    use super::*;
    use crate::support::{Server, in_time, quick, wait_for_generation};

    /// What has to be set before the connect is refused for a dialer that cannot.
    #[tokio::test]
    async fn options_before_the_connect_are_refused_for_a_dialer_that_does_not_take_them() {
        let new = SocketOptions::new;
        for (options, expected) in [
            (new().bind_device("lo"), "bind_device \"lo\": expected a dialer that takes socket options"),
            (new().mark(7), "mark 7: expected a dialer that takes socket options"),
            (new().multipath(true), "multipath true: expected a dialer that takes socket options"),
        ] {
            let builder = Conn::builder("192.0.2.1:1").dialer(dial_fn(|| TcpStream::connect("192.0.2.1:1")));
            match builder.socket_options(options).build() {
                Err(Error::InvalidConfig(text)) => assert!(text.starts_with(expected), "{text}"),
                other => panic!("expected InvalidConfig: {:?}", other.map(drop)),
            }
        }
        // The type of service takes effect at any time.
        let server = Server::start().await;
        let address = server.address;
        let builder = quick(Conn::builder(address)).dialer(dial_fn(move || TcpStream::connect(address)));
        let conn = in_time("connect", builder.socket_options(new().type_of_service(32)).connect()).await.unwrap();
        assert_eq!(SockRef::from(conn.get_ref().unwrap()).tos_v4().unwrap(), 32);
    }

    #[tokio::test]
    async fn mark_is_on_every_link() {
        let server = Server::start().await;
        let builder = quick(Conn::builder(server.address)).socket_options(SocketOptions::new().mark(4711));
        let mut conn = match in_time("connect", builder.connect()).await {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let text = error.with_causes().to_string();
                assert!(text.contains("failed: mark 4711: "), "{text}");
                return skipped("mark", text);
            }
            outcome => outcome.unwrap(),
        };
        for generation in 1..=2 {
            wait_for_generation(&conn, generation).await;
            assert_eq!(SockRef::from(conn.get_ref().unwrap()).mark().unwrap(), 4711);
            conn.abandon();
        }
    }

    #[tokio::test]
    async fn link_is_bound_to_its_interface_and_a_missing_one_is_named() {
        let server = Server::start().await;
        let builder = |name| {
            let builder = quick(Conn::builder(server.address));
            builder.socket_options(SocketOptions::new().bind_device(name).local_address([127, 0, 0, 1]))
        };
        let mut conn = match in_time("connect", builder("lo").connect()).await {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return skipped("bind_device", error.with_causes());
            }
            outcome => outcome.unwrap(),
        };
        for generation in 1..=2 {
            wait_for_generation(&conn, generation).await;
            let device = SockRef::from(conn.get_ref().unwrap()).device().unwrap().unwrap();
            assert_eq!(device.strip_suffix(b"\0").unwrap_or(&device), b"lo");
            conn.abandon();
        }
        let error = in_time("connect", builder("no-such-device").connect()).await.unwrap_err();
        let text = error.with_causes().to_string();
        assert!(text.contains("failed: bind_device \"no-such-device\": "), "{text}");
    }
}

#[cfg(all(target_os = "linux", not(perconn_portable)))]
mod multipath {
    use std::io;
    use std::time::Duration;

    use perconn::SharedConn;
    use socket2::{Domain, Protocol, SockRef, Socket, Type};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::support::{Server, in_time, perconn_error, quick, wait_for_break, wait_for_generation};

    /// Whether the kernel has it.
    fn is_there() -> bool {
        match Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)) {
            Ok(_) => true,
            Err(error) => {
                skipped("multipath, but for what comes instead", error);
                false
            }
        }
    }

    /// What the link speaks.
    fn protocol(conn: &Conn) -> Option<Protocol> {
        SockRef::from(conn.get_ref().unwrap()).protocol().unwrap()
    }

    /// A listener that speaks it, too.
    fn listener() -> TcpListener {
        let protocol = if is_there() { Protocol::MPTCP } else { Protocol::TCP };
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(protocol)).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(16).unwrap();
        TcpListener::from_std(socket.into()).unwrap()
    }

    fn options() -> SocketOptions {
        SocketOptions::new().multipath(true).nodelay(true)
    }

    #[tokio::test]
    async fn link_speaks_it_where_the_kernel_can_and_tcp_where_not() {
        let expected = if is_there() { Protocol::MPTCP } else { Protocol::TCP };
        // The second peer speaks TCP only.
        for listener in [listener(), TcpListener::bind("127.0.0.1:0").await.unwrap()] {
            let builder = quick(Conn::builder(listener.local_addr().unwrap())).socket_options(options());
            let mut conn = in_time("connect", builder.connect()).await.unwrap();
            for generation in 1..=3 {
                wait_for_generation(&conn, generation).await;
                assert_eq!(protocol(&conn), Some(expected));
                let (mut peer, _) = in_time("accept", listener.accept()).await.unwrap();
                conn.write_all(b"ping").await.unwrap();
                let mut bytes = [0; 4];
                in_time("ping", peer.read_exact(&mut bytes)).await.unwrap();
                peer.write_all(b"pong").await.unwrap();
                in_time("pong", conn.read_exact(&mut bytes)).await.unwrap();
                assert_eq!(&bytes, b"pong");
                // The promises hold: an idle connection notices the close, and a write reports it.
                drop(peer);
                wait_for_break(&conn).await;
                let error = in_time("a write", conn.write_all(b"lost")).await.unwrap_err();
                assert_eq!(perconn_error(&error).generation(), Some(generation));
            }
        }
    }

    #[tokio::test]
    async fn link_is_aborted_at_the_idle_timeout_as_with_tcp() {
        let listener = listener();
        let builder = quick(Conn::builder(listener.local_addr().unwrap())).socket_options(options());
        let builder = builder.idle_timeout(Duration::from_millis(200));
        let mut conn = in_time("connect", builder.connect()).await.unwrap();
        let (mut peer, _) = in_time("accept", listener.accept()).await.unwrap();
        conn.write_all(b"request").await.unwrap();
        let error = in_time("the idle timeout", conn.read(&mut [0])).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut received = Vec::new();
        let end = in_time("the end of the link", peer.read_to_end(&mut received)).await;
        // A reset, which some kernels report to a Multipath TCP socket as a broken pipe.
        assert!(end.is_err(), "a clean end");
        assert_eq!(received, b"request");
        wait_for_generation(&conn, 2).await;
    }

    #[tokio::test]
    async fn option_that_these_sockets_lack_makes_it_tcp() {
        let server = Server::start().await;
        let options = options().user_timeout(Duration::from_secs(30)).keepalive(Duration::from_secs(10));
        let conn =
            in_time("connect", quick(Conn::builder(server.address)).socket_options(options).connect()).await.unwrap();
        eprintln!("with user_timeout: {:?}", protocol(&conn));
        let stream = conn.get_ref().unwrap();
        assert_eq!(SockRef::from(stream).tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
    }

    #[tokio::test]
    async fn shared_connection_writes_over_it() {
        let listener = listener();
        let builder = quick(Conn::builder(listener.local_addr().unwrap())).socket_options(options());
        let conn: SharedConn = in_time("connect", builder.connect()).await.unwrap().into_shared();
        let (mut peer, _) = in_time("accept", listener.accept()).await.unwrap();
        for _ in 0..100 {
            in_time("a write", conn.write_all(&[7; 1000])).await.unwrap();
        }
        let mut received = vec![0; 100_000];
        in_time("all of it", peer.read_exact(&mut received)).await.unwrap();
    }
}

/// Elsewhere, the options are refused.
#[cfg(perconn_portable)]
#[tokio::test]
async fn options_that_the_platform_lacks_are_refused_when_built() {
    let new = SocketOptions::new;
    for (options, expected) in [
        (new().bind_device("lo"), "bind_device \"lo\": this platform"),
        (new().mark(7), "mark 7: this platform"),
        (new().multipath(true), "multipath true: this platform"),
    ] {
        let text = invalid(options);
        assert!(text.starts_with(expected), "{text}");
    }
    Conn::builder("192.0.2.1:1").socket_options(new().multipath(false)).build().unwrap();
}
