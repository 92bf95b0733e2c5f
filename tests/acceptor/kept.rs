//! Connections of lines whose clones are kept and used by other tasks: they keep nothing open.

use std::future::{pending, poll_fn, ready};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use perconn::acceptor::LineConn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use crate::support::{in_time, reset};
use crate::world::{client, figures, local, rest};

#[tokio::test]
async fn kept_connections_can_be_sent_to_until_they_end_and_keep_nothing_open() {
    let kept: Arc<Mutex<Vec<LineConn>>> = Arc::default();
    let keeper = Arc::clone(&kept);
    let acceptor = local()
        .line_handler(move |_, conn| {
            keeper.lock().unwrap().push(conn.clone());
            async move { conn.send("welcome").await }
        })
        .build()
        .unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(b"hello\n").await.unwrap();
    in_time("the welcome", stream.read_exact(&mut [0; 8])).await.unwrap();
    let conn = kept.lock().unwrap()[0].clone();
    assert_eq!((conn.id(), conn.peer().addr(), conn.is_closed()), (1, stream.local_addr().ok(), false));
    conn.send("news").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), "news\n");
    figures(&acceptor, "it is gone", |stats| stats.busy == 0).await;
    assert!(conn.is_closed());
    assert_eq!(conn.send("more").await.unwrap_err().kind(), io::ErrorKind::NotConnected);
}

#[tokio::test]
async fn close_from_another_task_ends_a_silent_connection() {
    let kept: Arc<Mutex<Option<LineConn>>> = Arc::default();
    let keeper = Arc::clone(&kept);
    let acceptor = local()
        .line_handler(move |_, conn| {
            *keeper.lock().unwrap() = Some(conn.clone());
            async move { conn.send("ok").await }
        })
        .build()
        .unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(b"hello\n").await.unwrap();
    in_time("the answer", stream.read_exact(&mut [0; 3])).await.unwrap();
    kept.lock().unwrap().take().unwrap().close();
    assert_eq!(rest(&mut stream).await.unwrap(), "");
}

#[tokio::test]
async fn send_that_waits_in_another_task_ends_with_the_connection() {
    let kept: Arc<Mutex<Option<LineConn>>> = Arc::default();
    let keeper = Arc::clone(&kept);
    let acceptor = local()
        .line_handler(move |line, conn| {
            assert!(line != b"panic", "as it is told");
            *keeper.lock().unwrap() = Some(conn.clone());
            async move { conn.send("ok").await }
        })
        .build()
        .unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(b"hello\n").await.unwrap();
    in_time("the answer", stream.read_exact(&mut [0; 3])).await.unwrap();
    let conn = kept.lock().unwrap().take().unwrap();
    let sender = tokio::spawn(async move { while conn.send([b'x'; 100_000]).await.is_ok() {} });
    sleep(Duration::from_millis(50)).await; // the socket is full
    stream.write_all(b"panic\n").await.unwrap();
    in_time("the sender's end", sender).await.unwrap();
    figures(&acceptor, "it is gone", |stats| stats.panicked == 1 && stats.busy == 0).await;
}

/// Sends to whoever is there, until it is over.
fn push_news(conn: LineConn) {
    tokio::spawn(async move { while !conn.is_closed() && conn.send("news").await.is_ok() {} });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clones_of_a_connection_whose_handler_panicked_keep_no_acceptor() {
    const ROUNDS: u64 = 100;
    let kept: Arc<Mutex<Vec<LineConn>>> = Arc::default();
    let keeper = Arc::clone(&kept);
    let acceptor = local().line_handler(move |line, conn| {
        assert!(line != b"panic", "as it is told");
        keeper.lock().unwrap().push(conn.clone());
        push_news(conn);
        ready(Ok(()))
    });
    let acceptor = acceptor.build().unwrap();
    for _ in 0..ROUNDS {
        let mut stream = client(&acceptor).await;
        stream.write_all(b"go\n").await.unwrap();
        in_time("news", stream.read_exact(&mut [0; 5])).await.unwrap();
        stream.write_all(b"panic\n").await.unwrap();
        let mut buffer = [0; 4096];
        in_time("its end", async { while matches!(stream.read(&mut buffer).await, Ok(1..)) {} }).await;
    }
    let stats = figures(&acceptor, "all are gone", |stats| stats.busy == 0).await;
    assert_eq!((stats.accepted, stats.panicked), (ROUNDS, ROUNDS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clones_of_a_connection_that_was_cut_keep_no_socket() {
    for _ in 0..50 {
        let kept: Arc<Mutex<Vec<LineConn>>> = Arc::default();
        let keeper = Arc::clone(&kept);
        let acceptor = local().line_handler(move |_, conn| {
            keeper.lock().unwrap().push(conn.clone());
            push_news(conn);
            pending()
        });
        let acceptor = acceptor.build().unwrap();
        let mut stream = client(&acceptor).await;
        stream.write_all(b"go\n").await.unwrap();
        in_time("news", stream.read_exact(&mut [0; 5])).await.unwrap();
        let reading = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
        });
        assert_eq!(in_time("stop", acceptor.stop(Duration::from_millis(1))).await.cut, 1);
        in_time("the end of the stream", reading).await.unwrap();
        figures(&acceptor, "it is gone", |stats| stats.busy == 0).await;
    }
}

#[tokio::test]
async fn send_that_is_held_and_never_polled_again_keeps_nothing() {
    for stops in [false, true] {
        let kept: Arc<Mutex<Option<LineConn>>> = Arc::default();
        let keeper = Arc::clone(&kept);
        let acceptor = local().line_handler(move |_, conn| {
            *keeper.lock().unwrap() = Some(conn.clone());
            async move { conn.send("ok").await }
        });
        let acceptor = acceptor.build().unwrap();
        let mut stream = client(&acceptor).await;
        stream.write_all(b"hello\n").await.unwrap();
        in_time("the answer", stream.read_exact(&mut [0; 3])).await.unwrap();
        let conn = kept.lock().unwrap().take().unwrap();
        let mut held = pin!(conn.send(vec![b'x'; 50_000_000]));
        let poll = poll_fn(|cx| Poll::Ready(held.as_mut().poll(cx)));
        assert!(poll.await.is_pending());
        match stops {
            true => assert_eq!(in_time("stop", acceptor.stop(Duration::from_millis(1))).await.cut, 1),
            false => reset(stream),
        }
        figures(&acceptor, "it is gone", |stats| stats.busy == 0).await;
        assert_eq!(in_time("the send", held).await.unwrap_err().kind(), io::ErrorKind::NotConnected);
    }
}

#[tokio::test]
async fn push_that_has_failed_is_how_the_connection_has_ended() {
    let acceptor = local().idle_timeout(Duration::from_millis(200)).line_handler(async |line, conn| {
        if line == b"go" {
            tokio::spawn(async move { while conn.send([b'x'; 100_000]).await.is_ok() {} });
        }
        Ok(())
    });
    let acceptor = acceptor.build().unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(b"go\n").await.unwrap();
    // It takes nothing, but talks all the time.
    let talk = async {
        while stream.write_all(b"and\n").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let gone = figures(&acceptor, "it is gone", |stats| stats.accepted == 1 && stats.busy == 0);
    let (stats, ()) = tokio::join!(gone, talk);
    assert_eq!((stats.timed_out, stats.finished, stats.failed), (1, 0, 0));
}
