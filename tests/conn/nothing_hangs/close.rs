//! `close` and drop: at any moment, every operation returns `ClosedConnection` at once and nothing dials again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use perconn::{Conn, Dial, Error, Event, Status, TcpDialer, dial_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PROMPT, assert_closed, close};
use crate::support::{HANG_LIMIT, Recorder, Server, in_time, next_event, perconn_error, pipes, quick, refused_address};

#[tokio::test]
async fn close_while_connected() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    close(&conn).await;
    assert_eq!(in_time("peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
    assert_closed(&mut conn).await;
    server.expect_no_dial(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn close_during_a_dial() {
    let (started, mut dials) = tokio::sync::mpsc::unbounded_channel();
    let dialer = dial_fn(move || {
        started.send(()).unwrap();
        std::future::pending::<std::io::Result<TcpStream>>()
    });
    let mut conn = quick(Conn::builder("black hole").dialer(dialer)).dial_timeout(None).build().unwrap();
    in_time("the dial begins", dials.recv()).await.unwrap();
    close(&conn).await;
    assert!(in_time("the dialer is dropped", dials.recv()).await.is_none());
    assert_closed(&mut conn).await;
}

#[tokio::test]
async fn close_during_set_up() {
    let server = Server::start().await;
    let dialer = TcpDialer::new(server.address).and_then(|mut stream| async move {
        // The server accepts and never sends a byte.
        stream.read_u8().await?;
        Ok(stream)
    });
    let mut conn = quick(server.client().dialer(dialer)).build().unwrap();
    let mut peer = server.accept().await;
    close(&conn).await;
    assert_eq!(in_time("the half-made link is dropped", peer.read(&mut [0; 4])).await.unwrap(), 0);
    assert_closed(&mut conn).await;
    server.expect_no_dial(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn close_during_backoff() {
    let (recorder, mut events) = Recorder::new();
    let long = Duration::from_secs(3600);
    let builder = Conn::builder(refused_address().await).retry_min(long).retry_max(long).logger(|_| {});
    let mut conn = builder.on_event(recorder.hook()).build().unwrap();
    next_event(&mut events, |event| matches!(event, Event::DialFailed { .. }).then_some(())).await;
    close(&conn).await;
    next_event(&mut events, |event| matches!(event, Event::Closed).then_some(())).await;
    assert_closed(&mut conn).await;
}

#[tokio::test]
async fn close_while_a_read_waits() {
    let server = Server::start().await;
    let (conn, _peer) = server.pair().await;
    let (mut read, write) = conn.into_split();
    let reader = tokio::spawn(async move { read.read(&mut [0; 4]).await });
    tokio::task::yield_now().await;
    in_time("close", write.close()).await;
    let error = in_time("the waiting read", reader).await.unwrap().unwrap_err();
    assert!(matches!(perconn_error(&error), Error::ClosedConnection));
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn close_while_the_send_buffer_is_full() {
    let server = Server::start().await;
    let (conn, _peer) = server.pair().await;
    let (read, mut write) = conn.into_split();
    let writer = tokio::spawn(async move { write.write_all(&vec![0; 64 << 20]).await });
    tokio::task::yield_now().await;
    let start = Instant::now();
    in_time("close", read.close()).await;
    assert!(start.elapsed() < PROMPT);
    let error = in_time("the waiting write", writer).await.unwrap().unwrap_err();
    assert!(matches!(perconn_error(&error), Error::ClosedConnection));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_while_a_hook_sleeps() {
    let server = Server::start().await;
    let (entered, is_entered) = std::sync::mpsc::channel();
    let (leave, may_leave) = std::sync::mpsc::channel::<()>();
    let may_leave = std::sync::Mutex::new(may_leave);
    let builder = server.client().on_event(move |event| {
        if matches!(event, Event::Disconnected { .. }) {
            entered.send(()).unwrap();
            let _ = may_leave.lock().unwrap().recv_timeout(HANG_LIMIT);
        }
    });
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let mut conn = conn.unwrap();
    drop(peer);
    tokio::task::spawn_blocking(move || is_entered.recv().unwrap()).await.unwrap();
    close(&conn).await;
    assert_closed(&mut conn).await;
    leave.send(()).unwrap();
    server.expect_no_dial(Duration::from_millis(100)).await;
}

/// A short write has yet to report the break of its link when the connection is closed.
#[tokio::test]
async fn operations_after_a_close_report_only_the_close() {
    let (mut conn, mut peers) = pipes().await;
    let _peer = peers.recv().await.unwrap();
    assert!(in_time("write", conn.write(&[7; 100])).await.unwrap() < 100);
    conn.break_link(1);
    in_time("the report", conn.read_u8()).await.unwrap_err();
    close(&conn).await;
    let error = in_time("write", conn.write(&[7; 10])).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::ClosedConnection), "{error:?}");
}

#[tokio::test]
async fn close_before_the_actor_ran() {
    let server = Server::start().await;
    let mut conn = server.client().build().unwrap();
    // The actor has not run yet.
    close(&conn).await;
    assert_closed(&mut conn).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_from_several_tasks_and_from_a_hook() {
    let server = Server::start().await;
    let (sender, half) = std::sync::mpsc::channel::<perconn::WriteHalf>();
    let half = std::sync::Mutex::new(half);
    let builder = server.client().on_event(move |event| {
        if matches!(event, Event::Disconnected { .. }) {
            let half = half.lock().unwrap().recv().unwrap();
            // A hook cannot wait, and one poll is enough to close.
            let mut close = tokio_test::task::spawn(half.close());
            assert!(close.poll().is_ready(), "close waits for the actor, which runs this hook");
        }
    });
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let (mut read, write) = conn.unwrap().into_split();
    sender.send(write).unwrap();
    drop(peer);
    let closers: Vec<_> = (0..4).map(|_| read.close()).collect();
    let mut status = read.watch_status();
    in_time("closed by the hook", status.wait_for(Status::is_final)).await.unwrap();
    for close in closers {
        in_time("close", tokio::spawn(close)).await.unwrap();
    }
    assert!(in_time("read", read.read(&mut [0; 4])).await.is_err());
    server.expect_no_dial(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_actor_and_closes_the_socket() {
    let server = Server::start().await;
    let (recorder, mut events) = Recorder::new();
    let (conn, peer) = tokio::join!(server.client().on_event(recorder.hook()).connect(), server.accept());
    let mut peer = peer;
    let (read, write) = conn.unwrap().into_split();
    let mut status = read.watch_status();
    drop(write);
    drop(read);
    assert_eq!(in_time("peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
    in_time("closed", status.wait_for(|status| *status == Status::Closed)).await.unwrap();
    next_event(&mut events, |event| matches!(event, Event::Closed).then_some(())).await;
    drop(recorder);
    assert!(in_time("the hook is dropped with the actor", events.recv()).await.is_none());
    server.expect_no_dial(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn dropping_during_an_outage_ends_the_redial() {
    let (recorder, mut events) = Recorder::new();
    let builder = quick(Conn::builder(refused_address().await)).on_event(recorder.hook());
    let conn = builder.build().unwrap();
    drop(recorder);
    next_event(&mut events, |event| matches!(event, Event::DialFailed { attempt: 3, .. }).then_some(())).await;
    drop(conn);
    next_event(&mut events, |event| matches!(event, Event::Closed).then_some(())).await;
    assert!(in_time("the actor's end", events.recv()).await.is_none());
}

#[tokio::test]
async fn waiting_for_the_link_does_not_keep_a_dropped_connection_alive() {
    let conn = quick(Conn::builder(refused_address().await)).build().unwrap();
    let connected = tokio::spawn(conn.connected());
    tokio::task::yield_now().await;
    drop(conn);
    assert!(matches!(in_time("connected", connected).await.unwrap(), Err(Error::ClosedConnection)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_writer_reports_a_close_as_a_close() {
    let server = Server::start().await;
    for _ in 0..300 {
        let (conn, mut peer) = server.pair().await;
        let sink = tokio::spawn(async move { while peer.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {} });
        let (read, mut write) = conn.into_split();
        let writer = tokio::spawn(async move {
            loop {
                if let Err(error) = write.write_all(&[0; 64]).await {
                    return error;
                }
            }
        });
        tokio::task::yield_now().await;
        in_time("close", read.close()).await;
        let error = in_time("writer", writer).await.unwrap();
        assert!(matches!(perconn_error(&error), Error::ClosedConnection), "{error:?}");
        in_time("sink", sink).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn close_is_ready_when_the_dialer_and_the_hooks_are_dropped() {
    let server = Server::start().await;
    for _ in 0..300 {
        let values = Arc::new(());
        let (of_hook, of_logger, of_dialer) = (Arc::clone(&values), Arc::clone(&values), Arc::clone(&values));
        let address = server.address;
        let dialer = dial_fn(move || {
            let _ = &of_dialer;
            TcpStream::connect(address)
        });
        let builder = server.client().dialer(dialer);
        let builder =
            builder.on_event(move |_| drop(Arc::clone(&of_hook))).logger(move |_| drop(Arc::clone(&of_logger)));
        let (conn, _peer) = tokio::join!(builder.connect(), server.accept());
        close(&conn.unwrap()).await;
        assert_eq!(Arc::strong_count(&values), 1, "the program has its values back");
    }
}
