//! Clones of a `LineConn` that other tasks keep and use: they keep nothing open.

use std::future::{pending, ready};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perconn::acceptor::LineConn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::common::{client, figures, local, poll_once, rest, send_that_waits};
use crate::support::{in_time, reset};

#[tokio::test]
async fn kept_clone_can_send_until_the_connection_ends_and_keeps_nothing_open() {
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
async fn closed_is_ready_however_the_connection_ends_and_not_before() {
    for end in ["the client leaves", "close", "a cut", "a panic", "an error"] {
        let (sender, mut conns) = mpsc::unbounded_channel();
        let acceptor = local().line_handler(move |line, conn| {
            assert!(line != b"a panic", "on purpose");
            let _ = sender.send(conn);
            ready(if line == b"an error" { Err(io::Error::other("on purpose")) } else { Ok(()) })
        });
        let acceptor = acceptor.build().unwrap();
        let mut stream = client(&acceptor).await;
        stream.write_all(b"hello\n").await.unwrap();
        let conn = in_time("the line", conns.recv()).await.unwrap();
        assert!(poll_once(conn.closed()).await.is_pending());
        let wait = |conn: LineConn| tokio::spawn(async move { conn.closed().await });
        let waiting = [wait(conn.clone()), wait(conn.clone())];
        tokio::task::yield_now().await;
        match end {
            "the client leaves" => drop(stream),
            "close" => conn.close(),
            "a cut" => drop(acceptor.stop(Duration::ZERO).await),
            line => stream.write_all(format!("{line}\n").as_bytes()).await.unwrap(),
        }
        for task in waiting {
            in_time(end, task).await.unwrap();
        }
        assert!(conn.is_closed());
        in_time("a later call", conn.closed()).await;
    }
}

#[tokio::test]
async fn send_that_waits_in_another_task_ends_with_the_connection() {
    let kept: Arc<Mutex<Option<LineConn>>> = Arc::default();
    let keeper = Arc::clone(&kept);
    let acceptor = local()
        .line_handler(move |line, conn| {
            assert!(line != b"panic", "on purpose");
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

/// Sends until the connection ends.
fn push_news(conn: LineConn) {
    tokio::spawn(async move { while !conn.is_closed() && conn.send("news").await.is_ok() {} });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clones_of_a_connection_whose_handler_panicked_keep_no_slot() {
    const ROUNDS: u64 = 100;
    let kept: Arc<Mutex<Vec<LineConn>>> = Arc::default();
    let keeper = Arc::clone(&kept);
    let acceptor = local().line_handler(move |line, conn| {
        assert!(line != b"panic", "on purpose");
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
async fn send_that_is_never_polled_again_keeps_nothing_open() {
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
        let (_, held) = send_that_waits(&conn).await;
        match stops {
            true => assert_eq!(in_time("stop", acceptor.stop(Duration::from_millis(1))).await.cut, 1),
            false => reset(stream),
        }
        figures(&acceptor, "it is gone", |stats| stats.busy == 0).await;
        assert_eq!(in_time("the send", held).await.unwrap_err().kind(), io::ErrorKind::NotConnected);
    }
}

#[tokio::test]
async fn send_that_failed_is_how_the_connection_ended() {
    let acceptor = local().idle_timeout(Duration::from_millis(200)).line_handler(async |line, conn| {
        if line == b"go" {
            tokio::spawn(async move { while conn.send([b'x'; 100_000]).await.is_ok() {} });
        }
        Ok(())
    });
    let acceptor = acceptor.build().unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(b"go\n").await.unwrap();
    // The client reads nothing and sends all the time.
    let sending = async {
        while stream.write_all(b"and\n").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let gone = figures(&acceptor, "it is gone", |stats| stats.accepted == 1 && stats.busy == 0);
    let (stats, ()) = in_time("the end", async { tokio::join!(gone, sending) }).await;
    assert_eq!((stats.timed_out, stats.finished, stats.failed), (1, 0, 0));
}
