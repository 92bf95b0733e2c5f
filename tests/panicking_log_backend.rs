//! A backend of the `log` crate that panics, with the default loggers. It ends neither a connection nor an acceptor.
//!
//! In a process of its own, as a process has one backend. Next: `events.rs`, where hooks panic.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use perconn::Conn;
use perconn::acceptor::{Acceptor, Stream};
use support::{Server, in_time, reset, wait_for_generation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};

/// Panics at each line, as a backend with a full disk or a poisoned lock may.
struct Backend;

/// How many warnings have reached the backend.
static LINES: AtomicUsize = AtomicUsize::new(0);

impl log::Log for Backend {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // The tests wait for warnings. Lines of the level debug come besides, at each dial, and panic as well.
        if record.level() == log::Level::Warn {
            LINES.fetch_add(1, Ordering::SeqCst);
        }
        panic!("the log backend panics at: {}", record.args());
    }

    fn flush(&self) {}
}

/// Installs the backend. The tests count its lines, so that they run one after the other.
async fn backend() -> MutexGuard<'static, ()> {
    static ONE_TEST: Mutex<()> = Mutex::const_new(());
    let guard = ONE_TEST.lock().await;
    let _ = log::set_logger(&Backend);
    log::set_max_level(log::LevelFilter::Debug);
    guard
}

/// Waits until this many warnings have reached the backend, on the thread that logs them.
async fn wait_for_lines(count: usize) {
    let wait = async {
        while LINES.load(Ordering::SeqCst) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time("the log", wait).await;
}

async fn conn_outlives_the_panics() {
    let _one_test = backend().await;
    let mut server = Server::start().await;
    // The default logger. Each break begins another outage, so that each has lines of its own.
    let builder = Conn::builder(server.address).retry_min(Duration::from_millis(1)).retry_max(Duration::from_millis(4));
    let builder = builder.stable_after(Duration::ZERO);
    let (conn, mut peer) = tokio::join!(builder.connect(), server.accept());
    let mut conn = conn.unwrap();
    for generation in 1..4 {
        let lines = LINES.load(Ordering::SeqCst);
        server.stop();
        reset(peer);
        assert!(in_time("read", conn.read_u8()).await.is_err());
        // A line for the break, and one for a failed dial.
        wait_for_lines(lines + 2).await;
        server.restart().await;
        peer = server.accept().await;
        wait_for_generation(&conn, generation + 1).await;
        in_time("write", conn.write_all(b"A")).await.unwrap();
        assert_eq!(in_time("peer", peer.read_u8()).await.unwrap(), b'A');
    }
    in_time("close", conn.close()).await;
}

async fn acceptor_outlives_the_panics() {
    let _one_test = backend().await;
    // The default logger. The event hook makes it run in the accept loop as well.
    let builder = Acceptor::builder("127.0.0.1:0").acceptors(1).on_event(|_| panic!("the event hook panics"));
    let acceptor = builder.handler(async |mut stream: Stream, _| {
        let byte = stream.read_u8().await?;
        assert_ne!(byte, b'!', "the handler panics");
        stream.write_u8(byte).await
    });
    let acceptor = acceptor.build().unwrap();
    for _ in 0..3 {
        let lines = LINES.load(Ordering::SeqCst);
        for (byte, is_served) in [(b'!', false), (b'A', true)] {
            let mut client = in_time("connect", TcpStream::connect(acceptor.local_addr().unwrap())).await.unwrap();
            in_time("write", client.write_u8(byte)).await.unwrap();
            let answer = in_time("answer", client.read_u8()).await;
            assert_eq!(answer.ok(), is_served.then_some(byte));
        }
        wait_for_lines(lines + 1).await;
    }
}

#[tokio::test]
async fn conn_outlives_a_log_backend_that_panics() {
    conn_outlives_the_panics().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conn_outlives_a_log_backend_that_panics_on_two_threads() {
    conn_outlives_the_panics().await;
}

#[tokio::test]
async fn acceptor_outlives_a_log_backend_that_panics() {
    acceptor_outlives_the_panics().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptor_outlives_a_log_backend_that_panics_on_two_threads() {
    acceptor_outlives_the_panics().await;
}
