//! Every way to dial that needs no feature: several addresses, socket options, Unix sockets.

mod support;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use perconn::{Conn, Dial, Error, SocketOptions, TcpDialer, dial_fn};
use socket2::SockRef;
use support::{Server, in_time, quick, refused_address, wait_for_break, wait_for_generation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn invalid(outcome: Result<Conn<impl Sized>, Error>) -> String {
    match outcome {
        Err(error @ Error::InvalidConfig(_)) => error.to_string(),
        Err(other) => panic!("expected InvalidConfig: {other:?}"),
        Ok(_) => panic!("expected InvalidConfig, and it was built"),
    }
}

#[tokio::test]
async fn failed_dial_moves_on_to_the_next_address_and_a_break_comes_back_to_the_last_good_one() {
    let dead = refused_address().await;
    let (mut one, two) = (Server::start().await, Server::start().await);
    let builder = quick(Conn::builder("cluster")).addresses([dead, one.address, two.address]);
    let mut conn = builder.build().unwrap();
    in_time("the second address", conn.connected()).await.unwrap();
    let peer = one.accept().await;
    assert_eq!(conn.peer_addr().unwrap(), one.address);
    // A break: the address that was good is dialed again.
    drop(peer);
    assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
    in_time("the same address", conn.connected()).await.unwrap();
    let peer = one.accept().await;
    assert_eq!(conn.peer_addr().unwrap(), one.address);
    // Its server goes away: the next one in the list has its turn.
    one.stop();
    drop(peer);
    assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
    in_time("the third address", conn.connected()).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), two.address);
}

#[tokio::test]
async fn set_up_that_fails_is_a_failure_of_its_address() {
    let (standby, primary) = (Server::start().await, Server::start().await);
    let first = standby.address;
    let builder = quick(Conn::builder("database")).addresses([first, primary.address]);
    let builder = builder.and_then(move |stream| async move {
        if stream.peer_addr()? == first { Err(io::Error::other("read only")) } else { Ok(stream) }
    });
    let conn = builder.build().unwrap();
    in_time("the primary", conn.connected()).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), primary.address);
    primary.accept().await;
    // The one dial to it.
    standby.accept().await;
}

#[tokio::test]
async fn dial_that_runs_out_of_time_is_a_failure_of_its_address() {
    let (slow, good) = (Server::start().await, Server::start().await);
    let first = slow.address;
    let builder = quick(Conn::builder("gateway")).addresses([first, good.address]);
    let builder = builder.dial_timeout(std::time::Duration::from_millis(50)).and_then(move |stream| async move {
        if stream.peer_addr()? == first {
            std::future::pending::<()>().await;
        }
        Ok(stream)
    });
    let conn = builder.build().unwrap();
    in_time("the good one", conn.connected()).await.unwrap();
    good.accept().await;
}

#[tokio::test]
async fn failure_of_one_of_several_addresses_names_it() {
    let (one, two) = (refused_address().await, refused_address().await);
    let error = in_time("connect", quick(Conn::builder("cluster")).addresses([one, two]).connect()).await.unwrap_err();
    let Error::DialFailure { address, source, .. } = error else { panic!("{error:?}") };
    assert_eq!(address, "cluster");
    assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
    assert!(source.to_string().starts_with(&one.to_string()), "{source}");
}

#[tokio::test]
async fn bad_lists_of_addresses_are_refused_when_built() {
    let none: [&str; 0] = [];
    let text = invalid(Conn::builder("cluster").addresses(none).build());
    assert!(text.contains("expected one at least"), "{text}");
    let text = invalid(Conn::builder("cluster").addresses(["good.example:1", "bad"]).build());
    assert!(text.contains("\"bad\"") && text.contains("no port"), "{text}");
}

#[tokio::test]
async fn name_with_addresses_of_both_versions_is_reached_on_the_one_that_answers() {
    // It listens on 127.0.0.1 only; the name may also stand for ::1.
    let server = Server::start().await;
    let conn = in_time("connect", quick(Conn::builder(("localhost", server.address.port()))).connect()).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), server.address);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn local_address_is_dialed_from_on_every_link() {
    let server = Server::start().await;
    let from = Ipv4Addr::new(127, 0, 0, 77);
    let builder = server.client().socket_options(SocketOptions::new().local_address(from));
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let mut conn = conn.unwrap();
    assert_eq!(peer.peer_addr().unwrap().ip(), from);
    drop(peer);
    assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
    assert_eq!(server.accept().await.peer_addr().unwrap().ip(), from);
}

#[tokio::test]
async fn local_address_that_cannot_be_is_named() {
    let server = Server::start().await;
    let from = |address: &str| {
        let options = SocketOptions::new().local_address(address.parse::<IpAddr>().unwrap());
        server.client().socket_options(options).connect()
    };
    // TEST-NET-1 (RFC 5737) is nobody's.
    let error = in_time("connect", from("192.0.2.7")).await.unwrap_err();
    let Error::DialFailure { source, .. } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains("local address 192.0.2.7: "), "{source}");
    let text = invalid(from("::1").await);
    assert!(text.contains("local_address ::1: expected one of the IP version of the address 127.0.0.1:"), "{text}");
}

