//! `perconn::blocking`: threads, std's traits, std's servers; and no runtime in sight.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use perconn::blocking::Conn;
use perconn::{Builder, Error, TcpDialer, WhenDown, dial_fn};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::DuplexStream;

/// No wait in a test is meant to take long; this one says that something hangs.
const HANG: Duration = Duration::from_secs(20);

/// A time that is over soon.
const SHORT: Duration = Duration::from_millis(30);

/// All connections of the process share a thread, and some tests count it.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` on a thread of its own.
fn begin<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver
}

/// Fails the test, instead of hanging it.
fn soon<T>(what: &str, outcome: &Receiver<T>) -> T {
    match outcome.recv_timeout(HANG) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => panic!("hangs: {what}"),
        Err(RecvTimeoutError::Disconnected) => panic!("panicked: {what}"),
    }
}

/// Waits until something becomes true that gives no sign.
fn until(what: &str, is_true: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < HANG, "never happens: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

struct Server {
    listener: Option<TcpListener>,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener: Some(listener), address }
    }

    fn accept(&self) -> TcpStream {
        let stream = self.listener.as_ref().expect("the server is stopped").accept().unwrap().0;
        stream.set_read_timeout(Some(HANG)).unwrap();
        stream
    }

    fn stop(&mut self) {
        self.listener = None;
    }

    fn restart(&mut self) {
        self.listener = Some(TcpListener::bind(self.address).unwrap());
    }

    fn client(&self) -> Builder<TcpDialer> {
        quick(Conn::builder(self.address))
    }

    fn pair(&self) -> (Conn, TcpStream) {
        (self.client().connect_blocking().unwrap(), self.accept())
    }
}

fn quick<D>(builder: Builder<D>) -> Builder<D> {
    builder
        .retry_min(Duration::from_millis(5))
        .retry_max(Duration::from_millis(20))
        .stable_after(Duration::ZERO)
        .logger(|_| {})
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

fn told_generation(error: &io::Error) -> u64 {
    match Error::of(error) {
        Some(Error::IoError { generation, .. }) => *generation,
        other => panic!("not a break: {other:?} in {error:?}"),
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(Error::of(error), Some(Error::ClosedConnection))
}

/// Writes until the buffers of both kernels are full.
fn fill(mut conn: &Conn) {
    conn.set_write_timeout(Some(SHORT)).unwrap();
    while conn.write(&[0; 100_000]).is_ok() {}
    conn.set_write_timeout(None).unwrap();
}

// ===== like a TcpStream =====

#[test]
fn it_is_read_and_written_with_the_tools_of_std() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, peer) = server.pair();
    let echo = begin(move || io::copy(&mut &peer, &mut &peer));
    write!(conn, "one {}\ntwo\n", 1).unwrap();
    conn.flush().unwrap();
    let mut lines = BufReader::new(conn.try_clone().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "one 1");
    assert_eq!(lines.next().unwrap().unwrap(), "two");
    let parts = [io::IoSlice::new(b"a"), io::IoSlice::new(b""), io::IoSlice::new(b"bc")];
    assert_eq!(conn.write_vectored(&parts).unwrap(), 3);
    assert_eq!(conn.read(&mut []).unwrap(), 0);
    conn.shutdown().unwrap();
    let mut rest = Vec::new();
    assert_eq!(io::copy(&mut &conn, &mut rest).unwrap(), 3);
    assert_eq!(rest, b"abc");
    assert_eq!(soon("the echo ends", &echo).unwrap(), 13);
}

#[test]
fn first_dial_that_fails_is_returned_and_bad_settings_are_named() {
    let _alone = alone();
    let mut server = Server::start();
    server.stop();
    let error = Conn::connect(server.address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(matches!(Error::of(&error), Some(Error::DialFailure { attempt: 1, .. })));
    let error = Conn::builder("no-port").build_blocking().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("no-port"), "{error}");
}

