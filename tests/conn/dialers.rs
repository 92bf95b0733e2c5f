//! The dialers that need no feature: several addresses, socket options, Unix sockets.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use crate::support::{
    Recorder, Server, in_time, look, next_event, quick, refused_address, wait_for_break, wait_for_generation,
};
use perconn::{Conn, Dial, Error, Event, SocketOptions, TcpDialer, dial_fn};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn invalid(outcome: Result<Conn<impl Sized>, Error>) -> String {
    match outcome {
        Err(error @ Error::InvalidConfig(_)) => error.to_string(),
        Err(other) => panic!("expected InvalidConfig: {other:?}"),
        Ok(_) => panic!("expected InvalidConfig, but the connection was built"),
    }
}

#[tokio::test]
async fn failed_dial_moves_on_to_the_next_address_and_a_break_goes_back_to_the_last_good_one() {
    let dead = refused_address().await;
    let (mut one, two) = (Server::start().await, Server::start().await);
    let builder = quick(Conn::builder("cluster")).addresses([dead, one.address, two.address]);
    let mut conn = builder.build().unwrap();
    in_time("the second address", conn.connected()).await.unwrap();
    let peer = one.accept().await;
    assert_eq!(conn.peer_addr().unwrap(), one.address);
    // After a break, the same address is dialed again.
    drop(peer);
    assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
    in_time("the same address", conn.connected()).await.unwrap();
    let peer = one.accept().await;
    assert_eq!(conn.peer_addr().unwrap(), one.address);
    // Its server stops: the next address in the list is dialed.
    one.stop();
    drop(peer);
    assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
    in_time("the third address", conn.connected()).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), two.address);
}

#[tokio::test]
async fn failed_set_up_is_a_failure_of_its_address() {
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
    // There was one dial to the standby.
    standby.accept().await;
}

#[tokio::test]
async fn dial_timeout_is_a_failure_of_its_address() {
    let (slow, good) = (Server::start().await, Server::start().await);
    let first = slow.address;
    let builder = quick(Conn::builder("gateway")).addresses([first, good.address]);
    let builder = builder.dial_timeout(Duration::from_millis(50)).and_then(move |stream| async move {
        if stream.peer_addr()? == first {
            std::future::pending::<()>().await;
        }
        Ok(stream)
    });
    let conn = builder.build().unwrap();
    in_time("the good address", conn.connected()).await.unwrap();
    good.accept().await;
}

#[tokio::test]
async fn address_that_accepts_and_closes_is_left_for_the_next_one() {
    let (flapping, healthy) = (Server::start().await, Server::start().await);
    let builder = quick(Conn::builder("cluster")).addresses([flapping.address, healthy.address]);
    let mut conn = builder.stable_after(Duration::from_secs(60)).build().unwrap();
    let dials = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&dials);
    let closing = tokio::spawn(async move {
        loop {
            drop(flapping.accept().await);
            seen.fetch_add(1, Ordering::Relaxed);
        }
    });
    let outcome = tokio::time::timeout(Duration::from_secs(2), healthy.accept()).await;
    let dials = dials.load(Ordering::Relaxed);
    closing.abort();
    assert!(outcome.is_ok(), "{dials} dials to the address that closes, and none to the next one");
    assert_eq!(dials, 1);
    assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
    in_time("the next address", conn.connected()).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), healthy.address);
}

#[tokio::test]
async fn link_that_ended_too_soon_is_a_failure_of_its_address_on_any_dialer() {
    use std::sync::Mutex;

    struct Counting(Arc<Mutex<Vec<&'static str>>>, u32);

    impl Dial for Counting {
        type Stream = tokio::io::DuplexStream;

        async fn dial(&mut self) -> io::Result<Self::Stream> {
            self.0.lock().unwrap().push("dial");
            self.1 += 1;
            let (near, far) = tokio::io::duplex(64);
            // The first link ends at once, the second after a second, the third lives on.
            let life = match self.1 {
                1 => Duration::ZERO,
                2 => Duration::from_secs(1),
                _ => Duration::from_secs(1_000_000),
            };
            tokio::spawn(async move {
                tokio::time::sleep(life).await;
                drop(far);
            });
            Ok(near)
        }

        fn dial_failed(&mut self) {
            self.0.lock().unwrap().push("failed");
        }
    }

    tokio::time::pause();
    let calls = Arc::default();
    let builder = quick(Conn::builder("simulated").dialer(Counting(Arc::clone(&calls), 0)));
    let mut conn = builder.stable_after(Duration::from_secs(1)).build().unwrap();
    for _ in 1..=2 {
        assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
    }
    in_time("the third link", conn.connected()).await.unwrap();
    assert_eq!(*calls.lock().unwrap(), ["dial", "failed", "dial", "dial"]);
}

#[tokio::test]
async fn connect_tries_each_address_once_without_a_delay() {
    let (one, two, good) = (refused_address().await, refused_address().await, Server::start().await);
    let (recorder, _events) = Recorder::new();
    // A retry would come after an hour, and there is none.
    let hour = Duration::from_secs(3600);
    let builder = || {
        let builder = Conn::builder("cluster").retry_min(hour).retry_max(hour).max_retries(0).logger(|_| {});
        builder.addresses([one, two, good.address])
    };
    let conn = in_time("connect", builder().on_event(recorder.hook()).connect()).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), good.address);
    let events = recorder.events();
    for (event, number) in events.iter().zip(1..=2) {
        let Event::DialFailed { attempt, retry_in, .. } = event else { panic!("{event:?}") };
        assert_eq!((*attempt, *retry_in), (number, Some(Duration::ZERO)));
    }
    assert!(matches!(events[2..], [Event::Connected { generation: 1, attempt: 3, .. }]), "{events:?}");
}

