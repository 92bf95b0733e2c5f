//! `close` and the drop of the last clone: queued jobs are sent, and no call waits longer than it has to.

use std::time::{Duration, Instant};

use perconn::{Conn, Error, Event, WhenDown};
use tokio::io::AsyncReadExt;
use tokio_test::task::spawn;

use super::{run_other_tasks, within};
use crate::support::{
    CLOSE_LIMIT, HANG_LIMIT, Recorder, Server, in_time, next_event, perconn_error, pipes, quick, refused_address,
};

#[tokio::test]
async fn close_sends_what_is_queued_and_then_refuses_everything() {
    let (conn, mut peers) = pipes().await;
    let conn = conn.into_shared();
    let mut peer = peers.recv().await.unwrap();
    let queued: Vec<_> = (0..5_u8)
        .map(|number| {
            let conn = conn.clone();
            tokio::spawn(async move { conn.write_all(&[number; 50]).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let closing = tokio::spawn({
        let conn = conn.clone();
        async move { conn.close(CLOSE_LIMIT).await }
    });
    tokio::task::yield_now().await;
    let mut all = vec![0; 250];
    in_time("peer", peer.read_exact(&mut all)).await.unwrap();
    for call in queued {
        in_time("write", call).await.unwrap().unwrap();
    }
    in_time("close", closing).await.unwrap();
    let error = in_time("write", conn.write_all(b"late")).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::ClosedConnection));
    let error = in_time("read", conn.read(&mut [0; 8])).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::ClosedConnection));
    in_time("close again", conn.close(CLOSE_LIMIT)).await;
}

#[tokio::test]
async fn close_waits_for_its_limit_if_the_peer_reads_nothing() {
    tokio::time::pause();
    for seconds in [0, 2, 90] {
        let (conn, mut peers) = pipes().await;
        let conn = conn.into_shared();
        let _peer = peers.recv().await.unwrap();
        let stuck = tokio::spawn({
            let conn = conn.clone();
            async move { conn.write_all(&[1; 1_000]).await }
        });
        tokio::task::yield_now().await;
        let began = tokio::time::Instant::now();
        conn.close(Duration::from_secs(seconds)).await;
        assert_eq!(began.elapsed().as_secs(), seconds);
        let error = in_time("write", stuck).await.unwrap().unwrap_err();
        assert!(matches!(perconn_error(&error), Error::ClosedConnection));
    }
}

#[tokio::test]
async fn close_takes_any_limit() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let conn = conn.into_shared();
    let closing = async { tokio::join!(conn.write_all(b"x"), conn.close(Duration::MAX)) };
    in_time("close", closing).await.0.unwrap();
    assert_eq!(in_time("the peer", peer.read_u8()).await.unwrap(), b'x');
}

