//! Sockets of a service manager: the server is a process of its own, which inherits them.

use std::io::{BufRead, BufReader, Lines};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use perconn::acceptor::{Acceptor, Listen, Overflow};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{echo, exchange, rest};
use crate::support::in_time;

/// A server that inherits two sockets as descriptors 3 and 4. It is killed in the end.
struct Server {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Server {
    /// Starts one of the ignored tests below, with these variables beside `LISTEN_PID`.
    fn start(test: &str, sockets: [OwnedFd; 2], variables: &[(&str, &str)]) -> Self {
        // Standard input and output carry the sockets, and the script moves them.
        let script =
            "exec 3<&0 4>&1 0</dev/null 1>/dev/null; LISTEN_PID=$$ exec \"$0\" --exact \"$1\" --ignored --nocapture";
        let [first, second] = sockets;
        let mut child = Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .arg(format!("activation::{test}"))
            .envs(variables.iter().copied())
            .stdin(Stdio::from(first))
            .stdout(Stdio::from(second))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that it writes.
    fn line(&mut self) -> String {
        self.lines.next().expect("the server has ended").unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Unix socket with a file that is removed in the end.
struct UnixPath(PathBuf);

impl UnixPath {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("perconn-{}-{test}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for UnixPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn sockets(unix: &Path) -> ([OwnedFd; 2], SocketAddr) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    ([tcp.into(), UnixListener::bind(unix).unwrap().into()], address)
}

#[tokio::test]
async fn sockets_of_a_service_manager_are_served_by_one_acceptor_with_one_limit() {
    let unix = UnixPath::new("activated");
    let (sockets, address) = sockets(&unix.0);
    let mut server = Server::start("serves_all", sockets, &[("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "web:admin")]);
    assert_eq!(server.line(), format!("{address}, {}: Some(\"web\"), Some(\"admin\")", unix.0.display()));
    let connect = async || in_time("connect", tokio::net::TcpStream::connect(address)).await.unwrap();
    let mut served = connect().await;
    exchange(&mut served).await.unwrap();
    let mut stream = in_time("connect", tokio::net::UnixStream::connect(&unix.0)).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(in_time("an echo", stream.read_u8()).await.unwrap(), b'x');
    // Both slots are taken, one from each socket.
    assert_eq!(rest(&mut connect().await).await.unwrap(), "full");
}

#[tokio::test]
#[ignore = "the process that the test above starts with two sockets"]
async fn serves_all() {
    if std::env::var_os("LISTEN_FDS").is_none() {
        return;
    }
    let listens = Listen::from_environment().unwrap();
    let names: Vec<_> = listens.iter().map(|listen| format!("{:?}", listen.name())).collect();
    let builder = Acceptor::builder(listens).logger(|_| {}).acceptors(2).overflow(Overflow::Refuse).refusal("full");
    let acceptor = builder.handler(echo).build().unwrap();
    let addresses: Vec<_> = acceptor.local_addrs().iter().map(ToString::to_string).collect();
    eprintln!("{}: {}", addresses.join(", "), names.join(", "));
    std::future::pending::<()>().await;
}

#[test]
fn child_of_an_activated_server_inherits_no_socket() {
    let unix = UnixPath::new("child");
    let mut server = Server::start("starts_a_child", sockets(&unix.0).0, &[("LISTEN_FDS", "2")]);
    let mut line = server.line();
    // `ls` calls each socket so.
    while line != "end" {
        assert!(!line.contains("socket:"), "{line}");
        line = server.line();
    }
}

#[test]
#[ignore = "the process that the test above starts with two sockets"]
fn starts_a_child() {
    if std::env::var_os("LISTEN_FDS").is_none() {
        return;
    }
    // A second call finds them again.
    let twice = [Listen::from_environment().unwrap(), Listen::from_environment().unwrap()];
    assert_eq!(twice.map(|listens| listens.len()), [2, 2]);
    let output = Command::new("ls").args(["-l", "/proc/self/fd/"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("pipe:"), "{text}");
    eprintln!("{text}end");
}

/// What the server says of these sockets.
fn refused(sockets: [OwnedFd; 2], variables: &[(&str, &str)]) -> String {
    Server::start("prints_the_error", sockets, variables).line()
}

#[test]
#[ignore = "the process that the test below starts with two sockets"]
fn prints_the_error() {
    if std::env::var_os("LISTEN_FDS").is_some() {
        eprintln!("{}", Listen::from_environment().unwrap_err().with_causes());
    }
}

#[test]
fn descriptors_that_are_no_listening_streams_are_refused_by_name() {
    let unix = UnixPath::new("refused");
    let tcp = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let seqpacket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    seqpacket.bind(&SockAddr::unix(&unix.0).unwrap()).unwrap();
    seqpacket.listen(1).unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    #[cfg(not(perconn_portable))]
    let connected = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let cases: Vec<(OwnedFd, &str)> = vec![
        (seqpacket.into(), "descriptor 4 (\"b\"): a seqpacket socket: expected a stream socket that listens"),
        (datagrams.into(), "descriptor 4 (\"b\"): a datagram socket: expected a stream socket that listens"),
        // The other systems do not say whether a socket listens.
        #[cfg(not(perconn_portable))]
        (connected.into(), "descriptor 4 (\"b\"): expected a listening socket"),
        (file.into(), "descriptor 4 (\"b\"): not a socket"),
    ];
    for (bad, expected) in cases {
        let text = refused([tcp(), bad], &[("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "a:b")]);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn bad_variables_are_refused_by_name() {
    let pair = || [(); 2].map(|()| OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap()));
    for (count, names, expected) in [
        ("0", "a:b", "LISTEN_FDS 0: expected at least 1 socket"),
        ("two", "a:b", "LISTEN_FDS \"two\": expected a number"),
        ("-1", "a:b", "LISTEN_FDS \"-1\": expected a number"),
        ("2", "a", "LISTEN_FDNAMES \"a\": expected 2 names, one for each descriptor"),
        ("4194304", "", "LISTEN_FDNAMES \"\": expected 4194304 names"),
    ] {
        let text = refused(pair(), &[("LISTEN_FDS", count), ("LISTEN_FDNAMES", names)]);
        assert!(text.contains(expected), "{text}");
    }
    let text = refused(pair(), &[("LISTEN_FDS", "1000")]);
    assert!(text.contains("cannot listen on the 1000 descriptors of LISTEN_FDS: Bad file descriptor"), "{text}");
}

#[test]
fn without_a_service_manager_the_error_names_the_variable() {
    // No other test sets the variables in this process.
    let error = Listen::from_environment().unwrap_err();
    assert!(error.to_string().contains("LISTEN_PID is not set"), "{error}");
}

#[test]
fn highest_process_id_of_linux_is_accepted() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "activation::prints_the_error", "--ignored", "--nocapture"]);
    let output = child.env("LISTEN_PID", "4194304").env("LISTEN_FDS", "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    // It is another process, and that is all that is wrong.
    assert!(text.contains("LISTEN_PID 4194304: expected ") && text.contains("this process"), "{text}");
}