#[test]
fn addresses_and_state_are_those_of_the_live_link() {
    let _alone = alone();
    let mut server = Server::start();
    let (mut conn, peer) = server.pair();
    assert_eq!(conn.peer_addr().unwrap(), server.address);
    assert_eq!(conn.local_addr().unwrap(), peer.peer_addr().unwrap());
    assert!(conn.is_connected() && conn.current_status().is_connected());
    assert_eq!(conn.generation(), 1);
    server.stop();
    drop(peer);
    until("the break is noticed", || !conn.is_connected());
    assert_eq!(conn.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(conn.wait_connected(SHORT).unwrap_err().kind(), ErrorKind::WouldBlock);
    server.restart();
    conn.wait_connected(None).unwrap();
    let peer = server.accept();
    assert_eq!(conn.generation(), 2);
    // The break is untold, so the link is not this handle's yet.
    assert_eq!(conn.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(told_generation(&conn.write(b"x").unwrap_err()), 1);
    assert_eq!(conn.local_addr().unwrap(), peer.peer_addr().unwrap());
}

// ===== told once, no torn frames =====

#[test]
fn break_told_by_a_write_is_not_told_by_the_next_read() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, mut peer) = server.pair();
    peer.write_all(b"left").unwrap();
    drop(peer);
    let mut peer = server.accept();
    peer.write_all(b"new").unwrap();
    assert_eq!(told_generation(&conn.write(b"x").unwrap_err()), 1);
    let mut bytes = [0; 3];
    conn.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"new");
}

#[test]
fn break_told_by_a_read_is_not_told_by_the_next_write() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, peer) = server.pair();
    drop(peer);
    assert_eq!(conn.read(&mut [0; 8]).unwrap(), 0);
    let mut peer = server.accept();
    conn.write_all(b"new").unwrap();
    let mut bytes = [0; 3];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"new");
}

#[test]
fn each_clone_is_told_of_each_break_once_in_order() {
    let _alone = alone();
    let server = Server::start();
    let (conn, mut peer) = server.pair();
    let mut readers: Vec<_> = (0..3).map(|_| conn.try_clone().unwrap()).collect();
    let mut writers: Vec<_> = (0..3).map(|_| conn.try_clone().unwrap()).collect();
    for generation in 2..=4 {
        reset(peer);
        peer = server.accept();
        until("the next link is up", || conn.generation() == generation && conn.is_connected());
    }
    for _ in 0..2 {
        // The last two times around, the other direction tells.
        std::mem::swap(&mut readers, &mut writers);
    }
    for generation in 1..=3 {
        for reader in &mut readers {
            assert_eq!(told_generation(&reader.read(&mut [0; 8]).unwrap_err()), generation);
        }
        for writer in &mut writers {
            assert_eq!(told_generation(&writer.write(b"torn").unwrap_err()), generation);
        }
    }
    // Now they trade places.
    for (number, conn) in readers.iter_mut().enumerate() {
        conn.write_all(&[number as u8]).unwrap();
    }
    let mut bytes = [0; 3];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, [0, 1, 2]);
    for conn in &mut writers {
        peer.write_all(b"x").unwrap();
        assert_eq!(conn.read(&mut [0]).unwrap(), 1);
    }
    // A clone knows what its maker knew; the maker itself has slept.
    assert_eq!(writers[0].try_clone().unwrap().write(b"y").unwrap(), 1);
    for generation in 1..=3 {
        assert_eq!(told_generation(&(&conn).write(b"torn").unwrap_err()), generation);
    }
    assert_eq!((&conn).write(b"z").unwrap(), 1);
}

#[test]
fn reader_with_its_own_handle_reads_what_arrived_before_the_break() {
    let _alone = alone();
    let server = Server::start();
    let (mut writer, mut peer) = server.pair();
    let mut reader = writer.try_clone().unwrap();
    peer.write_all(b"last words").unwrap();
    drop(peer);
    let _peer = server.accept();
    assert_eq!(told_generation(&writer.write(b"x").unwrap_err()), 1);
    let mut words = [0; 10];
    reader.read_exact(&mut words).unwrap();
    assert_eq!(&words, b"last words");
    assert_eq!(reader.read(&mut words).unwrap(), 0);
}

#[test]
fn rest_of_a_write_is_never_sent_on_the_next_link() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, peer) = server.pair();
    let mut other = conn.try_clone().unwrap();
    let writer = begin(move || {
        let outcome = conn.write_all(&vec![1; 50_000_000]);
        (conn, outcome)
    });
    (&peer).read_exact(&mut [0; 100_000]).unwrap();
    reset(peer);
    let mut peer = server.accept();
    let (mut conn, outcome) = soon("the write fails", &writer);
    assert_eq!(told_generation(&outcome.unwrap_err()), 1);
    conn.write_all(&[2; 10]).unwrap();
    let mut bytes = [0; 10];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, [2; 10]);
    assert_eq!(told_generation(&other.write(b"x").unwrap_err()), 1);
}

