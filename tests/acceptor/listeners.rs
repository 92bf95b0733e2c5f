//! Unix sockets, and listeners that somebody else has made.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use perconn::Conn;
use perconn::acceptor::{Acceptor, Error, Listen, Peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::in_time;
use crate::world::{LONG, echo, served};

/// A path of its own for each test, without a file.
fn path(test: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("perconn-{}-{test}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

fn build(listen: impl Into<Listen>) -> Result<Acceptor, Error> {
    Acceptor::builder(listen).logger(|_| {}).handler(echo).build()
}

async fn ask(path: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(b"ping").await?;
    let mut answer = [0; 4];
    in_time("an echo", stream.read_exact(&mut answer)).await?;
    assert_eq!(&answer, b"ping");
    Ok(stream)
}

#[tokio::test]
async fn unix_socket_is_served_and_removed_at_the_end() {
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
async fn peer_of_a_unix_socket_is_known_by_its_process() {
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

#[tokio::test]
async fn socket_that_was_left_over_is_replaced_and_nothing_else_is() {
    let path = path("left-over");
    // As a process that was killed leaves it.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let acceptor = build(Listen::unix(&path)).unwrap();
    let mut stream = ask(&path).await.unwrap();
    let error = build(Listen::unix(&path)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(error.to_string(), format!("cannot listen on {}", path.display()));
    // The one that listens did not notice.
    stream.write_all(b"x").await.unwrap();
    assert_eq!(in_time("an echo", stream.read_u8()).await.unwrap(), b'x');
    // Another's file stays.
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
    // The program's own.
    assert!(path.exists());
    std::fs::remove_file(&path).unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn given_socket_that_does_not_listen_is_named() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let socket = std::net::TcpListener::from(socket);
    let address = socket.local_addr().unwrap();
    let error = build(socket).unwrap_err();
    assert!(matches!(&error, Error::InvalidConfig(_)), "{error:?}");
    assert!(error.to_string().contains(&format!("{address}: expected a socket that listens")), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn sockets_of_a_service_manager_are_served() {
    let unix = path("activation");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    // Standard input and output carry the sockets to where a service manager would have put them.
    let script = "exec 3<&0 4>&1 0</dev/null 1>/dev/null; LISTEN_PID=$$ LISTEN_FDS=2 exec \"$0\" --exact listeners::activated --ignored --nocapture";
    let mut child = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(tcp)))
        .stdout(Stdio::from(std::os::fd::OwnedFd::from(std::os::unix::net::UnixListener::bind(&unix).unwrap())))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = io::BufReader::new(child.stderr.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), format!("activated {address} and 2 in all"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        ask(&unix).await.unwrap();
        let mut stream = in_time("connect", tokio::net::TcpStream::connect(address)).await.unwrap();
        crate::world::exchange(&mut stream).await.unwrap();
    });
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_file(&unix).unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "the process that the other test starts with two sockets"]
async fn activated() {
    if std::env::var_os("LISTEN_FDS").is_none() {
        return;
    }
    let acceptors: Vec<_> =
        Listen::from_environment().unwrap().into_iter().map(|listen| build(listen).unwrap()).collect();
    eprintln!("activated {} and {} in all", acceptors[0].local_addr().unwrap(), acceptors.len());
    std::future::pending::<()>().await;
}

#[cfg(target_os = "linux")]
#[test]
fn without_a_service_manager_that_is_said() {
    // (No other test sets these.)
    let error = Listen::from_environment().unwrap_err();
    assert!(error.to_string().contains("LISTEN_PID is not set"), "{error}");
}
