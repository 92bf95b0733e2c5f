//! The stop: busy connections may finish, idle ones end at once, and none is left.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use perconn::acceptor::{EndReason, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};

use crate::common::{LONG, client, echo, event, exchange, figures, local, recorder, rest, served, until_refused};
use crate::support::in_time;

#[tokio::test]
async fn busy_connections_finish_idle_ones_end_at_once_and_late_ones_are_cut() {
    let release = Arc::new(Notify::new());
    let gate = Arc::clone(&release);
    let acceptor = local()
        .handler(move |mut stream, _| {
            let gate = Arc::clone(&gate);
            async move {
                loop {
                    match stream.read_u8().await {
                        Ok(b'w') => gate.notified().await,
                        Ok(b'h') => std::future::pending().await,
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                        Err(error) => return Err(error),
                    }
                    stream.write_all(b"ok").await?;
                }
            }
        })
        .build()
        .unwrap();
    let mut silent = client(&acceptor).await;
    let mut idle = client(&acceptor).await;
    idle.write_all(b"i").await.unwrap();
    in_time("an answer", idle.read_exact(&mut [0; 2])).await.unwrap();
    let mut busy = client(&acceptor).await;
    busy.write_all(b"w").await.unwrap();
    let mut hung = client(&acceptor).await;
    hung.write_all(b"h").await.unwrap();
    figures(&acceptor, "all are served", |stats| stats.busy == 4).await;
    tokio::time::sleep(Duration::from_millis(20)).await; // the bytes have been read

    let address = acceptor.local_addr().unwrap();
    let stop = acceptor.stop(Duration::from_millis(300));
    let others = async {
        // Long before the deadline.
        assert_eq!(rest(&mut silent).await.unwrap(), "");
        assert_eq!(rest(&mut idle).await.unwrap(), "");
        until_refused(address).await;
        assert_eq!(acceptor.stats().busy, 2);
        release.notify_one();
        assert_eq!(rest(&mut busy).await.unwrap(), "ok");
        // At the deadline.
        assert_eq!(rest(&mut hung).await.unwrap(), "");
    };
    let (stopped, ()) = in_time("stop", async { tokio::join!(stop, others) }).await;
    assert_eq!((stopped.idle, stopped.finished, stopped.cut), (2, 1, 1));
    let stats = acceptor.stats();
    assert_eq!((stats.busy, stats.finished, stats.cut), (0, 3, 1));
    assert_eq!(in_time("a second stop", acceptor.stop(LONG)).await, stopped);
}

#[tokio::test]
async fn stop_without_connections_returns_at_once_and_frees_the_port() {
    let acceptor = local().handler(echo).build().unwrap();
    let address = acceptor.local_addr().unwrap();
    let start = Instant::now();
    assert_eq!(in_time("stop", acceptor.stop(LONG)).await, Default::default());
    assert!(start.elapsed() < Duration::from_secs(5));
    let again = perconn::acceptor::Acceptor::builder(address).handler(echo).build().unwrap();
    served(&again).await;
}

