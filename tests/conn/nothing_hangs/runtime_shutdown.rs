//! The shutdown of the runtime: every operation returns `RuntimeShutdown` at once, and none panics.

use std::task::Poll;
use std::time::Duration;

use perconn::{Conn, Error, Status, WhenDown, dial_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Server, in_time, perconn_error, quick};

#[test]
fn actor_that_never_ran_counts_as_ended() {
    let first = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut conn = first.block_on(async { Conn::builder("127.0.0.1:9").logger(|_| {}).build().unwrap() });
    let handle = first.handle().clone();
    drop(first);
    let second = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    second.block_on(async {
        assert!(matches!(perconn_error(&in_time("read", conn.read_u8()).await.unwrap_err()), Error::RuntimeShutdown));
        in_time("close", conn.close()).await;
    });
    // Built in a runtime that has already shut down.
    let mut conn = {
        let _guard = handle.enter();
        Conn::builder("127.0.0.1:9").logger(|_| {}).build().unwrap()
    };
    second.block_on(async {
        assert!(matches!(perconn_error(&in_time("read", conn.read_u8()).await.unwrap_err()), Error::RuntimeShutdown));
    });
}

#[test]
fn end_of_the_runtime_ends_every_operation() {
    let first = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let second = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (server, conn, peer, waiting) = first.block_on(async {
        let server = Server::start().await;
        let (conn, peer) = server.pair().await;
        let (waiting, _peer) = server.pair().await;
        (server, conn, peer, waiting)
    });
    let (mut read, mut write) = conn.into_split();
    let status = read.watch_status();
    let reader = second.spawn(async move {
        let error = read.read(&mut [0; 4]).await.unwrap_err();
        (read, error)
    });
    second.block_on(tokio::task::yield_now());
    first.shutdown_background();
    second.block_on(async move {
        let (mut read, _) = in_time("the waiting read", reader).await.unwrap();
        let mut status = status;
        in_time("the end", status.wait_for(Status::is_final)).await.unwrap();
        for _ in 0..2 {
            let error = in_time("read", read.read(&mut [0; 4])).await.unwrap_err();
            assert!(matches!(perconn_error(&error), Error::RuntimeShutdown), "{error:?}");
            let error = in_time("write", write.write(b"x")).await.unwrap_err();
            assert!(matches!(perconn_error(&error), Error::RuntimeShutdown), "{error:?}");
        }
        assert!(matches!(in_time("connected", read.connected()).await, Err(Error::RuntimeShutdown)));
        in_time("close", read.close()).await;
        drop((read, write));
    });
    // Dropped outside of any runtime.
    drop((server, peer, waiting));
}

/// Other threads poll while the runtime and its timers shut down.
#[test]
fn runtime_shutdown_during_reads_with_timers_is_an_error_and_not_a_panic() {
    for round in 0..60 {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (linked, down, _peer) = runtime.block_on(async {
            let server = Server::start().await;
            let limit = Duration::from_secs(100);
            let (linked, peer) = tokio::join!(server.client().idle_timeout(limit).connect(), server.accept());
            let never = dial_fn(std::future::pending::<std::io::Result<TcpStream>>);
            let down =
                quick(Conn::builder("nowhere").dialer(never)).when_down(WhenDown::WaitFor(limit)).build().unwrap();
            (linked.unwrap(), down, peer)
        });
        let readers = [linked, down].map(|mut conn| {
            std::thread::spawn(move || {
                loop {
                    let mut buf = [0; 4];
                    if let Poll::Ready(outcome) = tokio_test::task::spawn(conn.read(&mut buf)).poll() {
                        break outcome;
                    }
                }
            })
        });
        std::thread::sleep(Duration::from_micros(100 * (round % 10)));
        drop(runtime);
        for reader in readers {
            let error = reader.join().expect("the reader panicked").unwrap_err();
            assert!(matches!(perconn_error(&error), Error::RuntimeShutdown), "{error:?}");
        }
    }
}