#[tokio::test]
async fn dropping_the_last_clone_closes_the_socket_and_ends_the_actor() {
    let server = Server::start().await;
    let (recorder, mut events) = Recorder::new();
    let (conn, mut peer) = tokio::join!(server.client().on_event(recorder.hook()).connect(), server.accept());
    let conn = conn.unwrap().into_shared();
    let clone = conn.clone();
    drop(conn);
    in_time("write", clone.write_all(b"still here")).await.unwrap();
    drop(clone);
    let mut all = Vec::new();
    in_time("peer", peer.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"still here");
    next_event(&mut events, |event| matches!(event, Event::Closed).then_some(())).await;
    server.expect_no_dial(Duration::from_millis(50)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn job_during_a_close_is_sent_whole_or_not_at_all() {
    let server = Server::start().await;
    for length in (0..200).map(|round| 1 + round * 997) {
        let (conn, mut peer) = server.pair().await;
        let conn = conn.into_shared();
        let writer = conn.clone();
        let job = tokio::spawn(async move { writer.write_all(&vec![7; length]).await });
        let close = tokio::spawn(async move { conn.close(CLOSE_LIMIT).await });
        let mut arrived = Vec::new();
        in_time("the end of the stream", peer.read_to_end(&mut arrived)).await.unwrap();
        in_time("close", close).await.unwrap();
        match in_time("the job", job).await.unwrap() {
            Ok(()) => assert_eq!(arrived.len(), length),
            Err(error) => {
                assert!(matches!(perconn_error(&error), Error::ClosedConnection), "{error}");
                assert_eq!(arrived.len(), 0, "of {length} bytes");
            }
        }
    }
}

#[tokio::test]
async fn close_in_an_outage_does_not_wait_for_jobs_that_were_cancelled() {
    let address = refused_address().await;
    let conn = quick(Conn::builder(address)).build().unwrap().into_shared();
    assert!(within(50, conn.write_all(b"x")).await.is_none());
    let began = Instant::now();
    conn.close(CLOSE_LIMIT).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn close_in_an_outage_does_not_wait_for_jobs_that_timed_out() {
    let address = refused_address().await;
    let limit = Duration::from_millis(50);
    let conn = quick(Conn::builder(address)).when_down(WhenDown::WaitFor(limit)).build().unwrap().into_shared();
    conn.write_all(b"x").await.unwrap_err();
    let began = Instant::now();
    conn.close(CLOSE_LIMIT).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn close_ends_when_the_last_job_is_cancelled() {
    let address = refused_address().await;
    let conn = quick(Conn::builder(address)).build().unwrap().into_shared();
    let bytes = vec![0; 20_000];
    let mut large = spawn(conn.write_all(&bytes));
    assert!(large.poll().is_pending());
    run_other_tasks().await;
    let began = Instant::now();
    let mut close = Box::pin(conn.close(CLOSE_LIMIT));
    assert!(within(20, close.as_mut()).await.is_none());
    drop(large);
    close.await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn close_ends_jobs_behind_one_that_is_not_polled() {
    let (conn, mut peers) = pipes().await;
    let conn = conn.into_shared();
    let _peer = peers.recv().await.unwrap();
    let bytes = vec![0; 20_000];
    let mut large = spawn(conn.write_all(&bytes));
    assert!(large.poll().is_pending());
    let behind = tokio::spawn({
        let conn = conn.clone();
        async move { conn.write_all(b"behind").await }
    });
    run_other_tasks().await;
    in_time("close", conn.close(CLOSE_LIMIT)).await;
    let outcome = within(2000, behind).await;
    assert!(outcome.is_some(), "the job still waits after the close");
}

#[tokio::test]
async fn read_behind_an_unpolled_read_ends_at_the_close() {
    let server = Server::start().await;
    let (conn, _peer) = server.pair().await;
    let conn = conn.into_shared();
    let mut buf = [0; 8];
    let mut held = spawn(conn.read(&mut buf));
    assert!(held.poll().is_pending());
    let behind = tokio::spawn({
        let conn = conn.clone();
        async move { conn.read(&mut [0; 8]).await }
    });
    run_other_tasks().await;
    in_time("close", conn.close(CLOSE_LIMIT)).await;
    for error in
        [in_time("the read behind", behind).await.unwrap(), in_time("a later read", conn.read(&mut [0; 8])).await]
    {
        assert!(matches!(perconn_error(&error.unwrap_err()), Error::ClosedConnection));
    }
}

#[test]
fn last_clone_closes_the_socket_while_the_runtime_is_stopped() {
    use std::io::Read;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let conn = runtime.block_on(async {
        let conn = Conn::connect(address).await.unwrap().into_shared();
        conn.write_all(b"x").await.unwrap();
        conn
    });
    let (mut peer, _) = listener.accept().unwrap();
    drop(conn);
    peer.set_read_timeout(Some(HANG_LIMIT)).unwrap();
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"x");
}

/// The actor is in a hook of the program, which nobody waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn read_behind_an_unpolled_read_waits_for_no_hook() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let (entered, mut hook_entered) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start().await;
    let builder = server.client().on_event(move |event| {
        if matches!(event, Event::Disconnected { .. }) {
            entered.send(()).unwrap();
            let _ = released.lock().unwrap().recv();
        }
    });
    let (conn, _peer) = tokio::join!(builder.connect(), server.accept());
    let conn = conn.unwrap().into_shared();
    let mut buf = [0; 8];
    let mut held = spawn(conn.read(&mut buf));
    assert!(held.poll().is_pending());
    let behind = tokio::spawn({
        let conn = conn.clone();
        async move { conn.read(&mut [0; 8]).await }
    });
    conn.break_link(1);
    in_time("the hook", hook_entered.recv()).await.unwrap();
    in_time("close", conn.close(CLOSE_LIMIT)).await;
    let error = in_time("the read behind", behind).await.unwrap().unwrap_err();
    assert!(matches!(perconn_error(&error), Error::ClosedConnection));
    drop(release);
}