#[tokio::test]
async fn handler_in_a_loop_that_never_reads_is_cut() {
    let acceptor = local()
        .handler(async |_stream, _| {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .build()
        .unwrap();
    let mut stream = client(&acceptor).await;
    figures(&acceptor, "it is served", |stats| stats.busy == 1).await;
    let stopped = in_time("stop", acceptor.stop(Duration::ZERO)).await;
    assert_eq!((stopped.finished, stopped.cut), (0, 1));
    assert_eq!(rest(&mut stream).await.unwrap(), "");
}

#[tokio::test]
async fn dropped_acceptor_closes_its_port_and_cuts_its_connections() {
    let (hook, mut events) = recorder();
    let acceptor = local().on_event(hook).handler(echo).build().unwrap();
    let address = acceptor.local_addr().unwrap();
    let mut stream = served(&acceptor).await;
    drop(acceptor);
    assert_eq!(rest(&mut stream).await.unwrap(), "");
    event(&mut events, |event| matches!(event, Event::Closed { reason: EndReason::Cut, .. }).then_some(())).await;
    in_time("the port is free", async { while TcpStream::connect(address).await.is_ok() {} }).await;
}

#[tokio::test]
async fn stop_ends_a_stream_in_another_task() {
    let (sender, receiver) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let acceptor = local()
        .handler(move |stream, _| {
            let _ = sender.lock().unwrap().take().unwrap().send(stream);
            std::future::ready(Ok(()))
        })
        .build()
        .unwrap();
    let mut peer = client(&acceptor).await;
    let mut stream = in_time("the stream", receiver).await.unwrap();
    let user = tokio::spawn(async move {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).await.unwrap(), 1);
        // The stop waits for it, as it is busy. At the deadline it fails.
        stream.read(&mut byte).await.unwrap_err().kind()
    });
    peer.write_all(b"x").await.unwrap();
    tokio::task::yield_now().await;
    let stopped = in_time("stop", acceptor.stop(Duration::from_millis(100))).await;
    assert_eq!(in_time("the task", user).await.unwrap(), io::ErrorKind::ConnectionAborted);
    assert_eq!(stopped.cut + stopped.finished, 1);
}

#[tokio::test]
async fn reader_and_writer_in_two_tasks_end_after_the_answer() {
    let release = Arc::new(Notify::new());
    let gate = Arc::clone(&release);
    let acceptor = local()
        .handler(move |stream, _| {
            let gate = Arc::clone(&gate);
            async move {
                let (mut reader, mut writer) = tokio::io::split(stream);
                let (sender, mut requests) = tokio::sync::mpsc::channel(1);
                let answers = async move {
                    while let Some(byte) = requests.recv().await {
                        gate.notified().await;
                        writer.write_all(&[byte]).await?;
                    }
                    Ok(())
                };
                let requests = async move {
                    let mut byte = [0];
                    while reader.read(&mut byte).await? > 0 {
                        sender.send(byte[0]).await.map_err(io::Error::other)?;
                    }
                    io::Result::Ok(())
                };
                tokio::try_join!(answers, requests).map(|_| ())
            }
        })
        .build()
        .unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(b"x").await.unwrap();
    figures(&acceptor, "it is served", |stats| stats.busy == 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await; // the byte has been read
    let (stopped, text) = tokio::join!(acceptor.stop(LONG), async {
        release.notify_one();
        rest(&mut stream).await.unwrap()
    });
    assert_eq!((text.as_str(), stopped.cut), ("x", 0));
}

#[tokio::test]
async fn handler_that_never_answers_ends_at_once_after_message_done() {
    let acceptor = local()
        .handler(async |mut stream, _| {
            let mut buffer = [0; 100];
            while stream.read(&mut buffer).await? > 0 {
                stream.message_done();
            }
            Ok(())
        })
        .build()
        .unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(b"a record").await.unwrap();
    figures(&acceptor, "it is served", |stats| stats.busy == 1).await;
    let stopped = in_time("stop", acceptor.stop(LONG)).await;
    assert_eq!((stopped.idle, stopped.cut), (1, 0));
    // It is a reset if the record was not read yet.
    let _ = rest(&mut stream).await;
}

#[test]
fn end_of_the_runtime_ends_the_acceptor() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (acceptor, mut stream) = runtime.block_on(async {
        let acceptor = local().handler(echo).build().unwrap();
        let stream = served(&acceptor).await;
        (acceptor, stream.into_std().unwrap())
    });
    drop(runtime);
    assert_eq!(acceptor.stats().busy, 0);
    stream.set_nonblocking(false).unwrap();
    assert_eq!(io::Read::read(&mut stream, &mut [0]).unwrap(), 0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { in_time("stop", acceptor.stop(LONG)).await });
}

#[tokio::test]
async fn deadline_beyond_all_clocks_is_no_deadline() {
    let acceptor = local().handler(echo).build().unwrap();
    let mut stream = served(&acceptor).await;
    exchange(&mut stream).await.unwrap();
    assert_eq!(in_time("stop", acceptor.stop(Duration::MAX)).await.idle, 1);
}
