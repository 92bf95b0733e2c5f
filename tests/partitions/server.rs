//! The server: a process of its own on the server's machine, so that a test can stop and kill it.
//!
//! It writes reports to stderr, in lines that start with [`REPORT`], and reads commands from stdin. It exits at the end
//! of stdin.

use std::io::{self, BufRead, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// The environment variable with the mode and the port of the process.
pub const ROLE: &str = "PERCONN_PARTITIONS_SERVER";
/// The start of each line with a report.
pub const REPORT: &str = "server: ";
/// How many of the first bytes of each stream are reported.
pub const HEAD_LEN: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Sends back what it receives.
    Echo,
    /// Reads and counts. Writes only when it gets the command "poke".
    Silent,
    /// Like `Silent`, but reads slower than a client writes: 64 KiB every 50 ms.
    Slow,
    /// Like `Silent`, but reads 1 KiB every 100 ms.
    Crawling,
    /// Like `Silent`, but reads only after the command "open".
    Hoard,
    /// Like `Silent`, but writes a byte every 100 ms.
    Ticker,
    /// Like `Echo`, but accepts only after the command "open", and has no backlog.
    Gate,
}

impl Mode {
    const ALL: [Self; 7] =
        [Self::Echo, Self::Silent, Self::Slow, Self::Crawling, Self::Hoard, Self::Ticker, Self::Gate];
}

/// What the commands act on.
#[derive(Default)]
struct ServerState {
    links: Mutex<Vec<TcpStream>>,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl ServerState {
    fn wait_until_open(&self) {
        let _open = self.opened.wait_while(self.is_open.lock().unwrap(), |is_open| !*is_open).unwrap();
    }

    /// Runs commands until the test closes stdin.
    fn run_commands(&self) {
        for command in io::stdin().lock().lines().map_while(Result::ok) {
            match command.as_str() {
                "open" => {
                    *self.is_open.lock().unwrap() = true;
                    self.opened.notify_all();
                }
                // The client's kernel answers with a reset on a link that it has dropped.
                "poke" => self.links.lock().unwrap().iter().for_each(|mut link| drop(link.write(b"."))),
                other => panic!("expected open or poke, got {other:?}"),
            }
        }
        std::process::exit(0);
    }
}

#[test]
#[ignore = "the server process that the other tests start"]
fn process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (mode, port) = role.split_once(' ').unwrap();
    let mode = Mode::ALL.into_iter().find(|known| format!("{known:?}") == mode).unwrap();
    let listener = listen(port.parse().unwrap(), if mode == Mode::Gate { 0 } else { 128 });
    let shared = Arc::new(ServerState::default());
    let commands = Arc::clone(&shared);
    thread::spawn(move || commands.run_commands());
    report("listening");
    if mode == Mode::Gate {
        shared.wait_until_open();
    }
    for (number, stream) in (1..).zip(listener.incoming()) {
        let (stream, shared) = (stream.unwrap(), Arc::clone(&shared));
        shared.links.lock().unwrap().push(stream.try_clone().unwrap());
        thread::spawn(move || serve(mode, number, stream, &shared));
    }
}

/// Listens on both families.
fn listen(port: u16, backlog: i32) -> TcpListener {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    socket.set_only_v6(false).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into()).unwrap();
    socket.listen(backlog).unwrap();
    socket.into()
}

fn serve(mode: Mode, number: u32, mut stream: TcpStream, shared: &ServerState) {
    match mode {
        Mode::Echo | Mode::Gate => return drop(io::copy(&mut stream.try_clone().unwrap(), &mut stream)),
        Mode::Hoard => shared.wait_until_open(),
        Mode::Ticker => {
            let mut stream = stream.try_clone().unwrap();
            thread::spawn(move || {
                while stream.write_all(b"t").is_ok() {
                    thread::sleep(Duration::from_millis(100));
                }
            });
        }
        Mode::Silent | Mode::Slow | Mode::Crawling => {}
    }
    let (chunk, pause) = match mode {
        Mode::Slow => (64 << 10, 50),
        Mode::Crawling => (1 << 10, 100),
        _ => (256 << 10, 0),
    };
    count(number, stream, chunk, Duration::from_millis(pause));
}

fn count(number: u32, mut stream: TcpStream, chunk: usize, pause: Duration) {
    let mut buf = vec![0; chunk];
    let mut head = Vec::new();
    let mut received = 0;
    let how = loop {
        match stream.read(&mut buf) {
            Ok(0) => break "closed".to_owned(),
            Ok(n) => {
                received += n;
                let missing = HEAD_LEN - head.len();
                head.extend_from_slice(&buf[..n.min(missing)]);
                if missing > 0 && head.len() == HEAD_LEN {
                    report(&format!("link {number} began with {}", u64::from_be_bytes(head[..].try_into().unwrap())));
                }
            }
            Err(error) => break format!("{:?}", error.kind()),
        }
        thread::sleep(pause);
    };
    report(&format!("link {number} ended after {received} {how}"));
}

/// Writes a report in one system call, so that the lines of several threads do not mix.
fn report(what: &str) {
    let _ = io::stderr().write_all(format!("{REPORT}{what}\n").as_bytes());
}
