//! A shared connection where its parts meet at a bad moment: outages, closes, cancelled calls, foreign executors, streams
//! that keep bytes to themselves or panic.

#![allow(clippy::redundant_clone, reason = "each call owns its handle")]

mod support;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use perconn::{Conn, Error, SharedConn, Status, WhenDown, dial_fn};
use support::{Server, inside, pipes, quick, refused_address, soon};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf};
use tokio_test::task::spawn;

async fn within<T>(millis: u64, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_millis(millis), future).await.ok()
}

/// Waits for a link of this number, or a later one.
async fn generation_up<S>(conn: &SharedConn<S>, number: u64) {
    let is_there = |status: &Status| matches!(status, Status::Connected { generation, .. } if *generation >= number);
    soon("the link", conn.watch_status().wait_for(is_there)).await.unwrap();
}

/// On a runtime of one thread: whoever can go on has done so.
async fn let_others_run() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn job_of_many_bytes_waits_for_a_link_no_longer_than_others() {
    let address = refused_address().await;
    let limit = Duration::from_millis(50);
    let conn = quick(Conn::builder(address)).when_down(WhenDown::WaitFor(limit)).build().unwrap().into_shared();
    let large = within(2000, conn.write_all(&vec![0; 16 << 10])).await;
    assert!(large.is_some(), "a job of 16 KiB waits for ever");
}

#[tokio::test]
async fn job_that_was_told_of_its_timeout_is_not_sent() {
    let mut server = Server::start().await;
    server.stop();
    let limit = Duration::from_millis(50);
    let conn = server.client().when_down(WhenDown::WaitFor(limit)).build().unwrap().into_shared();
    let mut call = Box::pin(conn.write_all(b"ghost"));
    let error = soon("write", call.as_mut()).await.unwrap_err();
    assert!(matches!(inside(&error), Error::WaitTimeout { .. }));
    server.restart().await;
    let mut peer = server.accept().await;
    let mut buf = [0; 16];
    let got = within(300, peer.read(&mut buf)).await;
    assert!(got.is_none(), "sent after WaitTimeout: {:?}", &buf[..got.unwrap().unwrap()]);
}