#[test]
fn rest_of_a_write_stays_tied_to_its_link_though_a_read_was_told_first() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, peer) = server.pair();
    conn.set_write_timeout(Some(SHORT)).unwrap();
    let bytes = vec![1; 50_000_000];
    let sent = conn.write(&bytes).unwrap();
    assert!((1..bytes.len()).contains(&sent), "{sent}");
    reset(peer);
    assert_eq!(told_generation(&conn.read(&mut [0; 8]).unwrap_err()), 1);
    let mut peer = server.accept();
    assert_eq!(told_generation(&conn.write(&bytes[sent..]).unwrap_err()), 1);
    conn.write_all(&[2]).unwrap();
    let mut first = [0];
    peer.read_exact(&mut first).unwrap();
    assert_eq!(first, [2]);
}

#[test]
fn waiting_read_and_write_of_one_handle_both_end_with_the_break() {
    let _alone = alone();
    let server = Server::start();
    let (conn, peer) = server.pair();
    fill(&conn);
    let conn = Arc::new(conn);
    let (for_read, for_write) = (Arc::clone(&conn), Arc::clone(&conn));
    let read = begin(move || (&*for_read).read(&mut [0; 8]));
    let write = begin(move || (&*for_write).write_all(&vec![0; 50_000_000]));
    thread::sleep(SHORT);
    reset(peer);
    let _peer = server.accept();
    assert_eq!(told_generation(&soon("the read", &read).unwrap_err()), 1);
    assert_eq!(told_generation(&soon("the write", &write).unwrap_err()), 1);
}

// ===== several threads =====

#[test]
fn waiting_read_keeps_no_write_waiting() {
    let _alone = alone();
    let server = Server::start();
    let (conn, mut peer) = server.pair();
    let mut reader = conn.try_clone().unwrap();
    let read = begin(move || reader.read(&mut [0; 8]));
    thread::sleep(SHORT);
    let written = begin(move || ((&conn).write_all(b"hello"), conn.peer_addr(), conn));
    let (outcome, address, _conn) = soon("the write", &written);
    outcome.unwrap();
    assert_eq!(address.unwrap(), server.address);
    peer.read_exact(&mut [0; 5]).unwrap();
    peer.write_all(b"hi").unwrap();
    assert_eq!(soon("the read", &read).unwrap(), 2);
}

/// A record: the thread, its number, the length of the rest, the rest.
fn record(thread: u8, number: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![thread];
    bytes.extend(number.to_be_bytes());
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend((0..length).map(|at| (at as u32 ^ number) as u8));
    bytes
}

/// The next record of a stream, checked; `None` if it ends before the record does.
fn read_record(stream: &mut impl Read) -> Option<(u8, u32)> {
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

fn length(random: &mut SmallRng) -> usize {
    if random.random_bool(0.1) { random.random_range(16_000..400_000) } else { random.random_range(0..3_000) }
}

#[test]
fn records_of_many_threads_are_never_mixed_and_keep_their_order() {
    let _alone = alone();
    const THREADS: u8 = 8;
    const RECORDS: u32 = 100;
    let server = Server::start();
    let (conn, mut peer) = server.pair();
    for thread in 0..THREADS {
        let mut conn = conn.try_clone().unwrap();
        thread::spawn(move || {
            let mut random = SmallRng::seed_from_u64(thread.into());
            for number in 0..RECORDS {
                conn.write_all(&record(thread, number, length(&mut random))).unwrap();
            }
        });
    }
    drop(conn);
    let mut next = HashMap::new();
    while let Some((thread, number)) = read_record(&mut peer) {
        let next = next.entry(thread).or_insert(0);
        assert_eq!(number, *next, "thread {thread}");
        *next += 1;
    }
    assert_eq!(next.len(), usize::from(THREADS));
    assert!(next.values().all(|next| *next == RECORDS));
}

#[test]
fn several_readers_get_every_byte_once() {
    let _alone = alone();
    let server = Server::start();
    let (conn, mut peer) = server.pair();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let mut conn = conn.try_clone().unwrap();
            begin(move || {
                let mut bytes = Vec::new();
                conn.read_to_end(&mut bytes).map(|_| bytes)
            })
        })
        .collect();
    for number in 0..=200 {
        peer.write_all(&[number]).unwrap();
    }
    drop(peer);
    let mut all = Vec::new();
    for reader in &readers {
        // Each is told of the end once.
        all.extend(soon("a reader", reader).unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (0..=200).collect::<Vec<u8>>());
}