#[tokio::test]
async fn connect_to_several_addresses_names_each_with_its_cause() {
    let (refusing, silent, unfriendly) = (refused_address().await, Server::start().await, Server::start().await);
    let (silent, unfriendly) = (silent.address, unfriendly.address);
    let builder = quick(Conn::builder("cluster")).addresses([refusing, silent, unfriendly]);
    let builder = builder.dial_timeout(Duration::from_millis(50)).and_then(move |stream| async move {
        if stream.peer_addr()? == silent {
            std::future::pending::<()>().await;
        }
        Err::<TcpStream, _>(io::Error::new(io::ErrorKind::PermissionDenied, "not welcome"))
    });
    let (recorder, _events) = Recorder::new();
    let error = in_time("connect", builder.on_event(recorder.hook()).connect()).await.unwrap_err();
    let refused = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
    let causes = [
        format!("{refusing}: {refused}"),
        format!("{silent}: the dial took longer than 50ms"),
        format!("{unfriendly}: not welcome"),
    ];
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    let text = error.with_causes().to_string();
    assert_eq!(text, format!("dial 3 to cluster failed: all addresses failed: {}", causes.join("; ")));
    // The logger and the hook get one error for each dial.
    let kinds = [io::ErrorKind::ConnectionRefused, io::ErrorKind::TimedOut, io::ErrorKind::PermissionDenied];
    let events = recorder.events();
    for (number, event) in events[..3].iter().enumerate() {
        let Event::DialFailed { cause, .. } = event else { panic!("{event:?}") };
        let text = format!("dial {} to cluster failed: {}", number + 1, causes[number]);
        assert_eq!((cause.with_causes().to_string(), cause.kind()), (text, kinds[number]));
    }
    assert!(matches!(events[3..], [Event::Closed]), "{events:?}");
}

#[tokio::test]
async fn failure_of_one_of_several_addresses_names_the_address_and_keeps_the_kernels_error() {
    let addresses = [refused_address().await, refused_address().await];
    let (recorder, mut events) = Recorder::new();
    let builder = quick(Conn::builder("cluster")).addresses(addresses).on_event(recorder.hook());
    let _conn = builder.build().unwrap();
    for number in 0..4 {
        let cause = next_event(&mut events, |event| match event {
            Event::DialFailed { cause, .. } => Some(Arc::clone(cause)),
            _ => None,
        });
        let cause = cause.await;
        let Error::DialFailure { address, source, .. } = &*cause else { panic!("{cause:?}") };
        assert_eq!(address, "cluster");
        assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(source.to_string(), addresses[number % 2].to_string());
        let kernel = std::error::Error::source(source).unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!(kernel.raw_os_error(), Some(rustix::io::Errno::CONNREFUSED.raw_os_error()));
    }
}