#[tokio::test]
async fn options_are_set_before_the_set_up_and_on_every_link() {
    let server = Server::start().await;
    let links = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&links);
    let options = SocketOptions::new().nodelay(true).send_buffer_size(50_000).recv_buffer_size(60_000);
    let builder = server.client().socket_options(options).and_then(move |stream| {
        let seen = Arc::clone(&seen);
        async move {
            let socket = SockRef::from(&stream);
            assert!(socket.tcp_nodelay()?);
            // Linux doubles what was asked for.
            assert!((50_000..=100_000).contains(&socket.send_buffer_size()?));
            assert!((60_000..=120_000).contains(&socket.recv_buffer_size()?));
            seen.fetch_add(1, Ordering::Relaxed);
            Ok(stream)
        }
    });
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let conn = conn.unwrap();
    drop(peer);
    wait_for_break(&conn).await;
    server.accept().await;
    wait_for_generation(&conn, 2).await;
    assert_eq!(links.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn options_are_set_on_the_stream_of_a_dialer_that_does_not_take_them() {
    let server = Server::start().await;
    let address = server.address;
    let dialer = dial_fn(move || TcpStream::connect(address));
    let (conn, _peer) =
        tokio::join!(quick(Conn::builder("own").dialer(dialer)).nodelay(true).connect(), server.accept());
    assert!(conn.unwrap().get_ref().unwrap().nodelay().unwrap());
    // But it is too late for a local address.
    let dialer = dial_fn(move || TcpStream::connect(address));
    let options = SocketOptions::new().local_address([127, 0, 0, 1]);
    let text = invalid(Conn::builder("own").dialer(dialer).socket_options(options).build());
    assert!(text.contains("local_address 127.0.0.1"), "{text}");
}

#[tokio::test]
async fn options_reach_the_socket_beneath_a_stream_of_another_type() {
    let server = Server::start().await;
    let dialer = TcpDialer::new(server.address).and_then(async |stream| {
        assert!(stream.nodelay()?);
        Ok(tokio::io::BufStream::new(stream))
    });
    let (conn, _peer) =
        tokio::join!(quick(Conn::builder("buffered").dialer(dialer)).nodelay(true).connect(), server.accept());
    conn.unwrap();
}

#[tokio::test]
async fn sizes_that_no_kernel_takes_are_refused_when_built() {
    for size in [0, 1 << 31] {
        let options = SocketOptions::new().recv_buffer_size(size);
        let text = invalid(Conn::builder("host.example:1").socket_options(options).build());
        assert!(text.contains(&format!("recv_buffer_size {size}: expected 1 to ")), "{text}");
    }
}

#[cfg(unix)]
mod unix {
    use super::*;
    use tokio::net::UnixListener;

    /// A folder that is deleted in the end.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("perconn-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn unix_socket_is_dialed_again_when_its_server_comes_back() {
        let folder = Folder::new("unix");
        let path = folder.0.join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut conn = in_time("connect", quick(Conn::unix(&path)).connect()).await.unwrap();
        let (mut peer, _) = in_time("accept", listener.accept()).await.unwrap();
        conn.write_all(b"one").await.unwrap();
        peer.read_exact(&mut [0; 3]).await.unwrap();
        drop((peer, listener));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
        let listener = UnixListener::bind(&path).unwrap();
        in_time("write", conn.write_all(b"two")).await.unwrap();
        let (mut peer, _) = in_time("accept", listener.accept()).await.unwrap();
        let mut bytes = [0; 3];
        peer.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"two");
    }

    #[tokio::test]
    async fn bad_socket_paths_are_refused_when_built() {
        let text = invalid(Conn::unix("").build());
        assert!(text.contains("socket path \"\""), "{text}");
        for path in ["/run/a\0b.sock", "\0"] {
            let text = invalid(Conn::unix(path).build());
            assert!(text.contains(&format!("{path:?}: expected no zero byte")), "{text}");
        }
        let long = format!("/tmp/{}", "a".repeat(200));
        let text = invalid(Conn::unix(&long).build());
        assert!(text.contains(&long) && text.contains("205 bytes"), "{text}");
    }

    #[tokio::test]
    async fn missing_socket_is_a_failed_dial_that_says_so() {
        let error = in_time("connect", quick(Conn::unix("/nowhere/at.all")).connect()).await.unwrap_err();
        let Error::DialFailure { address, source, .. } = error else { panic!("{error:?}") };
        assert_eq!((address.as_str(), source.kind()), ("/nowhere/at.all", io::ErrorKind::NotFound));
    }

    #[tokio::test]
    async fn options_of_tcp_are_refused_for_a_unix_socket() {
        let text = invalid(Conn::unix("/run/a.sock").nodelay(true).build());
        assert!(text.contains("nodelay") && text.contains("UnixStream"), "{text}");
    }
}
