//! What the tests share: std's servers, and waits that fail instead of hanging.

#![allow(unreachable_pub, reason = "nothing is reached from outside of a test")]

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

/// No wait in a test is meant to take long; this one says that something hangs.
pub const HANG_LIMIT: Duration = Duration::from_secs(20);

/// A time that is over soon.
pub const SHORT: Duration = Duration::from_millis(30);

/// All connections of the process share a thread, and some tests count it.
pub fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` on a thread of its own.
pub fn begin<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver
}

/// The same for work that has to wait; returns when it does.
pub fn begin_to_wait<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, thread) = mpsc::channel();
    let outcome = begin(move || {
        sender.send(stat_of_this_thread()).unwrap();
        work()
    });
    let stat = thread.recv().unwrap();
    if cfg!(target_os = "linux") {
        // The state comes after the name: S for one that sleeps. When the thread has ended, the test goes on.
        until("the thread waits", || !std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") S ")));
    } else {
        thread::sleep(SHORT);
    }
    outcome
}

/// Where the kernel tells the state of the calling thread.
fn stat_of_this_thread() -> std::path::PathBuf {
    let link = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    std::path::Path::new("/proc").join(link).join("stat")
}

/// Fails the test, instead of hanging it.
pub fn in_time<T>(what: &str, outcome: &Receiver<T>) -> T {
    match outcome.recv_timeout(HANG_LIMIT) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => panic!("hangs: {what}"),
        Err(RecvTimeoutError::Disconnected) => panic!("panicked: {what}"),
    }
}

/// Waits until something becomes true that gives no sign.
pub fn until(what: &str, is_true: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < HANG_LIMIT, "never happens: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

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

    pub fn accept(&self) -> TcpStream {
        let stream = self.listener.as_ref().expect("the server is stopped").accept().unwrap().0;
        stream.set_read_timeout(Some(HANG_LIMIT)).unwrap();
        stream
    }

    pub fn stop(&mut self) {
        self.listener = None;
    }

    pub fn restart(&mut self) {
        self.listener = Some(TcpListener::bind(self.address).unwrap());
    }

    pub fn client(&self) -> Builder<TcpDialer> {
        quick(Conn::builder(self.address))
    }

    pub fn pair(&self) -> (Conn, TcpStream) {
        (self.client().connect_blocking().unwrap(), self.accept())
    }
}

pub fn quick<D>(builder: Builder<D>) -> Builder<D> {
    builder
        .retry_min(Duration::from_millis(5))
        .retry_max(Duration::from_millis(20))
        .stable_after(Duration::ZERO)
        .logger(|_| {})
}

pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

pub fn reported_generation(error: &io::Error) -> u64 {
    match Error::of(error) {
        Some(Error::IoError { generation, .. }) => *generation,
        other => panic!("not a break: {other:?} in {error:?}"),
    }
}

pub fn is_closed(error: &io::Error) -> bool {
    matches!(Error::of(error), Some(Error::ClosedConnection))
}

/// Writes until the buffers of both kernels are full.
pub fn fill(mut conn: &Conn) {
    conn.set_write_timeout(Some(SHORT)).unwrap();
    while conn.write(&[0; 100_000]).is_ok() {}
    conn.set_write_timeout(None).unwrap();
}

/// A record: the thread, its number, the length of the rest, the rest.
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
    assert!(head[0] < 100 && length <= 400_000, "this is no beginning of a record");
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).ok()?;
    assert_eq!(rest, record(head[0], number, length)[9..]);
    Some((head[0], number))
}

pub fn length(random: &mut SmallRng) -> usize {
    if random.random_bool(0.1) { random.random_range(16_000..400_000) } else { random.random_range(0..3_000) }
}
