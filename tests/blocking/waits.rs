//! A wait holds up nobody else, ends when its own time is up, and sleeps meanwhile.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use perconn::blocking::Conn;
use perconn::{Error, WhenDown, dial_fn};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::support::{SHORT, Server, alone, begin, begin_to_wait, in_time, is_closed};

/// A stream with a buffer of its own that never gets empty.
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
fn flush_that_waits_holds_up_no_write_and_no_shutdown() {
    let _alone = alone();
    let dialer = dial_fn(|| std::future::ready(Ok(Stuck)));
    let conn = perconn::Conn::builder("stuck").dialer(dialer).connect_blocking().unwrap();
    let [flushing, writing, ending] = [(); 3].map(|()| conn.try_clone().unwrap());
    let flush = begin_to_wait(move || (&flushing).flush());
    assert_eq!(in_time("the write", &begin(move || (&writing).write(b"x"))).unwrap(), 1);
    in_time("the shutdown", &begin(move || ending.shutdown())).unwrap();
    conn.close();
    assert!(is_closed(&in_time("the flush", &flush).unwrap_err()));
}

/// A connection to a server that is away, and never dialed again.
fn without_a_link(limit: Duration) -> Conn {
    let mut server = Server::start();
    server.stop();
    let (delay, policy) = (Duration::from_secs(3600), WhenDown::WaitFor(limit));
    server.client().retry_max(delay).retry_min(delay).when_down(policy).build_blocking().unwrap()
}

fn found_no_link<T: std::fmt::Debug>(outcome: io::Result<T>, limit: Duration) {
    match Error::of(&outcome.unwrap_err()) {
        Some(Error::WaitTimeout { limit: told, .. }) => assert_eq!(*told, limit),
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
            begin(move || if number % 2 == 0 { conn.read(&mut [0; 8]) } else { conn.write(b"x") })
        })
        .collect();
    for wait in &waits {
        found_no_link(in_time("a wait", wait), LIMIT);
    }
    assert!(start.elapsed() >= LIMIT);
    // One after the other, eight in each direction would take eight times as long.
    assert!(start.elapsed() < 4 * LIMIT, "{:?}", start.elapsed());
}

#[test]
fn wait_for_a_link_is_counted_from_its_own_call() {
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
fn wait_for_a_link_is_over_with_the_link_though_another_write_comes_first() {
    let _alone = alone();
    const LIMIT: Duration = Duration::from_millis(400);
    const SIZE: usize = 20_000_000;
    let mut server = Server::start();
    server.stop();
    let conn = server.client().when_down(WhenDown::WaitFor(LIMIT)).build_blocking().unwrap();
    let writes = [(); 2].map(|()| {
        let mut conn = conn.try_clone().unwrap();
        begin_to_wait(move || conn.write(&vec![0; SIZE]))
    });
    server.restart();
    let mut peer = server.accept();
    // One writes and waits for room, the other waits for its turn.
    std::thread::sleep(LIMIT + SHORT);
    let server = begin(move || peer.read_exact(&mut vec![0; 2 * SIZE]));
    for write in &writes {
        assert_eq!(in_time("a write", write).unwrap(), SIZE);
    }
    in_time("the server", &server).unwrap();
}

#[test]
fn break_is_told_however_short_the_wait_for_a_link_is() {
    let _alone = alone();
    let mut server = Server::start();
    let policy = WhenDown::WaitFor(Duration::ZERO);
    let mut conn = server.client().when_down(policy).connect_blocking().unwrap();
    let peer = server.accept();
    let mut reader = conn.try_clone().unwrap();
    let read = begin_to_wait(move || (reader.read(&mut [0]), reader));
    server.stop();
    drop(peer);
    let (outcome, mut reader) = in_time("the read", &read);
    assert_eq!(outcome.unwrap(), 0);
    found_no_link(reader.read(&mut [0]), Duration::ZERO);
    assert_eq!(crate::support::reported_generation(&conn.write(b"x").unwrap_err()), 1);
    found_no_link(conn.write(b"x"), Duration::ZERO);
}

/// How often the thread gave its core up of itself while `work` ran.
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
fn wait_on_a_thread_that_runs_no_task_of_its_runtime_sleeps_through() {
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
