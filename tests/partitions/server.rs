//! The server: a process of its own on the server's machine, so that it can be stopped and killed.
//!
//! It reports on stderr, in lines that begin with [`REPORT`], and takes commands on stdin, at whose end it exits.

use std::io::{self, BufRead, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// Tells the process what to be: a mode and a port.
pub const ROLE: &str = "PERCONN_PARTITIONS_SERVER";
/// Begins each line of report.
pub const REPORT: &str = "server: ";
/// How many bytes of each stream are reported.
pub const BEGINNING: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Sends back what it receives.
    Echo,
    /// Reads and counts, and writes nothing unless it is poked.
    Silent,
    /// As `Silent`, but reads slower than a client writes: 64 KiB every 50 ms.
    Slow,
    /// As `Silent`, but reads 1 KiB every 100 ms.
    Crawling,
    /// As `Silent`, but reads only once it is opened.
    Hoard,
    /// As `Silent`, but writes a byte every 100 ms.
    Ticker,
    /// As `Echo`, but accepts only once it is opened, and lets nobody queue for it.
    Gate,
}

impl Mode {
    const ALL: [Self; 7] =
        [Self::Echo, Self::Silent, Self::Slow, Self::Crawling, Self::Hoard, Self::Ticker, Self::Gate];
}

/// What the commands act upon.
#[derive(Default)]
struct Shared {
    links: Mutex<Vec<TcpStream>>,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Shared {
    fn wait_until_open(&self) {
        let _open = self.opened.wait_while(self.is_open.lock().unwrap(), |is_open| !*is_open).unwrap();
    }

    /// Takes commands until the test that gives them is gone.
    fn obey(&self) {
        for command in io::stdin().lock().lines().map_while(Result::ok) {
            match command.as_str() {
                "open" => {
                    *self.is_open.lock().unwrap() = true;
                    self.opened.notify_all();
                }
                // What the client's kernel has given up, it answers by a reset.
                "poke" => self.links.lock().unwrap().iter().for_each(|mut link| drop(link.write(b"."))),
                other => panic!("no command: {other}"),
            }
        }
        std::process::exit(0);
    }
}

#[test]
#[ignore = "the server that the other tests start"]
fn process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (mode, port) = role.split_once(' ').unwrap();
    let mode = Mode::ALL.into_iter().find(|known| format!("{known:?}") == mode).unwrap();
    let listener = listen(port.parse().unwrap(), if mode == Mode::Gate { 0 } else { 128 });
    let shared = Arc::new(Shared::default());
    let obedient = Arc::clone(&shared);
    thread::spawn(move || obedient.obey());
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

fn serve(mode: Mode, number: u32, mut stream: TcpStream, shared: &Shared) {
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
    let mut beginning = Vec::new();
    let mut received = 0;
    let how = loop {
        match stream.read(&mut buf) {
            Ok(0) => break "closed".to_owned(),
            Ok(n) => {
                received += n;
                let missing = BEGINNING - beginning.len();
                beginning.extend_from_slice(&buf[..n.min(missing)]);
                if missing > 0 && beginning.len() == BEGINNING {
                    report(&format!(
                        "link {number} began with {}",
                        u64::from_be_bytes(beginning[..].try_into().unwrap())
                    ));
                }
            }
            Err(error) => break format!("{:?}", error.kind()),
        }
        thread::sleep(pause);
    };
    report(&format!("link {number} ended after {received} {how}"));
}

/// One system call, so that lines of several threads do not mix.
fn report(what: &str) {
    let _ = io::stderr().write_all(format!("{REPORT}{what}\n").as_bytes());
}
