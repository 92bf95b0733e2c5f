//! What does not end by itself: it is cut, and counts as cut, and the stop is over in its time.

use std::future::pending;
use std::io;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use perconn::acceptor::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::support::{HANG_LIMIT, in_time};
use crate::world::{client, figures, local};

const SHORT: Duration = Duration::from_millis(50);

#[test]
fn stop_is_over_though_a_handler_blocks_the_only_worker() {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // Dropped before the runtime, which waits for its worker.
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
    in_time("it has read", busy).await.unwrap();
    let stopped = in_time("stop", acceptor.stop(SHORT)).await;
    assert_eq!((stopped.finished, stopped.cut), (0, 1));
    assert_eq!((acceptor.stats().finished, acceptor.stats().cut), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handler_that_is_cut_at_work_counts_as_cut() {
    for round in 0..150 {
        let acceptor = local().handler(async |mut stream, _| {
            // From now on, it is busy.
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

/// Fails if it does not come to its end, in a thread of its own, as it may never yield.
fn comes_to_its_end(what: &str, test: impl Future<Output = ()> + Send + 'static) {
    let (sender, done) = mpsc::channel();
    std::thread::spawn(move || {
        runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
        let _ = sender.send(());
    });
    assert!(done.recv_timeout(HANG_LIMIT / 2).is_ok(), "hangs: {what}");
}

async fn cut_soon(acceptor: Acceptor) {
    let stopped = acceptor.stop(SHORT).await;
    assert_eq!((stopped.finished + stopped.idle, stopped.cut), (0, 1));
}

#[test]
fn loop_over_the_end_by_a_stop_can_be_cut() {
    comes_to_its_end("a loop over Ok(0)", async {
        let acceptor = local().handler(async |mut stream, _| {
            loop {
                let _ = stream.read(&mut [0; 4]).await?;
            }
        });
        let acceptor = acceptor.build().unwrap();
        let _stream = client(&acceptor).await;
        figures(&acceptor, "it is served", |stats| stats.busy == 1).await;
        cut_soon(acceptor).await;
    });
}

#[test]
fn loop_over_timeouts_lets_others_go_on() {
    comes_to_its_end("a loop over TimedOut", async {
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
        cut_soon(acceptor).await;
    });
}

#[cfg(feature = "tls")]
#[test]
fn loop_over_the_end_of_a_session_can_be_cut() {
    use crate::authority::Authority;

    comes_to_its_end("a loop over Ok(0)", async {
        let authority = Authority::new();
        let (sender, ended) = oneshot::channel();
        let sender = Mutex::new(Some(sender));
        let acceptor = local().tls(authority.server()).handler(move |mut stream, _| {
            let mut sender = sender.lock().unwrap().take();
            async move {
                loop {
                    let _ = stream.read(&mut [0; 4]).await?;
                    drop(sender.take());
                }
            }
        });
        let acceptor = acceptor.build().unwrap();
        let mut session = authority.session(&acceptor).await.unwrap();
        session.shutdown().await.unwrap();
        let _: Result<(), _> = ended.await;
        cut_soon(acceptor).await;
    });
}