// ===== timeouts =====

#[test]
fn timeout_of_zero_is_refused() {
    let _alone = alone();
    let server = Server::start();
    let (conn, _peer) = server.pair();
    for outcome in [conn.set_read_timeout(Some(Duration::ZERO)), conn.set_write_timeout(Some(Duration::ZERO))] {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(conn.read_timeout().unwrap(), None);
    conn.set_read_timeout(Some(SHORT)).unwrap();
    let clone = conn.try_clone().unwrap();
    clone.set_write_timeout(Some(SHORT)).unwrap();
    assert_eq!(clone.read_timeout().unwrap(), Some(SHORT));
    assert_eq!(conn.write_timeout().unwrap(), None);
}

#[test]
fn read_that_times_out_is_no_break_and_loses_nothing() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, mut peer) = server.pair();
    conn.set_read_timeout(Some(SHORT)).unwrap();
    let start = Instant::now();
    let error = conn.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(start.elapsed() >= SHORT && Error::of(&error).is_none());
    conn.set_read_timeout(None).unwrap();
    peer.write_all(b"late").unwrap();
    let mut bytes = [0; 4];
    conn.read_exact(&mut bytes).unwrap();
    assert_eq!((&bytes, conn.generation()), (b"late", 1));
}

#[test]
fn write_that_times_out_says_what_it_sent_and_can_go_on() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, mut peer) = server.pair();
    conn.set_write_timeout(Some(SHORT)).unwrap();
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|at| (at / 1000) as u8).collect();
    let mut sent = 0;
    let error = loop {
        match conn.write(&bytes[sent..]) {
            Ok(n) => sent += n,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!((1..bytes.len()).contains(&sent), "{sent}");
    let expected = bytes.clone();
    let server = begin(move || {
        let mut received = vec![0; expected.len()];
        peer.read_exact(&mut received).map(|()| received == expected)
    });
    conn.set_write_timeout(None).unwrap();
    conn.write_all(&bytes[sent..]).unwrap();
    assert!(soon("the server has it all", &server).unwrap());
}

#[test]
fn timeouts_hold_during_an_outage_and_while_another_thread_writes() {
    let _alone = alone();
    let mut server = Server::start();
    let (mut conn, peer) = server.pair();
    conn.set_write_timeout(Some(SHORT)).unwrap();
    conn.set_read_timeout(Some(SHORT)).unwrap();
    let stuck = conn.try_clone().unwrap();
    stuck.set_write_timeout(None).unwrap();
    let stuck = begin(move || (&stuck).write_all(&vec![0; 50_000_000]));
    thread::sleep(SHORT);
    // It waits for its turn.
    assert_eq!(conn.write(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    server.stop();
    reset(peer);
    assert_eq!(told_generation(&soon("the long write", &stuck).unwrap_err()), 1);
    assert_eq!(told_generation(&conn.read(&mut [0]).unwrap_err()), 1);
    assert_eq!(conn.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(conn.write(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    server.restart();
    conn.set_write_timeout(None).unwrap();
    conn.write_all(b"back").unwrap();
    server.accept().read_exact(&mut [0; 4]).unwrap();
}

#[test]
fn policy_for_outages_is_the_builders() {
    let _alone = alone();
    let mut server = Server::start();
    server.stop();
    let mut conn = server.client().when_down(WhenDown::Fail).build_blocking().unwrap();
    assert!(matches!(Error::of(&conn.write(b"x").unwrap_err()), Some(Error::Down { .. })));
    let mut conn = server.client().when_down(WhenDown::WaitFor(SHORT)).build_blocking().unwrap();
    assert!(matches!(Error::of(&conn.read(&mut [0]).unwrap_err()), Some(Error::WaitTimeout { .. })));
    let mut conn = server.client().max_retries(1).build_blocking().unwrap();
    assert!(matches!(Error::of(&conn.read(&mut [0]).unwrap_err()), Some(Error::GaveUp { .. })));
    assert!(matches!(Error::of(&conn.wait_connected(None).unwrap_err()), Some(Error::GaveUp { .. })));
}

// ===== the end =====

#[test]
fn close_wakes_every_waiting_reader_and_writer() {
    let _alone = alone();
    let server = Server::start();
    let (conn, _peer) = server.pair();
    fill(&conn);
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut reader = conn.try_clone().unwrap();
        waiting.push(begin(move || reader.read(&mut [0; 8]).map(drop)));
        let mut writer = conn.try_clone().unwrap();
        waiting.push(begin(move || writer.write_all(&vec![0; 50_000_000])));
    }
    thread::sleep(SHORT);
    let mut other = conn.try_clone().unwrap();
    soon("close", &begin(move || conn.close()));
    for outcome in &waiting {
        assert!(is_closed(&soon("a waiting operation", outcome).unwrap_err()));
    }
    assert!(is_closed(&other.read(&mut [0]).unwrap_err()));
    assert!(is_closed(&other.write(b"x").unwrap_err()));
    assert!(is_closed(&other.wait_connected(None).unwrap_err()));
}

#[test]
fn close_during_an_outage_wakes_who_waits_for_a_link() {
    let _alone = alone();
    let mut server = Server::start();
    server.stop();
    let conn = server.client().build_blocking().unwrap();
    let (mut reader, mut writer, up) =
        (conn.try_clone().unwrap(), conn.try_clone().unwrap(), conn.try_clone().unwrap());
    let waiting = [
        begin(move || reader.read(&mut [0; 8]).map(drop)),
        begin(move || writer.write_all(b"x")),
        begin(move || up.wait_connected(None)),
    ];
    thread::sleep(SHORT);
    soon("close", &begin(move || conn.close()));
    for outcome in &waiting {
        assert!(is_closed(&soon("a waiting operation", outcome).unwrap_err()));
    }
}

#[test]
fn shutdown_ends_the_conversation_and_a_write_that_waits() {
    let _alone = alone();
    let server = Server::start();
    let (conn, mut peer) = server.pair();
    fill(&conn);
    let mut writer = conn.try_clone().unwrap();
    let write = begin(move || writer.write_all(&vec![0; 50_000_000]));
    thread::sleep(SHORT);
    conn.shutdown().unwrap();
    assert_eq!(soon("the write", &write).unwrap_err().kind(), ErrorKind::BrokenPipe);
    let server = begin(move || {
        io::copy(&mut peer, &mut io::sink()).unwrap();
        peer.write_all(b"bye").unwrap();
    });
    let mut bytes = Vec::new();
    (&conn).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"bye");
    soon("the server", &server);
    assert!(is_closed(&(&conn).read(&mut [0]).unwrap_err()));
}

#[test]
fn last_handle_that_is_dropped_closes_the_socket() {
    let _alone = alone();
    let server = Server::start();
    let (conn, mut peer) = server.pair();
    let clone = conn.try_clone().unwrap();
    drop(conn);
    (&clone).write_all(b"still here").unwrap();
    peer.read_exact(&mut [0; 10]).unwrap();
    drop(clone);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

#[test]
fn forced_reconnect_is_told_to_a_waiting_read() {
    let _alone = alone();
    let server = Server::start();
    let (conn, _peer) = server.pair();
    let mut reader = conn.try_clone().unwrap();
    let read = begin(move || (reader.read(&mut [0; 8]), reader));
    thread::sleep(SHORT);
    conn.reconnect();
    let (outcome, mut reader) = soon("the read", &read);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    server.accept().write_all(b"x").unwrap();
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn background_thread_and_descriptors_are_gone_with_the_last_connection() {
    fn names() -> Vec<String> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let name = |task: io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
        tasks.filter_map(name).filter(|name| name.starts_with("perconn")).collect()
    }
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let _alone = alone();
    until("earlier tests' thread ends", || names().is_empty());
    let before = descriptors();
    for _ in 0..3 {
        let server = Server::start();
        let pairs: Vec<_> = (0..50).map(|_| server.pair()).collect();
        assert_eq!(names(), ["perconn-blockin\n"]);
        drop(pairs);
        drop(server);
        until("the thread ends", || names().is_empty());
        until("all is closed", || descriptors() <= before);
    }
}

#[test]
fn closed_event_comes_though_the_last_handle_is_gone() {
    let _alone = alone();
    let server = Server::start();
    let (sender, events) = mpsc::channel();
    let conn = server.client().on_event(move |event| drop(sender.send(event.to_string()))).connect_blocking().unwrap();
    drop(conn);
    let mut seen = Vec::new();
    // The hook is dropped with the actor.
    while let Ok(event) = events.recv_timeout(HANG) {
        seen.push(event);
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}

// ===== strange places =====

fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (peer, _) = listener.accept().unwrap();
        io::copy(&mut &peer, &mut &peer)
    });
    address
}

/// More operations than a task of tokio may do at a stretch, and a wait.
fn talk(mut conn: Conn) {
    for number in 0..300_u32 {
        conn.write_all(&number.to_be_bytes()).unwrap();
        let mut echo = [0; 4];
        conn.read_exact(&mut echo).unwrap();
        assert_eq!(echo, number.to_be_bytes());
    }
    conn.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert_eq!(conn.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    conn.close();
}

#[test]
fn it_works_on_the_threads_of_a_runtime() {
    let _alone = alone();
    for mut builder in [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()] {
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        let done = begin(move || {
            runtime.block_on(async {
                talk(Conn::connect(echo_server()).unwrap());
                tokio::spawn(async { talk(Conn::connect(echo_server()).unwrap()) }).await.unwrap();
                tokio::task::spawn_blocking(|| talk(Conn::connect(echo_server()).unwrap())).await.unwrap();
            });
        });
        soon("talking in a runtime", &done);
    }
}

/// A connection over pipes in memory, and their far ends.
fn pipes() -> (Conn<DuplexStream>, Receiver<DuplexStream>) {
    let (sender, peers) = mpsc::channel();
    let dialer = dial_fn(move || {
        let (near, far) = tokio::io::duplex(64);
        sender.send(far).unwrap();
        std::future::ready(Ok(near))
    });
    (quick(perconn::Conn::builder("memory").dialer(dialer)).connect_blocking().unwrap(), peers)
}

#[test]
fn streams_that_are_no_sockets_work_also_on_the_thread_of_a_runtime() {
    let _alone = alone();
    let talk = || {
        let (mut conn, peers) = pipes();
        let server = begin(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for peer in peers.iter().take(2) {
                let (mut read, mut write) = tokio::io::split(peer);
                // Ten bytes are echoed; then the pipe is dropped.
                let mut read = tokio::io::AsyncReadExt::take(&mut read, 10);
                runtime.block_on(tokio::io::copy(&mut read, &mut write)).unwrap();
            }
        });
        for _ in 0..2 {
            conn.write_all(b"0123456789").unwrap();
            conn.read_exact(&mut [0; 10]).unwrap();
            assert_eq!(conn.read(&mut [0; 10]).unwrap(), 0);
        }
        conn.close();
        soon("the server", &server);
    };
    soon("talking", &begin(talk));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    soon(
        "talking in a runtime",
        &begin(move || runtime.block_on(async move { tokio::spawn(async move { talk() }).await })),
    )
    .unwrap();
}

#[test]
fn hook_that_would_wait_for_a_connection_gets_an_error_instead_of_a_deadlock() {
    let _alone = alone();
    let server = Server::start();
    let (other, _other_peer) = server.pair();
    let (sender, outcomes) = mpsc::channel();
    let conn = server
        .client()
        .on_event(move |_| {
            let read = (&other).read(&mut [0]).map_err(|error| error.kind());
            // What need not wait works.
            let write = (&other).write(b"x").map_err(|error| error.kind());
            let connect = Conn::connect("127.0.0.1:1").map(drop).map_err(|error| error.kind());
            other.close();
            let _ = sender.send((read, write, connect));
        })
        .build_blocking()
        .unwrap();
    let deadlock = ErrorKind::Deadlock;
    assert_eq!(soon("the hook", &outcomes), (Err(deadlock), Ok(1), Err(deadlock)));
    conn.close();
}

// ===== chaos =====

/// Threads write records and read replies while the server is killed in mid-stream, stopped, and started again.
fn chaos(seed: u64) {
    const LINKS: u64 = 12;
    const THREADS: u8 = 3;
    let mut random = SmallRng::seed_from_u64(seed);
    let server = Server::start();
    let builder = server.client();
    let listener = server.listener.unwrap();
    let address = server.address;
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let server = begin(move || {
        let mut listener = Some(listener);
        let mut received = Vec::new();
        for link in 1..=LINKS {
            let mut peer = listener.as_ref().unwrap().accept().unwrap().0;
            peer.set_read_timeout(Some(HANG)).unwrap();
            // Which link this is, and then one byte for each record.
            peer.write_all(&[link as u8]).unwrap();
            let records = if link == LINKS { usize::MAX } else { random.random_range(0..60) };
            for _ in 0..records {
                let Some(record) = read_record(&mut peer) else { break };
                received.push(record);
                if peer.write_all(&[200]).is_err() {
                    break;
                }
            }
            if link == LINKS {
                break;
            }
            let has_outage = random.random_bool(0.3);
            if has_outage {
                listener = None;
            }
            match random.random_range(0..4) {
                0 => reset(peer),
                1 => drop(peer),
                // In the middle of a record.
                2 => {
                    let _ = peer.read(&mut [0; 5]);
                    reset(peer);
                }
                _ => {
                    let _ = peer.shutdown(Shutdown::Both);
                }
            }
            if has_outage {
                thread::sleep(Duration::from_millis(random.random_range(0..30)));
                listener = Some(TcpListener::bind(address).unwrap());
            }
        }
        over.store(true, Ordering::SeqCst);
        received
    });
    let conn = builder.connect_blocking().unwrap();
    let writers: Vec<_> = (0..THREADS)
        .map(|thread| {
            let mut conn = conn.try_clone().unwrap();
            let mut random = SmallRng::seed_from_u64(seed ^ u64::from(thread) << 32);
            conn.set_write_timeout(Some(HANG)).unwrap();
            begin(move || {
                let (mut failed, mut told) = (Vec::new(), Vec::new());
                let (mut number, mut more) = (0, 50);
                while more > 0 {
                    more -= u32::from(conn.generation() == LINKS);
                    if let Err(error) = conn.write_all(&record(thread, number, length(&mut random))) {
                        told.push(told_generation(&error));
                        failed.push(number);
                    }
                    number += 1;
                }
                (failed, told)
            })
        })
        .collect();
    let mut reader = conn.try_clone().unwrap();
    let reader = begin(move || {
        // The bytes of each link, from the first to the last.
        let mut links = vec![Vec::<u8>::new()];
        let mut buf = [0; 100];
        loop {
            match reader.read(&mut buf) {
                Ok(n) if n > 0 => links.last_mut().unwrap().extend(&buf[..n]),
                Err(error) if is_closed(&error) => return links,
                Err(error) => {
                    assert_eq!(told_generation(&error), links.len() as u64);
                    links.push(Vec::new());
                }
                Ok(_) => links.push(Vec::new()),
            }
        }
    });
    let mut failed = Vec::new();
    for writer in &writers {
        let (numbers, told) = soon("a writer", writer);
        assert!(told.is_sorted_by(|a, b| a < b), "told twice, or out of order: {told:?}");
        failed.push(numbers);
    }
    // What arrived is read before the close.
    until("the last link's greeting is read", || conn.generation() == LINKS);
    conn.close();
    let links = soon("the reader", &reader);
    assert!(links.len() as u64 <= LINKS, "told more often than there were breaks");
    for (at, bytes) in links.iter().enumerate() {
        // A link that was reset may have lost its greeting, but no link has another's.
        if let Some((first, rest)) = bytes.split_first() {
            assert_eq!(usize::from(*first), at + 1);
            assert!(rest.iter().all(|byte| *byte == 200), "two links' bytes in one");
        }
    }
    let received = soon("the server", &server);
    assert!(is_over.load(Ordering::SeqCst));
    let mut last = HashMap::new();
    for (thread, number) in received {
        assert!(last.insert(thread, number).is_none_or(|last| last < number), "thread {thread}: {number} out of order");
        assert!(!failed[usize::from(thread)].contains(&number), "a record that failed has arrived whole");
    }
}

#[test]
fn server_killed_again_and_again_gets_whole_records_and_every_thread_is_told_once() {
    let _alone = alone();
    let seeds = match std::env::var("PERCONN_CHAOS_SEED") {
        Ok(text) => vec![text.parse().expect("a seed")],
        Err(_) => {
            let mut random: SmallRng = rand::make_rng();
            (0..4).map(|_| random.random_range(0..1_000_000)).collect()
        }
    };
    for seed in seeds {
        println!("PERCONN_CHAOS_SEED={seed}");
        chaos(seed);
    }
}
