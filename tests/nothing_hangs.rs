//! Promise 5: after `close`, after giving up, after a panic in a user's hook, when the runtime shuts down, every
//! operation returns a clear error at once, and nothing dials again. Closing works at any moment.

mod support;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use perconn::{Conn, Dial, Error, Event, Status, TcpDialer, WhenDown, dial_fn};
use support::{HANG, Recorder, Server, break_noticed, event, inside, quick, refused_address, reset, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Generous for a loaded machine, and far below every delay and timeout that a close must not wait for.
const PROMPT: Duration = Duration::from_secs(2);

/// Every operation fails at once with `ClosedConnection`.
async fn assert_closed(conn: &mut Conn<impl Stream>) {
    let start = Instant::now();
    for _ in 0..2 {
        for outcome in [
            soon("read", conn.read(&mut [0; 4])).await.map(drop),
            soon("write", conn.write(b"x")).await.map(drop),
            soon("flush", conn.flush()).await,
            soon("shutdown", conn.shutdown()).await,
        ] {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotConnected);
            assert!(matches!(inside(&error), Error::ClosedConnection), "{error:?}");
        }
        assert!(matches!(soon("connected", conn.connected()).await, Err(Error::ClosedConnection)));
        conn.reconnect();
        assert!(!conn.is_connected());
        assert_eq!(conn.status(), Status::Closed);
    }
    assert!(start.elapsed() < PROMPT);
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static {}
impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// Closes within `PROMPT`, twice.
async fn close(conn: &Conn<impl Stream>) {
    let start = Instant::now();
    soon("close", conn.close()).await;
    soon("the second close", conn.close()).await;
    assert!(start.elapsed() < PROMPT, "close took {:?}", start.elapsed());
}

#[tokio::test]
async fn close_while_connected() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    close(&conn).await;
    assert_eq!(soon("peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
    assert_closed(&mut conn).await;
    server.expect_silence(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn close_in_mid_dial() {
    let (started, mut dials) = tokio::sync::mpsc::unbounded_channel();
    let dialer = dial_fn(move || {
        started.send(()).unwrap();
        std::future::pending::<std::io::Result<TcpStream>>()
    });
    let mut conn = quick(Conn::builder("black hole").dialer(dialer)).dial_timeout(None).build().unwrap();
    soon("the dial begins", dials.recv()).await.unwrap();
    close(&conn).await;
    assert!(soon("the dialer is dropped", dials.recv()).await.is_none());
    assert_closed(&mut conn).await;
}

#[tokio::test]
async fn close_in_mid_set_up() {
    let server = Server::start().await;
    let dialer = TcpDialer::new(server.address).and_then(|mut stream| async move {
        // The server accepts and never says a word.
        stream.read_u8().await?;
        Ok(stream)
    });
    let mut conn = quick(server.client().dialer(dialer)).build().unwrap();
    let mut peer = server.accept().await;
    close(&conn).await;
    assert_eq!(soon("the half-made link is dropped", peer.read(&mut [0; 4])).await.unwrap(), 0);
    assert_closed(&mut conn).await;
    server.expect_silence(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn close_in_mid_backoff() {
    let (recorder, mut events) = Recorder::new();
    let long = Duration::from_secs(3600);
    let builder = Conn::builder(refused_address().await).retry_min(long).retry_max(long).logger(|_| {});
    let mut conn = builder.on_event(recorder.hook()).build().unwrap();
    event(&mut events, |event| matches!(event, Event::DialFailed { .. }).then_some(())).await;
    close(&conn).await;
    event(&mut events, |event| matches!(event, Event::Closed).then_some(())).await;
    assert_closed(&mut conn).await;
}

#[tokio::test]
async fn close_with_a_read_waiting() {
    let server = Server::start().await;
    let (conn, _peer) = server.pair().await;
    let (mut read, write) = conn.into_split();
    let reader = tokio::spawn(async move { read.read(&mut [0; 4]).await });
    tokio::task::yield_now().await;
    soon("close", write.close()).await;
    let error = soon("the waiting read", reader).await.unwrap().unwrap_err();
    assert!(matches!(inside(&error), Error::ClosedConnection));
}

#[tokio::test]
async fn close_with_the_send_buffer_full() {
    let server = Server::start().await;
    let (conn, _peer) = server.pair().await;
    let (read, mut write) = conn.into_split();
    let writer = tokio::spawn(async move { write.write_all(&vec![0; 64 << 20]).await });
    tokio::task::yield_now().await;
    let start = Instant::now();
    soon("close", read.close()).await;
    assert!(start.elapsed() < PROMPT);
    let error = soon("the waiting write", writer).await.unwrap().unwrap_err();
    assert!(matches!(inside(&error), Error::ClosedConnection));
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
            let _ = may_leave.lock().unwrap().recv_timeout(HANG);
        }
    });
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let mut conn = conn.unwrap();
    drop(peer);
    tokio::task::spawn_blocking(move || is_entered.recv().unwrap()).await.unwrap();
    close(&conn).await;
    assert_closed(&mut conn).await;
    leave.send(()).unwrap();
    server.expect_silence(Duration::from_millis(100)).await;
}

/// A write that had written a part of its bytes is still to be told of its link's break when the connection is closed.
#[tokio::test]
async fn close_is_all_that_is_told_after_it() {
    let (mut conn, mut peers) = support::pipes().await;
    let _peer = peers.recv().await.unwrap();
    assert!(soon("write", conn.write(&[7; 100])).await.unwrap() < 100);
    conn.reconnect();
    soon("told", conn.read_u8()).await.unwrap_err();
    close(&conn).await;
    let error = soon("write", conn.write(&[7; 10])).await.unwrap_err();
    assert!(matches!(inside(&error), Error::ClosedConnection), "{error:?}");
}

#[tokio::test]
async fn close_that_was_never_polled_before() {
    let server = Server::start().await;
    let mut conn = server.client().build().unwrap();
    // The actor has not run yet.
    close(&conn).await;
    assert_closed(&mut conn).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_from_several_tasks_and_from_a_hook() {
    let server = Server::start().await;
    let (handed, handle) = std::sync::mpsc::channel::<perconn::WriteHalf>();
    let handle = std::sync::Mutex::new(handle);
    let builder = server.client().on_event(move |event| {
        if matches!(event, Event::Disconnected { .. }) {
            let half = handle.lock().unwrap().recv().unwrap();
            // A hook cannot wait; one poll is enough to close.
            let mut close = tokio_test::task::spawn(half.close());
            assert!(close.poll().is_ready(), "the actor is in this very hook");
        }
    });
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let (mut read, write) = conn.unwrap().into_split();
    handed.send(write).unwrap();
    drop(peer);
    let closers: Vec<_> = (0..4).map(|_| read.close()).collect();
    let mut status = read.watch_status();
    soon("closed by the hook", status.wait_for(Status::is_final)).await.unwrap();
    for close in closers {
        soon("close", tokio::spawn(close)).await.unwrap();
    }
    assert!(soon("read", read.read(&mut [0; 4])).await.is_err());
    server.expect_silence(Duration::from_millis(100)).await;
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
    assert_eq!(soon("peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
    soon("closed", status.wait_for(|status| *status == Status::Closed)).await.unwrap();
    event(&mut events, |event| matches!(event, Event::Closed).then_some(())).await;
    drop(recorder);
    assert!(soon("the hook is dropped with the actor", events.recv()).await.is_none());
    server.expect_silence(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn dropping_during_an_outage_ends_the_redial() {
    let (recorder, mut events) = Recorder::new();
    let builder = quick(Conn::builder(refused_address().await)).on_event(recorder.hook());
    let conn = builder.build().unwrap();
    drop(recorder);
    event(&mut events, |event| matches!(event, Event::DialFailed { attempt: 3, .. }).then_some(())).await;
    drop(conn);
    event(&mut events, |event| matches!(event, Event::Closed).then_some(())).await;
    assert!(soon("the actor's end", events.recv()).await.is_none());
}

#[tokio::test]
async fn waiting_for_the_link_does_not_keep_a_dropped_connection_alive() {
    let conn = quick(Conn::builder(refused_address().await)).build().unwrap();
    let connected = tokio::spawn(conn.connected());
    tokio::task::yield_now().await;
    drop(conn);
    assert!(matches!(soon("connected", connected).await.unwrap(), Err(Error::ClosedConnection)));
}

#[tokio::test]
async fn after_giving_up_every_operation_says_so() {
    let (recorder, mut events) = Recorder::new();
    let mut server = Server::start().await;
    let builder = server.client().max_retries(3).on_event(recorder.hook());
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let (mut read, mut write) = conn.unwrap().into_split();
    server.stop();
    reset(peer);
    event(&mut events, |event| matches!(event, Event::GaveUp { attempts: 3, .. }).then_some(())).await;
    let dials = recorder.events().iter().filter(|event| matches!(event, Event::DialFailed { .. })).count();
    assert_eq!(dials, 3);
    assert!(matches!(inside(&read.read(&mut [0; 4]).await.unwrap_err()), Error::IoError { generation: 1, .. }));
    assert!(matches!(inside(&write.write(b"x").await.unwrap_err()), Error::IoError { generation: 1, .. }));
    for _ in 0..3 {
        assert!(matches!(inside(&read.read(&mut [0; 4]).await.unwrap_err()), Error::GaveUp { attempts: 3, .. }));
        assert!(matches!(inside(&write.write(b"x").await.unwrap_err()), Error::GaveUp { attempts: 3, .. }));
    }
    assert!(matches!(read.connected().await, Err(Error::GaveUp { .. })));
    assert_eq!(read.status(), Status::GaveUp);
    server.restart().await;
    read.reconnect();
    server.expect_silence(Duration::from_millis(100)).await;
    drop((read, write));
}

#[tokio::test]
async fn connect_that_fails_dials_once() {
    let dials = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&dials);
    let dialer = dial_fn(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Err::<TcpStream, _>(ErrorKind::ConnectionRefused.into()))
    });
    let (recorder, mut events) = Recorder::new();
    let builder = quick(Conn::builder("nobody").dialer(dialer)).on_event(recorder.hook());
    drop(recorder);
    let error = soon("connect", builder.connect()).await.unwrap_err();
    assert!(matches!(&error, Error::DialFailure { attempt: 1, .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    while soon("the actor's end", events.recv()).await.is_some() {}
    assert_eq!(dials.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn failed_connect_makes_no_second_dial_however_late_it_is_polled() {
    let (recorder, mut events) = Recorder::new();
    let dials = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&dials);
    let dialer = dial_fn(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Err::<TcpStream, _>(ErrorKind::ConnectionRefused.into()))
    });
    let builder = quick(Conn::builder("nobody").dialer(dialer)).on_event(recorder.hook());
    let mut connect = tokio_test::task::spawn(builder.connect());
    assert!(connect.poll().is_pending());
    drop(recorder);
    let retry_in = event(&mut events, |event| match event {
        Event::DialFailed { retry_in, .. } => Some(*retry_in),
        _ => None,
    });
    assert_eq!(retry_in.await, None);
    event(&mut events, |event| matches!(event, Event::Closed).then_some(())).await;
    assert!(soon("the actor has ended", events.recv()).await.is_none());
    assert!(matches!(soon("connect", connect).await, Err(Error::DialFailure { .. })));
    assert_eq!(dials.load(Ordering::SeqCst), 1);
}

/// Runs `test` on a runtime with one thread, and fails if it blocks that thread.
fn without_blocking(what: &str, test: impl Future<Output = ()> + Send + 'static) {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test);
        done.send(()).unwrap();
    });
    is_done.recv_timeout(HANG).unwrap_or_else(|_| panic!("blocks its thread: {what}"));
}

#[test]
fn loop_of_errors_lets_the_actor_run() {
    without_blocking("a loop of errors", async {
        let mut server = Server::start().await;
        server.stop();
        let mut conn = server.client().when_down(WhenDown::Fail).build().unwrap();
        server.restart().await;
        while conn.write_all(b"x").await.is_err() {}
    });
}

#[test]
fn loop_of_final_errors_lets_others_run() {
    without_blocking("a loop of final errors", async {
        let server = Server::start().await;
        let (mut conn, peer) = server.pair().await;
        conn.shutdown().await.unwrap();
        drop(peer);
        let reader = tokio::spawn(async move {
            loop {
                let _ = conn.read(&mut [0; 4]).await;
            }
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        reader.abort();
    });
}

#[test]
fn somebody_who_looks_at_the_status_blocks_nobody() {
    without_blocking("a status guard", async {
        let server = Server::start().await;
        let (conn, _peer) = server.pair().await;
        let mut status = conn.watch_status();
        {
            let guard = status.current();
            assert!(guard.is_connected());
            conn.reconnect();
        }
        let _peer = server.accept().await;
        soon("connected", conn.connected()).await.unwrap();
        let guard = soon("up", status.wait_for(|status| status.is_connected())).await.unwrap();
        drop(conn);
        drop(guard);
        soon("closed", status.wait_for(Status::is_final)).await.unwrap();
    });
}

#[test]
fn waker_that_uses_the_connection_blocks_nobody() {
    use std::task::{Context, Wake, Waker};
    /// Drops a half when it is woken.
    struct Dropper(std::sync::Mutex<Option<perconn::ReadHalf>>);
    impl Wake for Dropper {
        fn wake(self: Arc<Self>) {
            self.0.lock().unwrap().take();
        }
    }
    without_blocking("a waker", async {
        let server = Server::start().await;
        let (conn, _peer) = server.pair().await;
        let (read, write) = conn.into_split();
        let mut status = read.watch_status();
        let waker = Waker::from(Arc::new(Dropper(std::sync::Mutex::new(Some(read)))));
        let mut changed = std::pin::pin!(status.changed());
        assert!(changed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        soon("close", write.close()).await;
    });
}

#[test]
fn actor_that_never_ran_has_ended_all_the_same() {
    let first = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut conn = first.block_on(async { Conn::builder("127.0.0.1:9").logger(|_| {}).build().unwrap() });
    let handle = first.handle().clone();
    drop(first);
    let second = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    second.block_on(async {
        assert!(matches!(inside(&soon("read", conn.read_u8()).await.unwrap_err()), Error::RuntimeShutdown));
        soon("close", conn.close()).await;
    });
    // Built in a runtime that is gone already.
    let mut conn = {
        let _guard = handle.enter();
        Conn::builder("127.0.0.1:9").logger(|_| {}).build().unwrap()
    };
    second.block_on(async {
        assert!(matches!(inside(&soon("read", conn.read_u8()).await.unwrap_err()), Error::RuntimeShutdown));
    });
}

/// The server closes in answer to the client's end; no turn of the threads may make that a break with a redial.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_that_meets_the_peers_close_is_the_end() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&accepted);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
            let mut stream = stream.unwrap();
            std::thread::spawn(move || std::io::Read::read(&mut stream, &mut [0]));
        }
    });
    for round in 1..=1_000 {
        let (recorder, mut events) = Recorder::new();
        let mut conn = quick(Conn::builder(address)).on_event(recorder.hook()).connect().await.unwrap();
        conn.shutdown().await.unwrap();
        event(&mut events, |event| matches!(event, Event::Closed).then_some(())).await;
        let events = recorder.events();
        assert_eq!(events.len(), 2, "connected, closed, and nothing else: {events:?}");
        assert_eq!(accepted.load(Ordering::SeqCst), round);
    }
}

#[tokio::test]
async fn break_after_a_shutdown_is_told_and_logged() {
    let server = Server::start().await;
    let (recorder, mut events) = Recorder::new();
    let builder = server.client().on_event(recorder.hook());
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let mut conn = conn.unwrap();
    conn.shutdown().await.unwrap();
    reset(peer);
    assert_eq!(soon("read", conn.read_u8()).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    event(&mut events, |event| matches!(event, Event::Disconnected { retry_in: None, .. }).then_some(())).await;
    event(&mut events, |event| matches!(event, Event::Closed).then_some(())).await;
    server.expect_silence(Duration::from_millis(100)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_writer_hears_of_a_close_as_a_close() {
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
        soon("close", read.close()).await;
        let error = soon("writer", writer).await.unwrap();
        assert!(matches!(inside(&error), Error::ClosedConnection), "{error:?}");
        soon("sink", sink).await.unwrap();
    }
}

#[tokio::test]
async fn panics_in_hooks_are_contained_and_reported() {
    let server = Server::start().await;
    let reported = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&reported);
    let builder = server.client().on_event(|_| panic!("event hook says no")).logger(move |error| {
        log.lock().unwrap().push(error.to_string());
        panic!("logger says no");
    });
    let (conn, mut peer) = tokio::join!(builder.connect(), server.accept());
    let mut conn = conn.unwrap();
    for _ in 0..3 {
        soon("write", conn.write_all(b"ping")).await.unwrap();
        soon("peer", peer.read_exact(&mut [0; 4])).await.unwrap();
        reset(peer);
        assert!(soon("read", conn.read(&mut [0; 4])).await.is_err());
        peer = server.accept().await;
    }
    close(&conn).await;
    let reported = reported.lock().unwrap();
    assert!(reported.iter().any(|text| text == "the event hook panicked: event hook says no"), "{reported:?}");
    assert!(reported.iter().any(|text| text.starts_with("read on link 1")), "{reported:?}");
}

#[tokio::test]
async fn dial_that_panics_when_it_is_dropped_has_failed_like_any_other() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the dial is dropped");
        }
    }
    let (recorder, mut events) = Recorder::new();
    let dialer = dial_fn(|| async {
        let _bomb = Bomb;
        std::future::pending::<std::io::Result<TcpStream>>().await
    });
    let builder = quick(Conn::builder("bomb").dialer(dialer)).dial_timeout(Duration::from_millis(5));
    let conn = builder.on_event(recorder.hook()).build().unwrap();
    event(&mut events, |event| matches!(event, Event::DialFailed { attempt: 3, .. }).then_some(())).await;
    close(&conn).await;
}

#[tokio::test]
async fn dialer_that_panics_has_failed_to_dial() {
    let server = Server::start().await;
    let address = server.address;
    let mut dials = 0;
    let dialer = dial_fn(move || {
        dials += 1;
        assert_ne!(dials, 1, "the closure panics");
        async move {
            assert_ne!(dials, 2, "the future panics");
            TcpStream::connect(address).await
        }
    });
    let (recorder, mut events) = Recorder::new();
    let conn = quick(server.client().dialer(dialer)).on_event(recorder.hook()).build().unwrap();
    for text in ["the closure panics", "the future panics"] {
        let cause = event(&mut events, |event| match event {
            Event::DialFailed { cause, .. } => Some(Arc::clone(cause)),
            _ => None,
        });
        let cause = cause.await;
        let source = std::error::Error::source(&*cause).unwrap().to_string();
        assert!(source.contains("the dialer panicked") && source.contains(text), "{source}");
    }
    soon("connected", conn.connected()).await.unwrap();
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
        let (mut read, _) = soon("the waiting read", reader).await.unwrap();
        let mut status = status;
        soon("the end", status.wait_for(Status::is_final)).await.unwrap();
        for _ in 0..2 {
            let error = soon("read", read.read(&mut [0; 4])).await.unwrap_err();
            assert!(matches!(inside(&error), Error::RuntimeShutdown), "{error:?}");
            let error = soon("write", write.write(b"x")).await.unwrap_err();
            assert!(matches!(inside(&error), Error::RuntimeShutdown), "{error:?}");
        }
        assert!(matches!(soon("connected", read.connected()).await, Err(Error::RuntimeShutdown)));
        soon("close", read.close()).await;
        drop((read, write));
    });
    // Outside of any runtime.
    drop((server, peer, waiting));
}

