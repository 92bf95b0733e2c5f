//! Connections that do not end by themselves: a stop cuts them in time, and counts them as cut.

use std::future::pending;
use std::io;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use perconn::acceptor::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::common::{client, figures, local};
use crate::support::{HANG_LIMIT, in_time};

const SHORT: Duration = Duration::from_millis(50);

#[test]
fn stop_returns_although_a_handler_blocks_the_only_worker() {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // `release` is dropped before the runtime, which waits for its worker.
    let (release, released) = mpsc::channel::<()>();
    let (blocks, blocked) = mpsc::channel();
    let sides = Mutex::new(Some((blocks, released)));
    let acceptor = {
        let _within = runtime.enter();
        local()
            .handler(move |_stream, _| {
                let (blocks, released) = sides.lock().unwrap().take().unwrap();
                async move {
                    blocks.send(()).unwrap();
                    let _ = released.recv();
                    Ok(())
                }
            })
            .build()
            .unwrap()
    };
    let _stream = std::net::TcpStream::connect(acceptor.local_addr().unwrap()).unwrap();
    blocked.recv_timeout(HANG_LIMIT).unwrap();
    let elsewhere = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stopped = elsewhere.block_on(in_time("stop", acceptor.stop(SHORT)));
    assert_eq!((stopped.finished, stopped.cut), (0, 1));
    drop(release);
}

#[tokio::test]
async fn stream_in_another_task_that_was_cut_counts_as_cut() {
    let (sender, busy) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let acceptor = local().handler(move |mut stream, _| {
        let sender = sender.lock().unwrap().take().unwrap();
        tokio::spawn(async move {
            stream.read_u8().await?;
            let _ = sender.send(());
            stream.read_u8().await?;
            io::Result::Ok(())
        });
        std::future::ready(Ok(()))
    });
    let acceptor = acceptor.build().unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(b"x").await.unwrap();
    in_time("the first byte is read", busy).await.unwrap();
    let stopped = in_time("stop", acceptor.stop(SHORT)).await;
    assert_eq!((stopped.finished, stopped.cut), (0, 1));
    assert_eq!((acceptor.stats().finished, acceptor.stats().cut), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handler_that_is_cut_while_it_writes_counts_as_cut() {
    for round in 0..150 {
        let acceptor = local().handler(async |mut stream, _| {
            // From here on, it is busy.
            stream.read_u8().await?;
            loop {
                stream.write_all(&[7; 64]).await?;
            }
        });
        let acceptor = acceptor.build().unwrap();
        let (mut reader, mut writer) = client(&acceptor).await.into_split();
        writer.write_all(b"x").await.unwrap();
        in_time("the first of it", reader.read(&mut [0; 64])).await.unwrap();
        let reading = tokio::spawn(async move {
            let mut buffer = vec![0; 65536];
            while matches!(reader.read(&mut buffer).await, Ok(1..)) {}
        });
        let stopped = in_time("stop", acceptor.stop(Duration::from_millis(1))).await;
        assert_eq!((stopped.finished, stopped.cut), (0, 1), "in round {round}");
        in_time("the end of the stream", reading).await.unwrap();
    }
}

/// Fails if the test does not end. It runs in a thread of its own, as it may never yield.
fn must_end(what: &str, test: impl Future<Output = ()> + Send + 'static) {
    let (sender, done) = mpsc::channel();
    std::thread::spawn(move || {
        runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
        let _ = sender.send(());
    });
    assert!(done.recv_timeout(HANG_LIMIT / 2).is_ok(), "hangs: {what}");
}

async fn stop_must_cut(acceptor: Acceptor) {
    let stopped = acceptor.stop(SHORT).await;
    assert_eq!((stopped.finished + stopped.idle, stopped.cut), (0, 1));
}

#[test]
fn loop_over_the_end_by_a_stop_can_be_cut() {
    must_end("a loop over Ok(0)", async {
        let acceptor = local().handler(async |mut stream, _| {
            loop {
                let _ = stream.read(&mut [0; 4]).await?;
            }
        });
        let acceptor = acceptor.build().unwrap();
        let _stream = client(&acceptor).await;
        figures(&acceptor, "it is served", |stats| stats.busy == 1).await;
        stop_must_cut(acceptor).await;
    });
}

#[test]
fn loop_over_timeouts_lets_other_tasks_run() {
    must_end("a loop over TimedOut", async {
        let acceptor = local().idle_timeout(SHORT).handler(async |mut stream, _| {
            loop {
                match stream.read(&mut [0; 4]).await {
                    Ok(0) => pending().await,
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                    other => return other.map(drop),
                }
            }
        });
        let acceptor = acceptor.build().unwrap();
        let _stream = client(&acceptor).await;
        figures(&acceptor, "it is served", |stats| stats.busy == 1).await;
        sleep(SHORT * 3).await;
        stop_must_cut(acceptor).await;
    });
}
