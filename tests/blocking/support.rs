//! Shared parts of the tests: servers of std's, and waits that fail instead of hanging.

#![allow(unreachable_pub, reason = "a test target has no public API")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use perconn::blocking::Conn;
use perconn::{Builder, Error, TcpDialer};
use rand::RngExt;
use rand::rngs::SmallRng;

use self::slowness::SLOWNESS;

#[path = "../support/slowness.rs"]
mod slowness;

/// A wait of this length means that something hangs. No wait of a test should take long.
pub const HANG: Duration = Duration::from_secs(20 * SLOWNESS as u64);

/// A short timeout.
pub const SHORT: Duration = Duration::from_millis(30);

/// Runs one test at a time: all connections of the process share a thread, and some tests count it.
pub fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` on a thread of its own.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver
}

/// Runs `work` on a thread of its own, and returns once that thread waits.
pub fn spawn_waiting<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, thread) = mpsc::channel();
    let outcome = spawn(move || {
        sender.send(stat_of_this_thread()).unwrap();
        work()
    });
    let stat = thread.recv().unwrap();
    if cfg!(target_os = "linux") {
        // After the name comes the state: S for a thread that sleeps. A thread that has ended has no file.
        until("the thread waits", || !std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") S ")));
    } else {
        thread::sleep(SHORT);
    }
    outcome
}

/// The file in which the kernel shows the state of the calling thread.
fn stat_of_this_thread() -> std::path::PathBuf {
    let link = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    std::path::Path::new("/proc").join(link).join("stat")
}

/// The outcome of a thread. Fails the test if it does not come, instead of hanging it.
pub fn in_time<T>(what: &str, outcome: &Receiver<T>) -> T {
    match outcome.recv_timeout(HANG) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => panic!("hangs: {what}"),
        Err(RecvTimeoutError::Disconnected) => panic!("panicked: {what}"),
    }
}

/// Polls a condition until it is true, for conditions that wake nobody.
pub fn until(what: &str, is_true: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < HANG, "never happens: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A server of std's on the loopback, which accepts when the test says so.
pub struct Server {
    pub listener: Option<TcpListener>,
    pub address: SocketAddr,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener: Some(listener), address }
    }

    /// The next link. Fails the test if none comes: the wait is on a thread of its own, as std's has no time limit.
    pub fn accept(&self) -> TcpStream {
        let listener = self.listener.as_ref().expect("the server is stopped").try_clone().unwrap();
        let (stream, _) = in_time("accept", &spawn(move || listener.accept().unwrap()));
        stream.set_read_timeout(Some(HANG)).unwrap();
        stream
    }

    /// From now on, dials are refused.
    pub fn stop(&mut self) {
        self.listener = None;
    }

    pub fn restart(&mut self) {
        self.listener = Some(TcpListener::bind(self.address).unwrap());
    }

    /// The settings of a connection to this server, with short delays.
    pub fn client(&self) -> Builder<TcpDialer> {
        quick(Conn::builder(self.address))
    }

    /// A connection and the server's end of its first link.
    pub fn pair(&self) -> (Conn, TcpStream) {
        (self.client().connect_blocking().unwrap(), self.accept())
    }
}

/// Sets short delays.
pub fn quick<D>(builder: Builder<D>) -> Builder<D> {
    builder
        .retry_min(Duration::from_millis(5))
        .retry_max(Duration::from_millis(20))
        .stable_after(Duration::ZERO)
        .logger(|_| {})
}

/// Drops a stream with a reset.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// The link whose break an error reports.
pub fn broken_generation(error: &io::Error) -> u64 {
    match Error::of(error) {
        Some(Error::IoError { generation, .. }) => *generation,
        other => panic!("not a break: {other:?} in {error:?}"),
    }
}

/// Whether an error says that the program closed the connection.
pub fn is_closed(error: &io::Error) -> bool {
    matches!(Error::of(error), Some(Error::ClosedConnection))
}

/// Writes until the buffers of both kernels are full.
pub fn fill(mut conn: &Conn) {
    conn.set_write_timeout(Some(SHORT)).unwrap();
    while conn.write(&[0; 100_000]).is_ok() {}
    conn.set_write_timeout(None).unwrap();
}

/// A record: the thread's number, the record's number, the length of the rest, the rest.
pub fn record(thread: u8, number: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![thread];
    bytes.extend(number.to_be_bytes());
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend((0..length).map(|at| (at as u32 ^ number) as u8));
    bytes
}

/// The next record of a stream, checked; `None` if it ends before the record does.
pub fn read_record(stream: &mut impl Read) -> Option<(u8, u32)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let number = u32::from_be_bytes(head[1..5].try_into().unwrap());
    let length = u32::from_be_bytes(head[5..].try_into().unwrap()) as usize;
    assert!(head[0] < 100 && length <= 400_000, "thread {}, length {length}: no record begins like this", head[0]);
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).ok()?;
    assert_eq!(rest, record(head[0], number, length)[9..]);
    Some((head[0], number))
}

/// A random length: mostly below 3,000 bytes, sometimes up to 400,000.
pub fn length(random: &mut SmallRng) -> usize {
    if random.random_bool(0.1) { random.random_range(16_000..400_000) } else { random.random_range(0..3_000) }
}