#[tokio::test]
async fn panics_of_a_dialer_about_its_addresses_do_no_harm() {
    struct Panicking(perconn::Address);

    impl Dial for Panicking {
        type Stream = TcpStream;

        async fn dial(&mut self) -> io::Result<TcpStream> {
            Err(io::ErrorKind::ConnectionRefused.into())
        }

        fn addresses(&self) -> &[perconn::Address] {
            std::slice::from_ref(&self.0)
        }

        fn dialed_address(&self) -> Option<&perconn::Address> {
            panic!("as the test wants it")
        }

        fn dial_failed(&mut self) {
            panic!("as the test wants it")
        }
    }

    let builder = quick(Conn::builder("own")).dialer(Panicking("host.example:1".into()));
    let error = in_time("connect", builder.connect()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn bad_lists_of_addresses_are_refused_when_built() {
    let none: [&str; 0] = [];
    let text = invalid(Conn::builder("cluster").addresses(none).build());
    assert!(text.contains("expected at least one"), "{text}");
    let text = invalid(Conn::builder("cluster").addresses(["good.example:1", "bad"]).build());
    assert!(text.contains("\"bad\"") && text.contains("no port"), "{text}");
}

#[tokio::test]
async fn name_with_addresses_of_both_versions_is_reached_on_the_one_that_answers() {
    // The server listens on 127.0.0.1 only. The name can also resolve to ::1.
    let server = Server::start().await;
    let conn = in_time("connect", quick(Conn::builder(("localhost", server.address.port()))).connect()).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), server.address);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn local_address_is_dialed_from_on_every_link() {
    let server = Server::start().await;
    let from = IpAddr::from([127, 0, 0, 77]);
    let builder = server.client().socket_options(SocketOptions::new().local_address(from));
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let mut conn = conn.unwrap();
    assert_eq!(peer.peer_addr().unwrap().ip(), from);
    drop(peer);
    assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
    assert_eq!(server.accept().await.peer_addr().unwrap().ip(), from);
}

#[tokio::test]
async fn local_address_that_cannot_be_bound_is_named() {
    let server = Server::start().await;
    let from = |address: &str| {
        let options = SocketOptions::new().local_address(address.parse::<IpAddr>().unwrap());
        server.client().socket_options(options).connect()
    };
    // TEST-NET-1 (RFC 5737): no machine has this address.
    let error = in_time("connect", from("192.0.2.7")).await.unwrap_err();
    let Error::DialFailure { source, .. } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains("local address 192.0.2.7: "), "{source}");
    let text = invalid(from("::1").await);
    assert!(text.contains("local_address ::1: expected one of the IP version of the address 127.0.0.1:"), "{text}");
}

/// How much the kernels take of a connection whose peer reads nothing.
#[cfg(all(target_os = "linux", not(perconn_portable)))]
async fn taken_without_a_reader(options: SocketOptions) -> usize {
    let server = Server::start().await;
    let (conn, _peer) = tokio::join!(server.client().socket_options(options).connect(), server.accept());
    let mut conn = conn.unwrap();
    let (buffer, mut taken) = (vec![0; 1 << 20], 0);
    while let Poll::Ready(outcome) = look(&mut Box::pin(conn.write(&buffer))).await {
        taken += outcome.unwrap();
    }
    taken
}

#[cfg(all(target_os = "linux", not(perconn_portable)))]
#[tokio::test]
async fn kernel_takes_less_that_it_cannot_send_if_it_is_told_so() {
    let all = taken_without_a_reader(SocketOptions::new()).await;
    let less = taken_without_a_reader(SocketOptions::new().notsent_lowat(16 * 1024)).await;
    assert!(2 * less < all, "{less} of {all} bytes");
}

#[tokio::test]
async fn limit_of_what_the_kernel_cannot_send_is_checked() {
    let build =
        |bytes| Conn::builder("peer.example:7000").socket_options(SocketOptions::new().notsent_lowat(bytes)).build();
    let has_option = cfg!(any(target_os = "linux", target_os = "android")) && !cfg!(perconn_portable);
    let expected =
        if has_option { "notsent_lowat 0: expected 1 to 2147483647" } else { "notsent_lowat 0: this platform" };
    assert!(invalid(build(0)).contains(expected));
    assert_eq!(build(1).is_ok(), has_option);
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
            // Linux doubles the value.
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
    // It is too late for a local address.
    let dialer = dial_fn(move || TcpStream::connect(address));
    let options = SocketOptions::new().local_address([127, 0, 0, 1]);
    let text = invalid(Conn::builder("own").dialer(dialer).socket_options(options).build());
    assert!(text.contains("local_address 127.0.0.1"), "{text}");
}

#[tokio::test]
async fn options_reach_the_socket_below_a_stream_of_another_type() {
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
async fn buffer_sizes_out_of_range_are_refused_when_built() {
    for size in [0, 1 << 31] {
        let options = SocketOptions::new().recv_buffer_size(size);
        let text = invalid(Conn::builder("host.example:1").socket_options(options).build());
        assert!(text.contains(&format!("recv_buffer_size {size}: expected 1 to ")), "{text}");
    }
}

#[cfg(unix)]
mod unix {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixListener;

    /// A folder that is deleted when it is dropped.
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
