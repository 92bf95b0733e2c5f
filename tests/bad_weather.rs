//! Dials that fail, each in its own way: a `DialFailure` with the cause, and another try.

mod support;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use perconn::{Builder, Conn, Dial, Error, Event, TcpDialer};
use support::{Recorder, Server, event, free_address, inside, quick, refused_address, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The causes of the first two failed dials.
async fn two_failures<D: Dial>(builder: Builder<D>) -> [Arc<Error>; 2] {
    let (recorder, mut events) = Recorder::new();
    let conn = builder.on_event(recorder.hook()).build().unwrap();
    let mut causes = Vec::new();
    for number in 1..=2 {
        let (attempt, cause, retry_in) = event(&mut events, |event| match event {
            Event::DialFailed { attempt, cause, retry_in, .. } => Some((*attempt, Arc::clone(cause), *retry_in)),
            _ => None,
        })
        .await;
        assert_eq!(attempt, number);
        assert!(matches!(&*cause, Error::DialFailure { attempt, .. } if *attempt == number));
        assert!(retry_in.is_some_and(|delay| delay >= Duration::from_millis(5)), "{retry_in:?}");
        causes.push(cause);
    }
    drop(conn);
    causes.try_into().unwrap()
}

#[tokio::test]
async fn refused_port() {
    let address = refused_address().await;
    for cause in two_failures(quick(Conn::builder(address))).await {
        assert_eq!(cause.kind(), ErrorKind::ConnectionRefused);
        assert!(cause.to_string().contains(&address.to_string()), "{cause}");
    }
    let error = soon("connect", Conn::connect(address)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    // As with a `TcpStream`, `?` turns it into an `io::Error`.
    assert!(matches!(inside(&io::Error::from(error)), Error::DialFailure { .. }));
}

#[tokio::test]
async fn name_that_does_not_resolve() {
    // A resolver that cannot be reached may think for long.
    let builder = quick(Conn::builder("does-not-exist.invalid:80")).dial_timeout(Duration::from_secs(5));
    for cause in two_failures(builder).await {
        let source = std::error::Error::source(&*cause).unwrap();
        assert!(!source.to_string().is_empty());
    }
}

#[tokio::test]
async fn black_hole_ends_at_the_dial_timeout() {
    // A listener whose backlog is full drops every further packet that asks for a connection.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut filling = Vec::new();
    loop {
        let connect = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(200), connect).await {
            Ok(stream) => filling.push(stream.unwrap()),
            Err(_) => break,
        }
        assert!(filling.len() < 100, "the backlog never fills");
    }
    let builder = quick(Conn::builder(address)).dial_timeout(Duration::from_millis(50));
    for cause in two_failures(builder).await {
        assert_eq!(cause.kind(), ErrorKind::TimedOut);
    }
}

#[tokio::test]
async fn server_that_never_completes_the_set_up() {
    let server = Server::start().await;
    let greeted = TcpDialer::new(server.address).and_then(|mut stream| async move {
        stream.read_u8().await?;
        Ok(stream)
    });
    let builder = server.client().dialer(greeted).dial_timeout(Duration::from_millis(50));
    for cause in two_failures(builder).await {
        assert_eq!(cause.kind(), ErrorKind::TimedOut);
    }
}

#[tokio::test]
async fn dial_that_completes_late_does_not_touch_the_newer_link() {
    let server = Server::start().await;
    let address = server.address;
    let (late, mut may_complete) = tokio::sync::mpsc::unbounded_channel();
    let mut dials = 0;
    let dialer = perconn::dial_fn(move || {
        dials += 1;
        let late = late.clone();
        let is_first = dials == 1;
        async move {
            if is_first {
                // Somebody else goes on with it when the dial has long been given up.
                let (stream, outcome) = tokio::sync::oneshot::channel();
                late.send(stream).unwrap();
                return outcome.await.map_err(io::Error::other);
            }
            tokio::net::TcpStream::connect(address).await
        }
    });
    let builder = server.client().dialer(dialer).dial_timeout(Duration::from_millis(500));
    let mut conn = builder.build().unwrap();
    let mut peer = server.accept().await;
    soon("connected", conn.connected()).await.unwrap();
    let late = soon("the late dial", may_complete.recv()).await.unwrap();
    let (stream, mut late_peer) = tokio::join!(tokio::net::TcpStream::connect(address), server.accept());
    assert!(late.send(stream.unwrap()).is_err(), "nobody takes it");
    assert_eq!(soon("the late socket is closed", late_peer.read(&mut [0; 4])).await.unwrap(), 0);
    soon("write", conn.write_all(b"A")).await.unwrap();
    assert_eq!(soon("peer", peer.read_u8()).await.unwrap(), b'A');
    assert_eq!(conn.generation(), 1);
}

#[tokio::test]
async fn server_that_closes_in_mid_set_up() {
    let server = Server::start().await;
    let (recorder, mut events) = Recorder::new();
    let dialer = TcpDialer::new(server.address).and_then(|mut stream| async move {
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting).await?;
        if &greeting != b"hello" {
            return Err(io::Error::new(ErrorKind::InvalidData, "not my server"));
        }
        Ok(stream)
    });
    let mut conn = server.client().dialer(dialer).on_event(recorder.hook()).build().unwrap();
    let mut kinds = Vec::new();
    for greeting in ["hel", "HELLO", "hello"] {
        let mut peer = server.accept().await;
        peer.write_all(greeting.as_bytes()).await.unwrap();
        if greeting == "hello" {
            soon("write", conn.write_all(b"thanks")).await.unwrap();
            let mut thanks = [0; 6];
            soon("peer", peer.read_exact(&mut thanks)).await.unwrap();
            assert_eq!(&thanks, b"thanks", "nobody saw the links before");
            break;
        }
        drop(peer);
        kinds.push(
            event(&mut events, |event| match event {
                Event::DialFailed { cause, .. } => Some(cause.kind()),
                _ => None,
            })
            .await,
        );
    }
    assert_eq!(kinds, [ErrorKind::UnexpectedEof, ErrorKind::InvalidData]);
    assert_eq!(conn.generation(), 1);
}