#[tokio::test]
async fn giving_up_is_told_whatever_the_policy() {
    let address = refused_address().await;
    let conn = quick(Conn::builder(address)).when_down(WhenDown::Fail).max_retries(0).build().unwrap().into_shared();
    let mut status = conn.watch_status();
    soon("gave up", status.wait_for(|status| *status == Status::GaveUp)).await.unwrap();
    let error = soon("write", conn.write_all(b"x")).await.unwrap_err();
    let read = soon("read", conn.read(&mut [0; 8])).await.unwrap_err();
    assert!(matches!(inside(&read), Error::GaveUp { .. }), "read {read:?}");
    assert!(matches!(inside(&error), Error::GaveUp { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_is_told_that_there_is_no_link_while_one_is_up() {
    let server = Server::start().await;
    let (conn, peer) = tokio::join!(server.client().when_down(WhenDown::Fail).connect(), server.accept());
    let conn = conn.unwrap().into_shared();
    // Two tasks are known to write.
    for _ in 0..3 {
        let [a, b] = [conn.clone(), conn.clone()].map(|conn| tokio::spawn(async move { conn.write_all(b"x").await }));
        a.await.unwrap().unwrap();
        b.await.unwrap().unwrap();
    }
    drop(peer);
    let _peer = server.accept().await;
    generation_up(&conn, 2).await;
    let_others_run().await;
    let [a, b] = [conn.clone(), conn.clone()].map(|conn| tokio::spawn(async move { conn.write_all(b"y").await }));
    let outcomes = [a.await.unwrap(), b.await.unwrap()];
    assert_eq!(conn.generation(), 2);
    assert!(conn.is_connected());
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

#[tokio::test]
async fn close_in_an_outage_does_not_wait_for_jobs_that_were_cancelled() {
    let address = refused_address().await;
    let conn = quick(Conn::builder(address)).build().unwrap().into_shared();
    assert!(within(50, conn.write_all(b"x")).await.is_none());
    let began = Instant::now();
    conn.close().await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn close_in_an_outage_does_not_wait_for_jobs_that_timed_out() {
    let address = refused_address().await;
    let limit = Duration::from_millis(50);
    let conn = quick(Conn::builder(address)).when_down(WhenDown::WaitFor(limit)).build().unwrap().into_shared();
    conn.write_all(b"x").await.unwrap_err();
    let began = Instant::now();
    conn.close().await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn close_ends_when_the_last_job_is_withdrawn() {
    let address = refused_address().await;
    let conn = quick(Conn::builder(address)).build().unwrap().into_shared();
    let bytes = vec![0; 20_000];
    let mut large = spawn(conn.write_all(&bytes));
    assert!(large.poll().is_pending());
    let_others_run().await;
    let began = Instant::now();
    let mut close = Box::pin(conn.close());
    assert!(within(20, close.as_mut()).await.is_none());
    drop(large);
    close.await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn close_works_on_a_foreign_executor() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let conn = runtime.block_on(async { Conn::connect(address).await.unwrap().into_shared() });
    let _peer = listener.accept().unwrap();
    block_on(conn.write_all(b"x")).unwrap();
    block_on(conn.close());
}

#[test]
fn close_works_on_a_runtime_without_timers() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let conn = runtime.block_on(async { Conn::connect(address).await.unwrap().into_shared() });
    let _peer = listener.accept().unwrap();
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    other.block_on(conn.close());
}

/// The plainest executor there is.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Thread(std::thread::Thread);
    impl Wake for Thread {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Thread(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn runtime_that_ends_before_the_writing_task_ran_leaves_nobody_waiting() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let conn = runtime.block_on(async { Conn::connect(address).await.unwrap().into_shared() });
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(async {
        for task in 0..3 {
            let conn = conn.clone();
            let call = tokio::spawn(async move { within(2000, conn.write_all(b"x")).await });
            let outcome = call.await.unwrap();
            assert!(outcome.is_some(), "task {task} hangs");
        }
    });
}

#[tokio::test(start_paused = true)]
async fn close_ends_jobs_behind_one_that_is_held() {
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
    let_others_run().await;
    soon("close", conn.close()).await;
    let outcome = within(2000, behind).await;
    assert!(outcome.is_some(), "waits for ever, though the connection is closed");
}

/// A stream whose every write is the test's.
type Hook = Box<dyn FnMut(&[u8]) -> Poll<io::Result<usize>> + Send>;
struct Puppet {
    hook: Arc<Mutex<Hook>>,
}

impl AsyncRead for Puppet {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Puppet {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = self.hook.lock().unwrap_or_else(PoisonError::into_inner)(bytes);
        if outcome.is_pending() {
            // Tried again after a while.
            let waker = cx.waker().clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(5));
                waker.wake();
            });
        }
        outcome
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A connection over such streams, `links` of them; later dials fail.
async fn puppet(when_down: WhenDown, links: usize, hook: Hook) -> SharedConn<Puppet> {
    let hook = Arc::new(Mutex::new(hook));
    let mut dials = 0;
    let dialer = dial_fn(move || {
        dials += 1;
        let stream = Puppet { hook: Arc::clone(&hook) };
        std::future::ready(if dials <= links { Ok(stream) } else { Err(io::ErrorKind::ConnectionRefused.into()) })
    });
    quick(Conn::builder("puppet").dialer(dialer)).when_down(when_down).connect().await.unwrap().into_shared()
}

/// A caller is alone and writes; meanwhile another one comes and loses interest; the first has to stand in the row.
async fn false_ok(size: usize) {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let other: Arc<Mutex<Option<SharedConn<Puppet>>>> = Arc::default();
    let is_first = AtomicBool::new(true);
    let is_open = Arc::new(AtomicBool::new(false));
    let hook: Hook = Box::new({
        let (sent, other, is_open) = (Arc::clone(&sent), Arc::clone(&other), Arc::clone(&is_open));
        move |bytes| {
            if is_first.swap(false, Ordering::SeqCst) {
                // As if in another thread, at this moment.
                let conn = other.lock().unwrap().clone().unwrap();
                let mut call = Box::pin(conn.write_all(b"cancelled"));
                assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                return Poll::Pending;
            }
            if !is_open.load(Ordering::SeqCst) {
                return Poll::Pending;
            }
            sent.lock().unwrap().extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }
    });
    let conn = puppet(WhenDown::Wait, 1, hook).await;
    *other.lock().unwrap() = Some(conn.clone());
    let bytes = vec![7; size];
    let mut call = spawn(conn.write_all(&bytes));
    assert!(call.poll().is_pending());
    assert!(call.poll().is_pending(), "Ok, though no byte has been taken: {:?}", sent.lock().unwrap().len());
    is_open.store(true, Ordering::SeqCst);
    soon("the first", call).await.unwrap();
    assert_eq!(sent.lock().unwrap().len(), size);
}

#[tokio::test]
async fn few_bytes_of_a_caller_that_was_alone_are_not_taken_for_sent() {
    false_ok(100).await;
}

#[tokio::test]
async fn many_bytes_of_a_caller_that_was_alone_are_not_taken_for_sent() {
    false_ok(20_000).await;
}

async fn break_seen_alone(when_down: WhenDown) {
    let other: Arc<Mutex<Option<SharedConn<Puppet>>>> = Arc::default();
    let joined = Arc::new(Mutex::new(None));
    let hook: Hook = Box::new({
        let (other, joined) = (Arc::clone(&other), Arc::clone(&joined));
        move |_| {
            let Some(conn) = other.lock().unwrap().take() else { panic!("one write only") };
            // In another worker, at this moment.
            let (sender, is_in_the_queue) = std::sync::mpsc::channel();
            let call = tokio::spawn(async move {
                let mut call = pin!(conn.write_all(b"joined"));
                poll_fn(|cx| {
                    let outcome = call.as_mut().poll(cx);
                    let _ = sender.send(());
                    outcome
                })
                .await
            });
            is_in_the_queue.recv().unwrap();
            *joined.lock().unwrap() = Some(call);
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    });
    let conn = puppet(when_down, 1, hook).await;
    *other.lock().unwrap() = Some(conn.clone());
    within(1000, conn.write_all(b"first")).await;
    let call = joined.lock().unwrap().take().unwrap();
    let outcome = within(2000, call).await;
    assert!(outcome.is_some(), "{when_down:?} waits for ever");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn job_that_came_while_another_met_the_break_is_told_that_there_is_no_link() {
    break_seen_alone(WhenDown::Fail).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn job_that_came_while_another_met_the_break_waits_no_longer_than_its_time() {
    break_seen_alone(WhenDown::WaitFor(Duration::from_millis(100))).await;
}

#[tokio::test]
async fn stream_that_keeps_bytes_is_flushed_before_a_job_is_done() {
    use tokio::io::BufStream;
    let server = Server::start().await;
    let address = server.address;
    let dialer = dial_fn(move || async move { tokio::net::TcpStream::connect(address).await.map(BufStream::new) });
    let (conn, mut peer) = tokio::join!(quick(Conn::builder(address).dialer(dialer)).connect(), server.accept());
    let conn = conn.unwrap().into_shared();
    conn.write_all(b"hello").await.unwrap();
    let got = within(500, peer.read(&mut [0; 16])).await;
    conn.close().await;
    drop(conn);
    let mut all = Vec::new();
    let _ = soon("end", peer.read_to_end(&mut all)).await;
    assert!(got.is_some(), "Ok, but the kernel has nothing; after close the peer had {all:?}");
}

#[tokio::test]
async fn panic_of_the_stream_leaves_the_right_to_write_to_others() {
    let count = AtomicUsize::new(0);
    let hook: Hook = Box::new(move |bytes| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            panic!("the stream's own");
        }
        Poll::Ready(Ok(bytes.len()))
    });
    let conn = puppet(WhenDown::Wait, 2, hook).await;
    let one = conn.clone();
    // Alone: polled by `block_on`, which is no task.
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = Box::pin(one.write_all(b"x")).as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }));
    assert!(caught.is_err());
    let outcome = within(1000, conn.write_all(b"y")).await;
    assert!(outcome.is_some(), "hangs");
}

#[tokio::test]
async fn clone_that_slept_through_many_breaks_is_told_of_none_twice() {
    let (conn, mut peers) = pipes().await;
    let conn = conn.into_shared();
    let clone = conn.clone();
    let next = async |peers: &mut tokio::sync::mpsc::UnboundedReceiver<DuplexStream>, generation: u64| {
        let peer = soon("dial", peers.recv()).await.unwrap();
        generation_up(&conn, generation).await;
        peer
    };
    drop(next(&mut peers, 1).await);
    // Another clone is told of the first break, and the one in question sleeps.
    assert_eq!(soon("read", conn.read(&mut [0; 8])).await.unwrap(), 0);
    for generation in 2..=19 {
        let _peer = next(&mut peers, generation).await;
        conn.reconnect();
    }
    let _peer = next(&mut peers, 20).await;
    let mut told = Vec::new();
    while let Some(outcome) = within(100, clone.read(&mut [0; 8])).await {
        told.push(match outcome {
            Ok(n) => (n as u64, "end"),
            Err(error) => (support::told_generation(&error), "error"),
        });
    }
    let mut unique = told.clone();
    unique.dedup();
    assert_eq!(told, unique);
}

#[test]
fn waker_that_drops_another_call_when_it_is_dropped_does_no_harm() {
    type Call = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;
    struct Holder(#[expect(dead_code, reason = "it is there to be dropped")] Mutex<Option<Call>>);
    impl Wake for Holder {
        fn wake(self: Arc<Self>) {}
    }
    let (sender, done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let address = refused_address().await;
            let conn = quick(Conn::builder(address)).build().unwrap().into_shared();
            let mut noop = Context::from_waker(Waker::noop());
            let job = |conn: SharedConn| Box::pin(async move { conn.write_all(b"x").await });
            let mut front = job(conn.clone());
            assert!(front.as_mut().poll(&mut noop).is_pending());
            let mut held = job(conn.clone());
            assert!(held.as_mut().poll(&mut noop).is_pending());
            let waker = Waker::from(Arc::new(Holder(Mutex::new(Some(held)))));
            let mut call = job(conn.clone());
            assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            drop(call);
        });
        sender.send(()).unwrap();
    });
    assert!(done.recv_timeout(Duration::from_secs(5)).is_ok(), "deadlock");
}

/// A future that is polled when its task has used up its budget: what it needs first says "pending".
async fn poll_without_budget<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| {
        while pin!(tokio::task::consume_budget()).poll(cx).is_ready() {}
        Poll::Ready(Pin::new(&mut *future).poll(cx))
    })
    .await
}