#[tokio::test]
async fn shutdown_ends_the_conversation_and_nothing_dials_again() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    soon("write", conn.write_all(b"last words")).await.unwrap();
    soon("shutdown", conn.shutdown()).await.unwrap();
    soon("shutdown again", conn.shutdown()).await.unwrap();
    assert_eq!(soon("write", conn.write(b"x")).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    let mut text = String::new();
    soon("peer", peer.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "last words");
    // The other direction stays open until the peer ends it.
    soon("peer", peer.write_all(b"farewell")).await.unwrap();
    let mut farewell = [0; 8];
    soon("read", conn.read_exact(&mut farewell)).await.unwrap();
    drop(peer);
    assert_eq!(soon("read", conn.read(&mut farewell)).await.unwrap(), 0);
    for _ in 0..3 {
        let error = soon("read", conn.read(&mut farewell)).await.unwrap_err();
        assert!(matches!(inside(&error), Error::ClosedConnection));
    }
    conn.reconnect();
    server.expect_silence(Duration::from_millis(100)).await;
    assert!(matches!(conn.connected().await, Err(Error::ClosedConnection)));
}

#[tokio::test]
async fn shutdown_after_the_peers_close_still_reads_what_it_sent() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    peer.write_all(b"farewell").await.unwrap();
    drop(peer);
    break_noticed(&conn).await;
    soon("shutdown", conn.shutdown()).await.unwrap();
    let mut text = String::new();
    soon("read", conn.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "farewell");
    server.expect_silence(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn shutdown_during_an_outage_ends_the_redial() {
    let mut server = Server::start().await;
    let (mut conn, peer) = server.pair().await;
    server.stop();
    reset(peer);
    assert!(soon("read", conn.read(&mut [0; 4])).await.is_err());
    soon("shutdown", conn.shutdown()).await.unwrap();
    server.restart().await;
    let error = soon("read", conn.read(&mut [0; 4])).await.unwrap_err();
    assert!(matches!(inside(&error), Error::ClosedConnection));
    assert_eq!(soon("write", conn.write(b"x")).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    server.expect_silence(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn shutdown_that_is_told_of_a_break_ends_the_connection_too() {
    let server = Server::start().await;
    let (mut conn, peer) = server.pair().await;
    reset(peer);
    break_noticed(&conn).await;
    assert_eq!(soon("shutdown", conn.shutdown()).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let error = soon("read", conn.read(&mut [0; 4])).await.unwrap_err();
    assert!(matches!(inside(&error), Error::ClosedConnection));
    // A redial that had begun is ended.
    let mut status = conn.watch_status();
    soon("final", status.wait_for(Status::is_final)).await.unwrap();
}

#[tokio::test]
async fn dropped_write_half_shuts_down_and_a_forgotten_one_does_not() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (mut read, write) = conn.into_split();
    drop(write);
    assert_eq!(soon("peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
    peer.write_all(b"A").await.unwrap();
    assert_eq!(soon("read", read.read_u8()).await.unwrap(), b'A');
    drop(peer);
    assert_eq!(soon("read", read.read(&mut [0; 4])).await.unwrap(), 0);
    assert!(matches!(inside(&soon("read", read.read(&mut [0; 4])).await.unwrap_err()), Error::ClosedConnection));
    server.expect_silence(Duration::from_millis(100)).await;

    let (conn, peer) = server.pair().await;
    let (mut read, write) = conn.into_split();
    write.forget();
    drop(peer);
    assert_eq!(soon("read", read.read(&mut [0; 4])).await.unwrap(), 0);
    let mut peer = server.accept().await;
    peer.write_all(b"B").await.unwrap();
    assert_eq!(soon("read", read.read_u8()).await.unwrap(), b'B');
}

#[tokio::test]
async fn pending_read_never_blocks_a_write() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (mut read, mut write) = conn.into_split();
    let reader = tokio::spawn(async move { read.read_u8().await });
    for _ in 0..100 {
        soon("write", write.write_all(b"ping")).await.unwrap();
        soon("peer", peer.read_exact(&mut [0; 4])).await.unwrap();
    }
    peer.write_all(b"A").await.unwrap();
    assert_eq!(soon("reader", reader).await.unwrap().unwrap(), b'A');
}

/// Other threads poll while the runtime, with its timers, goes away.
#[test]
fn runtime_that_shuts_down_under_reads_that_have_timers_is_an_error_and_no_panic() {
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
            assert!(matches!(inside(&error), Error::RuntimeShutdown), "{error:?}");
        }
    }
}