#[tokio::test]
async fn name_is_resolved_to_every_address() {
    // Where "localhost" is both ::1 and 127.0.0.1, only the second one answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (conn, peer) = tokio::join!(Conn::connect(("localhost", port)), listener.accept());
    let (mut conn, (mut peer, _)) = (conn.unwrap(), peer.unwrap());
    soon("write", conn.write_all(b"A")).await.unwrap();
    assert_eq!(soon("peer", peer.read_u8()).await.unwrap(), b'A');
}

#[tokio::test]
async fn starts_before_its_server() {
    let address = free_address().await;
    let mut conn = quick(Conn::builder(address)).build().unwrap();
    assert_eq!((conn.generation(), conn.is_connected()), (0, false));
    assert!(conn.get_ref().is_none() && conn.peer_addr().is_err());
    let writer = tokio::spawn(async move {
        conn.write_all(b"early").await.unwrap();
        conn
    });
    tokio::task::yield_now().await;
    let listener = TcpListener::bind(address).await.unwrap();
    let (mut peer, _) = soon("accept", listener.accept()).await.unwrap();
    let mut early = [0; 5];
    soon("peer", peer.read_exact(&mut early)).await.unwrap();
    let conn = soon("writer", writer).await.unwrap();
    assert_eq!((&early, conn.generation()), (b"early", 1));
    assert_eq!(conn.peer_addr().unwrap(), address);
}

/// Runs this binary once more, with few descriptors, for the test below.
#[cfg(unix)]
#[test]
fn descriptor_limit_reached() {
    let me = std::env::current_exe().unwrap();
    let script = "ulimit -n 40; exec \"$0\" --exact descriptor_limit_reached_in_a_process_of_its_own --nocapture";
    let child = std::process::Command::new("sh").arg("-c").arg(script).arg(me).env(FEW_DESCRIPTORS, "1").output();
    let output = child.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("recovered from the descriptor limit"), "{text}");
}

#[cfg(unix)]
const FEW_DESCRIPTORS: &str = "PERCONN_TEST_WITH_FEW_DESCRIPTORS";

#[cfg(unix)]
#[tokio::test]
async fn descriptor_limit_reached_in_a_process_of_its_own() {
    if std::env::var_os(FEW_DESCRIPTORS).is_none() {
        // The test above runs it.
        return;
    }
    let server = Server::start().await;
    let (recorder, mut events) = Recorder::new();
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
        assert!(hoard.len() < 100, "the limit is not in force");
    }
    let conn = server.client().on_event(recorder.hook()).build().unwrap();
    let cause = event(&mut events, |event| match event {
        Event::DialFailed { attempt: 2, cause, .. } => Some(Arc::clone(cause)),
        _ => None,
    })
    .await;
    let source = std::error::Error::source(&*cause).unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(source.raw_os_error(), Some(24), "EMFILE");
    hoard.clear();
    let _peer = server.accept().await;
    soon("connected", conn.connected()).await.unwrap();
    println!("recovered from the descriptor limit");
}
