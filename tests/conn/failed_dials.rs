//! Failed dials: refused, unresolved, timed out or cut off. Each is a `DialFailure` with its cause, and another dial
//! follows.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Recorder, ReservedPort, Server, in_time, next_event, perconn_error, quick, refused_address};
use perconn::{Builder, Conn, Dial, Error, Event, TcpDialer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The causes of the first two failed dials.
async fn two_failures<D: Dial>(builder: Builder<D>) -> [Arc<Error>; 2] {
    let (recorder, mut events) = Recorder::new();
    let conn = builder.on_event(recorder.hook()).build().unwrap();
    let mut causes = Vec::new();
    for number in 1..=2 {
        let (attempt, cause, retry_in) = next_event(&mut events, |event| match event {
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
    let error = in_time("connect", Conn::connect(address)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    // `?` converts it to an `io::Error`, as a program that uses a `TcpStream` expects.
    assert!(matches!(perconn_error(&io::Error::from(error)), Error::DialFailure { .. }));
}

#[tokio::test]
async fn name_that_does_not_resolve() {
    // A resolver that cannot be reached may take long.
    let builder = quick(Conn::builder("does-not-exist.invalid:80")).dial_timeout(Duration::from_secs(5));
    for cause in two_failures(builder).await {
        let source = std::error::Error::source(&*cause).unwrap();
        assert!(!source.to_string().is_empty());
    }
}

#[tokio::test]
async fn dial_to_a_full_backlog_fails_at_the_dial_timeout() {
    // A listener whose backlog is full drops every further SYN.
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
                // The test completes it long after the dial has timed out.
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
    in_time("connected", conn.connected()).await.unwrap();
    let late = in_time("the late dial", may_complete.recv()).await.unwrap();
    let (stream, mut late_peer) = tokio::join!(tokio::net::TcpStream::connect(address), server.accept());
    assert!(late.send(stream.unwrap()).is_err(), "the timed-out dial still takes a stream");
    assert_eq!(in_time("the late socket is closed", late_peer.read(&mut [0; 4])).await.unwrap(), 0);
    in_time("write", conn.write_all(b"A")).await.unwrap();
    assert_eq!(in_time("peer", peer.read_u8()).await.unwrap(), b'A');
    assert_eq!(conn.generation(), 1);
}

#[tokio::test]
async fn server_that_closes_during_set_up() {
    let server = Server::start().await;
    let (recorder, mut events) = Recorder::new();
    let dialer = TcpDialer::new(server.address).and_then(|mut stream| async move {
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting).await?;
        if &greeting != b"hello" {
            return Err(io::Error::new(ErrorKind::InvalidData, "unexpected greeting"));
        }
        Ok(stream)
    });
    let mut conn = server.client().dialer(dialer).on_event(recorder.hook()).build().unwrap();
    let mut kinds = Vec::new();
    for greeting in ["hel", "HELLO", "hello"] {
        let mut peer = server.accept().await;
        peer.write_all(greeting.as_bytes()).await.unwrap();
        if greeting == "hello" {
            in_time("write", conn.write_all(b"thanks")).await.unwrap();
            let mut thanks = [0; 6];
            in_time("peer", peer.read_exact(&mut thanks)).await.unwrap();
            assert_eq!(&thanks, b"thanks", "bytes went to an earlier link");
            break;
        }
        drop(peer);
        kinds.push(
            next_event(&mut events, |event| match event {
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
    let (conn, peer) = tokio::join!(Conn::connect(("localhost", port)), in_time("accept", listener.accept()));
    let (mut conn, (mut peer, _)) = (conn.unwrap(), peer.unwrap());
    in_time("write", conn.write_all(b"A")).await.unwrap();
    assert_eq!(in_time("peer", peer.read_u8()).await.unwrap(), b'A');
}

#[tokio::test]
async fn client_may_start_before_its_server() {
    let port = ReservedPort::new();
    let address = port.address;
    let mut conn = quick(Conn::builder(address)).build().unwrap();
    assert_eq!((conn.generation(), conn.is_connected()), (0, false));
    assert!(conn.get_ref().is_none() && conn.peer_addr().is_err());
    let writer = tokio::spawn(async move {
        conn.write_all(b"early").await.unwrap();
        conn
    });
    tokio::task::yield_now().await;
    let listener = port.listen();
    let (mut peer, _) = in_time("accept", listener.accept()).await.unwrap();
    let mut early = [0; 5];
    in_time("peer", peer.read_exact(&mut early)).await.unwrap();
    let conn = in_time("writer", writer).await.unwrap();
    assert_eq!((&early, conn.generation()), (b"early", 1));
    assert_eq!(conn.peer_addr().unwrap(), address);
}

/// A dialer whose first dial hangs and whose second one fails, with a warning about each dial.
struct Warning {
    dials: u32,
    has_warning: bool,
}

impl Dial for Warning {
    type Stream = tokio::io::DuplexStream;

    async fn dial(&mut self) -> io::Result<Self::Stream> {
        self.dials += 1;
        self.has_warning = true;
        match self.dials {
            1 => std::future::pending().await,
            2 => Err(ErrorKind::NotFound.into()),
            _ => Ok(tokio::io::duplex(1).0),
        }
    }

    fn take_warning(&mut self) -> Option<Error> {
        assert_ne!(self.dials, 4, "a panic here is the program's own");
        std::mem::take(&mut self.has_warning).then(|| Error::InvalidConfig(format!("warning {}", self.dials)))
    }
}

#[tokio::test(start_paused = true)]
async fn warning_of_the_dialer_is_logged_after_each_dial() {
    let (log, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let dialer = Warning { dials: 0, has_warning: false }.and_then(|stream| std::future::ready(Ok(stream)));
    let builder = quick(Conn::builder("memory").dialer(dialer)).dial_timeout(Duration::from_millis(10));
    let mut conn = builder.logger(move |error| drop(log.send(error.with_causes().to_string()))).build().unwrap();
    // The peer of each link is gone already.
    for generation in 1..=3 {
        in_time("the end", conn.read(&mut [0])).await.unwrap();
        assert_eq!(conn.last_reported(), generation);
    }
    drop(conn);
    let mut logged = Vec::new();
    while let Some(line) = in_time("the log", lines.recv()).await {
        logged.push(line);
    }
    let expected = [
        "invalid configuration: warning 1",
        "dial 1 to memory failed: the dial took longer than 10ms",
        "invalid configuration: warning 2",
        "dial 2 to memory failed: entity not found",
        "invalid configuration: warning 3",
        "read on link 1 to memory failed: the peer closed the connection",
        "read on link 2 to memory failed: the peer closed the connection",
        "invalid configuration: warning 5",
    ];
    assert_eq!(logged[..expected.len()], expected);
}
