//! Waits, which delay no other operation, end at their own timeout, and sleep in the meantime.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use perconn::blocking::Conn;
use perconn::{Error, WhenDown, dial_fn};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::support::{SHORT, Server, alone, broken_generation, in_time, is_closed, spawn, spawn_waiting};

/// A stream with a buffer of its own that never becomes empty.
struct Stuck;

impl AsyncRead for Stuck {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Stuck {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn waiting_flush_delays_no_write_and_no_shutdown() {
    let _alone = alone();
    let dialer = dial_fn(|| std::future::ready(Ok(Stuck)));
    let conn = perconn::Conn::builder("stuck").dialer(dialer).connect_blocking().unwrap();
    let [flushing, writing, ending] = [(); 3].map(|()| conn.try_clone().unwrap());
    let flush = spawn_waiting(move || (&flushing).flush());
    assert_eq!(in_time("the write", &spawn(move || (&writing).write(b"x"))).unwrap(), 1);
    in_time("the shutdown", &spawn(move || ending.shutdown())).unwrap();
    conn.close();
    assert!(is_closed(&in_time("the flush", &flush).unwrap_err()));
}

/// A connection to a server that is down, and whose redial comes only after the test.
fn without_a_link(limit: Duration) -> Conn {
    let mut server = Server::start();
    server.stop();
    let (delay, policy) = (Duration::from_secs(3600), WhenDown::WaitFor(limit));
    server.client().retry_max(delay).retry_min(delay).when_down(policy).build_blocking().unwrap()
}

/// Asserts that a wait for a link timed out after `limit`.
fn found_no_link<T: std::fmt::Debug>(outcome: io::Result<T>, limit: Duration) {
    match Error::of(&outcome.unwrap_err()) {
        Some(Error::WaitTimeout { limit: reported, .. }) => assert_eq!(*reported, limit),
        other => panic!("{other:?}"),
    }
}

#[test]
fn threads_that_wait_for_a_link_wait_at_the_same_time() {
    let _alone = alone();
    const LIMIT: Duration = Duration::from_millis(200);
    let conn = without_a_link(LIMIT);
    let start = Instant::now();
    let waits: Vec<_> = (0..16)
        .map(|number| {
            let mut conn = conn.try_clone().unwrap();
            spawn(move || if number % 2 == 0 { conn.read(&mut [0; 8]) } else { conn.write(b"x") })
        })
        .collect();
    for wait in &waits {
        found_no_link(in_time("a wait", wait), LIMIT);
    }
    assert!(start.elapsed() >= LIMIT);
    // In turn, the eight waits of a direction would take eight times as long.
    assert!(start.elapsed() < 4 * LIMIT, "{:?}", start.elapsed());
}

#[test]
fn timeout_of_a_wait_for_a_link_starts_with_the_call() {
    let _alone = alone();
    const LIMIT: Duration = Duration::from_millis(200);
    let mut conn = without_a_link(LIMIT);
    conn.set_read_timeout(Some(SHORT)).unwrap();
    assert_eq!(conn.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    conn.set_read_timeout(None).unwrap();
    for _ in 0..2 {
        let start = Instant::now();
        found_no_link(conn.read(&mut [0]), LIMIT);
        assert!(start.elapsed() >= LIMIT, "{:?}", start.elapsed());
    }
}

#[test]
fn wait_for_a_link_ends_when_the_link_is_up_even_if_another_write_goes_first() {
    let _alone = alone();
    const LIMIT: Duration = Duration::from_millis(400);
    const SIZE: usize = 20_000_000;
    let mut server = Server::start();
    server.stop();
    let conn = server.client().when_down(WhenDown::WaitFor(LIMIT)).build_blocking().unwrap();
    let writes = [(); 2].map(|()| {
        let mut conn = conn.try_clone().unwrap();
        spawn_waiting(move || conn.write(&vec![0; SIZE]))
    });
    server.restart();
    let mut peer = server.accept();
    // One writes and waits for room, the other waits for it.
    std::thread::sleep(LIMIT + SHORT);
    let server = spawn(move || peer.read_exact(&mut vec![0; 2 * SIZE]));
    for write in &writes {
        assert_eq!(in_time("a write", write).unwrap(), SIZE);
    }
    in_time("the server", &server).unwrap();
}

#[test]
fn break_is_reported_however_short_the_wait_for_a_link_is() {
    let _alone = alone();
    let mut server = Server::start();
    let policy = WhenDown::WaitFor(Duration::ZERO);
    let mut conn = server.client().when_down(policy).connect_blocking().unwrap();
    let peer = server.accept();
    let mut reader = conn.try_clone().unwrap();
    let read = spawn_waiting(move || (reader.read(&mut [0]), reader));
    server.stop();
    drop(peer);
    let (outcome, mut reader) = in_time("the read", &read);
    assert_eq!(outcome.unwrap(), 0);
    found_no_link(reader.read(&mut [0]), Duration::ZERO);
    assert_eq!(broken_generation(&conn.write(b"x").unwrap_err()), 1);
    found_no_link(conn.write(b"x"), Duration::ZERO);
}

/// How often the thread went to sleep while `work` ran.
#[cfg(target_os = "linux")]
fn sleeps_of(work: impl FnOnce()) -> u64 {
    let count = || {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    let before = count();
    work();
    count() - before
}

#[cfg(target_os = "linux")]
#[test]
fn wait_on_a_thread_that_runs_no_task_sleeps_until_it_is_woken() {
    let _alone = alone();
    const LIMIT: Duration = Duration::from_millis(500);
    let server = Server::start();
    let (mut conn, _peer) = server.pair();
    conn.set_read_timeout(Some(LIMIT)).unwrap();
    let read = move || sleeps_of(|| drop(conn.read(&mut [0])));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let blocking = runtime.block_on(async { tokio::task::spawn_blocking(read).await.unwrap() });
    assert!(blocking < 15, "woke up {blocking} times in spawn_blocking");
    let dialer = dial_fn(|| async {
        tokio::time::sleep(LIMIT).await;
        Ok(Stuck)
    });
    let builder = perconn::Conn::builder("slow").dialer(dialer);
    let connecting = sleeps_of(|| drop(builder.connect_blocking().unwrap()));
    assert!(connecting < 15, "woke up {connecting} times while it connected");
}