#[tokio::test]
async fn job_that_was_cut_is_told_of_the_break_and_not_that_there_is_no_link() {
    let server = Server::start().await;
    let (conn, mut peer) = tokio::join!(server.client().when_down(WhenDown::Fail).connect(), server.accept());
    let conn = conn.unwrap().into_shared();
    let bytes = vec![7; 32 << 20];
    let mut call = Box::pin(conn.write_all(&bytes));
    assert!(within(100, call.as_mut()).await.is_none());
    soon("a part", peer.read_exact(&mut [0; 1000])).await.unwrap();
    let mut status = conn.watch_status();
    support::reset(peer);
    soon("the break", status.wait_for(|status| !status.is_connected())).await.unwrap();
    let outcome = match poll_without_budget(&mut call).await {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => soon("write", call).await,
    };
    let error = outcome.unwrap_err();
    assert!(matches!(inside(&error), Error::IoError { generation: 1, .. }), "{error:?}");
}

/// Takes all, and is never done with the flush of many bytes.
#[derive(Default)]
struct Hoard(usize);

impl AsyncRead for Hoard {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Hoard {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0 += bytes.len();
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0 < 1000 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn job_that_waits_for_its_flush_is_told_of_the_break_and_not_that_there_is_no_link() {
    let dialer = dial_fn(|| std::future::ready(Ok(Hoard::default())));
    let builder = quick(Conn::builder("a hoard").dialer(dialer)).when_down(WhenDown::Fail);
    let conn = builder.connect().await.unwrap().into_shared();
    // Two tasks are known to write, so that the job stands in the row.
    for _ in 0..2 {
        let conn = conn.clone();
        tokio::spawn(async move { conn.write_all(b"x").await }).await.unwrap().unwrap();
    }
    let bytes = vec![1; 20_000];
    let mut call = Box::pin(conn.write_all(&bytes));
    for _ in 0..5 {
        let_others_run().await;
        assert!(poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending());
    }
    conn.reconnect();
    let outcome = match poll_without_budget(&mut call).await {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => soon("write", call).await,
    };
    let error = outcome.unwrap_err();
    assert!(matches!(inside(&error), Error::IoError { .. }), "{error:?}");
}

#[tokio::test]
async fn stream_that_panics_costs_its_link_and_tears_no_job() {
    for size in [100, 20_000] {
        let sent: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let wire = Arc::clone(&sent);
        let dialer = dial_fn(move || {
            let (wire, link) = (Arc::clone(&wire), wire.lock().unwrap().len());
            wire.lock().unwrap().push(Vec::new());
            let hook: Hook = Box::new(move |bytes| {
                let mut wire = wire.lock().unwrap();
                // The first job of the first link.
                if link == 0 && bytes.len() > 10 {
                    wire[0].extend_from_slice(&bytes[..50]);
                    drop(wire);
                    std::panic::resume_unwind(Box::new("the stream's own"));
                }
                wire[link].extend_from_slice(bytes);
                Poll::Ready(Ok(bytes.len()))
            });
            std::future::ready(Ok(Puppet { hook: Arc::new(Mutex::new(hook)) }))
        });
        let conn = quick(Conn::builder("panics").dialer(dialer)).connect().await.unwrap().into_shared();
        // Two tasks are known to write, so that the jobs stand in the row.
        for _ in 0..2 {
            let conn = conn.clone();
            tokio::spawn(async move { conn.write_all(b"x").await }).await.unwrap().unwrap();
        }
        let call = tokio::spawn({
            let conn = conn.clone();
            async move { conn.write_all(&vec![7; size]).await }
        });
        let _ = soon("the job", call).await;
        soon("the next job", conn.write_all(b"next")).await.unwrap();
        let sent = sent.lock().unwrap();
        assert!(sent[0].iter().all(|byte| b"x\x07".contains(byte)), "{} bytes follow a torn job", sent[0].len() - 52);
        assert!(
            sent[1].ends_with(b"next") && (sent[1].len() - 4) % size == 0,
            "{} bytes on the next link",
            sent[1].len()
        );
    }
}

#[tokio::test]
async fn read_behind_a_held_one_ends_at_the_close() {
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
    let_others_run().await;
    soon("close", conn.close()).await;
    for error in [soon("the one behind", behind).await.unwrap(), soon("a late one", conn.read(&mut [0; 8])).await] {
        assert!(matches!(inside(&error.unwrap_err()), Error::ClosedConnection));
    }
}

#[test]
fn last_clone_closes_the_socket_though_the_runtime_stands_still() {
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
    peer.set_read_timeout(Some(support::HANG)).unwrap();
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"x");
}

#[tokio::test]
async fn waker_that_panics_harms_nobody_else() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            std::panic::resume_unwind(Box::new("the waker's own"));
        }
    }
    let server = Server::start().await;
    let address = server.address;
    let conn = quick(Conn::builder(address)).build().unwrap().into_shared();
    let bomb = Waker::from(Arc::new(Bomb));
    let small = vec![1; 10];
    let large = vec![2; 20_000];
    let mut calls = [Box::pin(conn.write_all(&small)), Box::pin(conn.write_all(&large))];
    for call in &mut calls {
        assert!(call.as_mut().poll(&mut Context::from_waker(&bomb)).is_pending());
    }
    let mut peer = server.accept().await;
    soon("the small one", peer.read_exact(&mut [0; 10])).await.unwrap();
    for call in calls {
        soon("write", call).await.unwrap();
    }
    soon("another", conn.write_all(b"x")).await.unwrap();
}

#[tokio::test]
async fn cancelled_calls_behind_one_that_waits_leave_nothing_behind() {
    let address = refused_address().await;
    let conn = quick(Conn::builder(address)).build().unwrap().into_shared();
    let mut waits = spawn(conn.write_all(b"waits"));
    assert!(waits.poll().is_pending());
    let call = || {
        let mut call = Box::pin(conn.write_all(b"beat"));
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        call
    };
    // Two take turns, so that there is always one.
    let mut last = call();
    let mut time_of = |calls| {
        let began = Instant::now();
        for _ in 0..calls {
            last = call();
        }
        began.elapsed()
    };
    let first = time_of(2_000);
    time_of(16_000);
    let then = time_of(2_000);
    assert!(then < first * 5 + Duration::from_millis(100), "2,000 calls took {first:?}, and later {then:?}");
}
