//! Unix sockets, listeners of the program, and several of them for one acceptor.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use perconn::Conn;
use perconn::acceptor::{Acceptor, Error, Listen, LocalAddr, Overflow, Peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::common::{LONG, echo, exchange, rest, served, until_refused};
use crate::support::in_time;

/// A path for one test, without a file.
fn path(test: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("perconn-{}-{test}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

fn build(listen: impl Into<Listen>) -> Result<Acceptor, Error> {
    Acceptor::builder(listen).logger(|_| {}).handler(echo).build()
}

/// Connects and makes one exchange.
async fn ask(path: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(b"ping").await?;
    let mut answer = [0; 4];
    in_time("an echo", stream.read_exact(&mut answer)).await?;
    assert_eq!(&answer, b"ping");
    Ok(stream)
}

#[tokio::test]
async fn unix_socket_is_served_and_removed_by_the_stop() {
    let path = path("served");
    let acceptor = build(Listen::unix(&path)).unwrap();
    assert_eq!(acceptor.local_addr().unwrap_err().kind(), io::ErrorKind::Unsupported);
    let _stream = ask(&path).await.unwrap();
    let mut conn = in_time("connect", Conn::unix(&path).logger(|_| {}).connect()).await.unwrap();
    conn.write_all(b"x").await.unwrap();
    assert_eq!(in_time("an echo", conn.read_u8()).await.unwrap(), b'x');
    conn.close().await;
    let stopped = in_time("stop", acceptor.stop(LONG)).await;
    assert_eq!(stopped.cut, 0);
    assert!(!path.exists());
}

#[tokio::test]
async fn peer_of_a_unix_socket_is_a_process() {
    let path = path("peer");
    let acceptor = Acceptor::builder(Listen::unix(&path)).handler(async |mut stream, peer| {
        assert!(stream.unix().is_some() && stream.tcp().is_none() && peer.addr().is_none());
        let Peer::Unix { pid, uid, .. } = peer else { panic!("{peer:?}") };
        stream.write_all(format!("{pid:?} {} {peer}", uid.is_some()).as_bytes()).await
    });
    let _acceptor = acceptor.build().unwrap();
    let mut text = String::new();
    let mut stream = UnixStream::connect(&path).await.unwrap();
    in_time("the answer", stream.read_to_string(&mut text)).await.unwrap();
    let own = std::process::id();
    if cfg!(target_os = "linux") {
        assert_eq!(text, format!("Some({own}) true process {own}"));
    }
}

/// Leaves the file of a socket on which nobody listens, as a killed process does.
pub fn leave_stale_file(path: &Path) {
    drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    // A process that another test starts has the listener, too, until it runs its program.
    let is_stale = || {
        let outcome = std::os::unix::net::UnixStream::connect(path);
        outcome.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    while !is_stale() {
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn stale_socket_is_replaced_and_nothing_else_is() {
    let path = path("stale");
    // A killed process leaves such a file.
    leave_stale_file(&path);
    let acceptor = build(Listen::unix(&path)).unwrap();
    let mut stream = ask(&path).await.unwrap();
    let error = build(Listen::unix(&path)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(error.to_string(), format!("cannot listen on {}", path.display()));
    // The first acceptor is not affected.
    stream.write_all(b"x").await.unwrap();
    assert_eq!(in_time("an echo", stream.read_u8()).await.unwrap(), b'x');
    // The file of another program stays.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "not a socket").unwrap();
    in_time("stop", acceptor.stop(Duration::ZERO)).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "not a socket");
    assert_eq!(build(Listen::unix(&path)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "not a socket");
    std::fs::remove_file(&path).unwrap();
    let nowhere = Listen::unix("/nonexistent/socket");
    assert_eq!(build(nowhere).unwrap_err().kind(), io::ErrorKind::NotFound);
    let long = Listen::unix(format!("/tmp/{}", "x".repeat(200)));
    assert_eq!(build(long).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn mode_and_owner_of_a_unix_socket_are_those_that_were_set() {
    let path = path("mode");
    let metadata = || std::fs::metadata(&path).unwrap();
    let acceptor = build(Listen::unix(&path)).unwrap();
    let default = metadata();
    in_time("stop", acceptor.stop(LONG)).await;
    for mode in [0o660, 0o600, 0o777] {
        let listen = Listen::unix(&path).mode(mode).owner(default.uid(), default.gid());
        let acceptor = build(listen).unwrap();
        let file = metadata();
        assert_eq!((file.mode() & 0o7777, file.uid(), file.gid()), (mode, default.uid(), default.gid()));
        in_time("a client", ask(&path)).await.unwrap();
        in_time("stop", acceptor.stop(LONG)).await;
    }
    // Only root can give a file to somebody else.
    match build(Listen::unix(&path).owner(12_345, None)) {
        Ok(_acceptor) => assert_eq!((metadata().uid(), metadata().gid()), (12_345, default.gid())),
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            assert!(!path.exists());
        }
    }
}

#[tokio::test]
async fn access_rights_that_cannot_work_are_rejected_by_name() {
    let path = path("bad-mode");
    // Decimal by mistake.
    let text = build(Listen::unix(&path).mode(660)).unwrap_err().to_string();
    assert!(text.ends_with(&format!("{}: mode 0o1224: expected at most 0o777", path.display())), "{text}");
    assert!(!path.exists());
    for listen in [Listen::from("127.0.0.1:0").mode(0o660), Listen::from("127.0.0.1:0").owner(None, 33)] {
        let text = build(listen).unwrap_err().to_string();
        assert!(text.contains("127.0.0.1:0: mode or owner: expected the path of a socket"), "{text}");
    }
}

#[tokio::test]
async fn given_listeners_are_used_as_they_are() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = build(listener).unwrap();
    assert_eq!(acceptor.local_addr().unwrap(), address);
    served(&acceptor).await;
    let path = path("given");
    let acceptor = build(std::os::unix::net::UnixListener::bind(&path).unwrap()).unwrap();
    ask(&path).await.unwrap();
    in_time("stop", acceptor.stop(LONG)).await;
    // The program has made this file, so that it stays.
    assert!(path.exists());
    std::fs::remove_file(&path).unwrap();
}

#[cfg(all(target_os = "linux", not(perconn_portable)))]
#[tokio::test]
async fn given_socket_that_does_not_listen_is_rejected() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let socket = std::net::TcpListener::from(socket);
    let address = socket.local_addr().unwrap();
    let error = build(socket).unwrap_err();
    assert!(matches!(&error, Error::InvalidConfig(_)), "{error:?}");
    assert!(error.to_string().contains(&format!("{address}: expected a listening socket")), "{error}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn given_socket_that_is_no_stream_is_rejected() {
    let path = path("seqpacket");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::SEQPACKET, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(1).unwrap();
    let listener = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(socket));
    let text = build(listener).unwrap_err().to_string();
    let expected = format!("{}: a seqpacket socket: expected a stream socket that listens", path.display());
    assert!(text.ends_with(&expected), "{text}");
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn several_listeners_share_one_limit() {
    let path = path("several");
    let listens = vec![Listen::from("127.0.0.1:0"), Listen::unix(&path), Listen::from("127.0.0.1:0")];
    let builder = Acceptor::builder(listens).logger(|_| {}).acceptors(2).overflow(Overflow::Refuse);
    let acceptor = builder.refusal("full").handler(echo).build().unwrap();
    let addresses = acceptor.local_addrs().to_vec();
    let [LocalAddr::Tcp(first), LocalAddr::Unix(Some(unix)), LocalAddr::Tcp(last)] = &addresses[..] else {
        panic!("{addresses:?}")
    };
    assert_eq!((acceptor.local_addr().unwrap(), unix), (*first, &path));
    let connect = async |address| in_time("connect", tokio::net::TcpStream::connect(address)).await.unwrap();
    let mut served = connect(last).await;
    exchange(&mut served).await.unwrap();
    let _unix = ask(unix).await.unwrap();
    for address in [first, last] {
        assert_eq!(rest(&mut connect(address).await).await.unwrap(), "full");
    }
    let mut text = String::new();
    let mut refused = UnixStream::connect(unix).await.unwrap();
    in_time("the refusal", refused.read_to_string(&mut text)).await.unwrap();
    assert_eq!((&text[..], acceptor.stats().refused), ("full", 3));
    in_time("stop", acceptor.stop(LONG)).await;
    assert!(!path.exists());
    until_refused(*first).await;
    until_refused(*last).await;
}

#[tokio::test]
async fn client_of_one_listener_does_not_wait_for_those_of_another() {
    let listens = vec![Listen::from("127.0.0.1:0"), Listen::from("127.0.0.1:0")];
    let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
    let builder = Acceptor::builder(listens).acceptors(1).handler(move |_, peer| {
        let _ = sender.send(peer.addr().unwrap());
        std::future::ready(Ok(()))
    });
    let acceptor = builder.build().unwrap();
    let [LocalAddr::Tcp(busy), LocalAddr::Tcp(quiet)] = acceptor.local_addrs() else { panic!("{acceptor:?}") };
    // All are in the kernel's queue before the acceptor runs, as nothing is awaited until then.
    let connect = |address| std::net::TcpStream::connect(address).unwrap();
    let _many: Vec<_> = (0..20).map(|_| connect(busy)).collect();
    let one = connect(quiet);
    let mut before = 0;
    while in_time("a client", order.recv()).await != one.local_addr().ok() {
        before += 1;
    }
    assert!(before < 3, "{before} clients of the other listener came first");
}

#[tokio::test]
async fn listener_that_fails_closes_those_before_it() {
    let path = path("before");
    let taken = build("127.0.0.1:0").unwrap();
    let in_use = taken.local_addr().unwrap();
    let error = build(vec![Listen::unix(&path), Listen::from(in_use)]).unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::AddrInUse, format!("cannot listen on {in_use}")));
    assert!(!path.exists());
    let error = build(Vec::new()).unwrap_err();
    assert!(error.to_string().contains("no sockets to listen on: expected at least one"), "{error}");
}
