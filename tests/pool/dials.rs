//! Dials that their callers leave, and the delays between dials that fail.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perconn::pool::{Event, GetError, Pool, PoolBuilder, Resource};
use perconn::testing::FaultProxy;
use perconn::{Dial, TcpDialer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_test::task::spawn;

use crate::fixtures::assert_all_given_back;
use crate::support::{Server, in_time, refused_address};

const MS: Duration = Duration::from_millis(1);

/// A server that greets each client with a byte.
async fn greeting_server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut clients = Vec::new();
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            client.write_all(b"!").await.unwrap();
            clients.push(client);
        }
    });
    address
}

/// A resource whose dials wait for the greeting.
fn greeted(pool: &Pool, address: std::net::SocketAddr) -> Resource {
    let dialer = TcpDialer::new(address).and_then(|mut stream: tokio::net::TcpStream| async move {
        stream.read_u8().await?;
        Ok(stream)
    });
    pool.resource_with("greeted", dialer).unwrap()
}

/// Reports each event.
fn watched(builder: PoolBuilder) -> (Pool, mpsc::UnboundedReceiver<Event>) {
    let (sender, events) = mpsc::unbounded_channel();
    (builder.on_event(move |event| drop(sender.send(event.clone()))).build().unwrap(), events)
}

/// A resource whose dials the test ends, one after the other.
struct Scripted {
    resource: Resource<u8>,
    dials: mpsc::UnboundedReceiver<oneshot::Sender<io::Result<u8>>>,
}

impl Scripted {
    fn new(pool: &Pool) -> Self {
        let (sender, dials) = mpsc::unbounded_channel();
        let resource = pool.resource_fn("scripted", move || {
            let (end, ended) = oneshot::channel();
            sender.send(end).unwrap();
            async {
                match ended.await {
                    Ok(outcome) => outcome,
                    Err(_) => std::future::pending().await,
                }
            }
        });
        Self { resource, dials }
    }

    /// The next dial that has begun.
    fn dial(&mut self) -> oneshot::Sender<io::Result<u8>> {
        self.dials.try_recv().expect("a dial has begun")
    }

    fn has_dialed(&mut self) -> bool {
        !self.dials.is_empty()
    }
}

fn refused() -> io::Error {
    io::ErrorKind::ConnectionRefused.into()
}

// ===== callers that leave =====

#[tokio::test]
async fn callers_that_are_more_impatient_than_a_dial_share_one_dial_and_get_its_connection() {
    let proxy = FaultProxy::start(greeting_server().await).await.unwrap();
    proxy.latency(150 * MS, Duration::ZERO);
    let pool = Pool::new(4).unwrap();
    let resource = greeted(&pool, proxy.addr());
    let mut timeouts = 0;
    in_time("a connection", async {
        loop {
            match resource.get_timeout(20 * MS).await {
                Ok(_) => break,
                Err(GetError::Timeout { .. }) => timeouts += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert!(timeouts > 1, "{timeouts} callers were too impatient");
    assert_eq!((proxy.ledger().len(), pool.stats().opened, pool.stats().dials_failed), (1, 1, 0));
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn connection_of_a_dial_whose_caller_has_left_becomes_idle() {
    let proxy = FaultProxy::start(greeting_server().await).await.unwrap();
    proxy.latency(50 * MS, Duration::ZERO);
    let (pool, mut events) = watched(Pool::builder(4));
    let resource = greeted(&pool, proxy.addr());
    assert!(resource.get_timeout(MS).await.is_err());
    assert_eq!(pool.stats().in_use, 1);
    let event = in_time("the dial", events.recv()).await.unwrap();
    assert!(matches!(event, Event::Opened { .. }), "{event}");
    assert!(in_time("get", resource.get()).await.unwrap().is_reused());
    assert_eq!(proxy.ledger().len(), 1);
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn waiter_gets_the_connection_of_a_dial_whose_caller_has_left_as_a_new_one() {
    let pool = Pool::new(1).unwrap();
    let mut scripted = Scripted::new(&pool);
    let resource = scripted.resource.clone();
    let other = pool.resource_fn("other", || std::future::ready(Ok(1)));
    let mut leaves = spawn(resource.get());
    assert!(leaves.poll().is_pending());
    // This one came before the next, but the dial is not for its resource.
    let mut needs_slot = spawn(other.get());
    assert!(needs_slot.poll().is_pending());
    let mut waits = spawn(resource.get());
    assert!(waits.poll().is_pending());
    drop(leaves);
    scripted.dial().send(Ok(7)).unwrap();
    let conn = in_time("the waiter", &mut waits).await.unwrap();
    assert_eq!((*conn, conn.is_reused(), scripted.has_dialed()), (7, false, false));
    assert!(needs_slot.poll().is_pending());
    drop(conn);
    drop(in_time("the other", needs_slot).await.unwrap());
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn greeting_that_arrives_on_a_new_connection_is_for_the_waiter_that_gets_it() {
    let server = Server::start().await;
    let (pool, set_up) = (Pool::new(1).unwrap(), Arc::new(Notify::new()));
    let gate = Arc::clone(&set_up);
    let dialer = TcpDialer::new(server.address).and_then(move |stream: tokio::net::TcpStream| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            Ok(stream)
        }
    });
    let resource = pool.resource_with("greets", dialer).unwrap();
    let mut leaves = spawn(resource.get());
    let mut peer = in_time("a dial", async {
        tokio::select! {
            _ = &mut leaves => unreachable!("the set-up waits"),
            peer = server.accept() => peer,
        }
    })
    .await;
    let mut waits = spawn(resource.get());
    assert!(waits.poll().is_pending());
    drop(leaves);
    peer.write_all(b"!").await.unwrap();
    set_up.notify_one();
    let mut conn = in_time("the waiter", waits).await.unwrap();
    assert!(!conn.is_reused());
    assert_eq!(in_time("the greeting", conn.read_u8()).await.unwrap(), b'!');
}

#[tokio::test(start_paused = true)]
async fn dial_whose_caller_has_left_ends_at_the_dial_timeout() {
    let (pool, mut events) = watched(Pool::builder(1).dial_timeout(5_000 * MS));
    let hung = pool.resource_fn::<_, _, u8>("hung", std::future::pending);
    let other = pool.resource_fn("other", || std::future::ready(Ok(1)));
    let began = Instant::now();
    assert!(hung.get_timeout(10 * MS).await.is_err());
    let mut waits = spawn(hung.get());
    assert!(waits.poll().is_pending());
    // It has the slot until then.
    let got = other.get().await.unwrap();
    assert_eq!((*got, began.elapsed()), (1, 5_000 * MS));
    assert_eq!(waits.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(events.recv().await.unwrap().to_string(), "hung: dial failed: the dial took longer than 5s");
    assert_eq!(pool.stats().dials_failed, 1);
}

#[tokio::test]
async fn dial_whose_caller_has_left_ends_with_the_last_handle_of_its_resource_or_with_the_pool() {
    for closes in [false, true] {
        let (pool, mut events) = watched(Pool::builder(1));
        let scripted = Scripted::new(&pool);
        let mut leaves = spawn(scripted.resource.get());
        assert!(leaves.poll().is_pending());
        drop(leaves);
        assert_eq!(pool.stats().in_use, 1);
        let kept = closes.then(|| {
            pool.close();
            scripted.resource.clone()
        });
        drop(scripted.resource);
        let event = in_time("the end of the dial", events.recv()).await.unwrap();
        assert!(matches!(event, Event::DialFailed { .. }), "{event}");
        while pool.stats().in_use > 0 {
            tokio::task::yield_now().await;
        }
        assert_all_given_back(&pool);
        drop(kept);
    }
}

#[test]
fn dial_of_a_runtime_that_ends_leaves_the_resource_to_the_next_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (pool, mut events) = watched(Pool::builder(1));
    let mut scripted = Scripted::new(&pool);
    let resource = scripted.resource.clone();
    runtime().block_on(async { assert!(resource.get_timeout(MS).await.is_err()) });
    drop(scripted.dial());
    assert_eq!(events.try_recv().unwrap().to_string(), "scripted: dial failed: the dial was cancelled");
    assert_all_given_back(&pool);
    runtime().block_on(async {
        let mut next = spawn(resource.get());
        assert!(next.poll().is_pending());
        scripted.dial().send(Ok(7)).unwrap();
        assert_eq!(*in_time("the next", next).await.unwrap(), 7);
    });
}

#[tokio::test]
async fn panic_of_a_dial_whose_caller_has_left_is_contained_and_counted() {
    let (pool, mut events) = watched(Pool::builder(1));
    let (panic, panics) = oneshot::channel::<()>();
    let mut panics = Some(panics);
    let resource = pool.resource_fn("panics once", move || {
        let panics = panics.take();
        async move {
            if let Some(panics) = panics {
                let _ = panics.await;
                std::panic::resume_unwind(Box::new("on purpose"));
            }
            Ok(1)
        }
    });
    let mut leaves = spawn(resource.get());
    assert!(leaves.poll().is_pending());
    let mut waits = spawn(resource.get());
    assert!(waits.poll().is_pending());
    drop(leaves);
    panic.send(()).unwrap();
    let event = in_time("the panic", events.recv()).await.unwrap();
    assert_eq!(event.to_string(), "panics once: dial failed: the dialer panicked: on purpose");
    let refusal = in_time("the waiter", waits).await.unwrap_err();
    let text = refusal.with_causes().to_string();
    assert!(text.starts_with("dial to panics once failed") && text.ends_with("on purpose"), "{text}");
    assert_eq!(pool.stats().dials_failed, 1);
    assert_all_given_back(&pool);
    drop(in_time("the next dial", resource.get_timeout(Duration::from_secs(10))).await.unwrap());
}

#[tokio::test]
async fn dial_by_a_borrowed_dialer_ends_with_its_caller() {
    let server = Server::start().await;
    let (pool, mut events) = watched(Pool::builder(1));
    let resource = pool.resource(server.address).unwrap();
    let mut hangs = TcpDialer::new(server.address).and_then(|_| std::future::pending::<io::Result<_>>());
    assert!(timeout(10 * MS, resource.get_with(&mut hangs)).await.is_err());
    let event = in_time("the end", events.recv()).await.unwrap();
    assert!(event.to_string().ends_with("dial failed: the dial was cancelled by its caller"), "{event}");
    assert_all_given_back(&pool);
    // It does not concern the resource's own dialer.
    drop(in_time("get", resource.get()).await.unwrap());
}

// ===== dials that fail =====

/// A resource whose dials fail, and their number.
fn failing(pool: &Pool) -> (Resource<u8>, Arc<AtomicUsize>) {
    let dials = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dials);
    let resource = pool.resource_fn("dead", move || {
        count.fetch_add(1, SeqCst);
        std::future::ready(Err(refused()))
    });
    (resource, dials)
}

#[tokio::test(start_paused = true)]
async fn impatient_callers_do_not_hammer_a_dead_server() {
    let pool = Pool::builder(4).retry_min(100 * MS).retry_max(1_000 * MS).build().unwrap();
    let (resource, dials) = failing(&pool);
    let end = Instant::now() + 30_000 * MS;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..9 {
        let resource = resource.clone();
        callers.spawn(async move {
            while Instant::now() < end {
                let error = match caller % 3 {
                    0 => resource.get_timeout(50 * MS).await,
                    1 => resource.try_get().await,
                    _ => resource.get().await,
                };
                assert_eq!(error.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
                sleep(5 * MS).await;
            }
        });
    }
    callers.join_all().await;
    // At the longest delay, a dial begins each 100 ms to 1 s.
    let dials = dials.load(SeqCst);
    assert!((30..150).contains(&dials), "{dials} dials within half a minute");
    assert_eq!(pool.stats().dials_failed, dials as u64);
}

#[tokio::test(start_paused = true)]
async fn caller_during_the_delay_gets_the_last_cause_and_the_time_that_is_left() {
    let (pool, mut events) = watched(Pool::builder(1).retry_min(1_000 * MS).retry_max(1_000 * MS));
    let (resource, dials) = failing(&pool);
    let error = resource.get().await.unwrap_err();
    assert!(matches!(error, GetError::Dial { retry_in: None, .. }), "{error:?}");
    sleep(400 * MS).await;
    for error in [
        resource.get().await.unwrap_err(),
        resource.try_get().await.unwrap_err(),
        resource.get_timeout(600 * MS).await.unwrap_err(),
    ] {
        assert!(matches!(error, GetError::Dial { retry_in: Some(time), .. } if time == 600 * MS), "{error:?}");
        let text = error.with_causes().to_string();
        assert_eq!(text, "dial to dead failed, and it is not dialed again for 600.0ms: connection refused");
    }
    assert_eq!(dials.load(SeqCst), 1);
    assert_all_given_back(&pool);
    events.recv().await.unwrap();
    assert!(events.is_empty(), "an error without a dial is no event");
}

#[tokio::test(start_paused = true)]
async fn caller_with_a_limit_waits_for_the_next_dial_and_holds_nothing_meanwhile() {
    let pool = Pool::builder(1).retry_min(1_000 * MS).retry_max(1_000 * MS).build().unwrap();
    let mut scripted = Scripted::new(&pool);
    let resource = scripted.resource.clone();
    let mut fails = spawn(resource.get());
    assert!(fails.poll().is_pending());
    scripted.dial().send(Err(refused())).unwrap();
    assert!(fails.await.is_err());
    let began = Instant::now();
    let mut waits = spawn(resource.get_timeout(2_000 * MS));
    assert!(waits.poll().is_pending());
    assert_eq!((pool.stats().in_use, scripted.has_dialed()), (0, false));
    drop(pool.try_slot().unwrap());
    sleep(1_100 * MS).await;
    assert!(waits.is_woken() && waits.poll().is_pending());
    scripted.dial().send(Ok(7)).unwrap();
    assert_eq!(*waits.await.unwrap(), 7);
    assert!(began.elapsed() < 2_000 * MS);
    // The row of failures is over.
    drop(pool.try_slot().unwrap());
    let mut dials = spawn(resource.get());
    assert!(dials.poll().is_pending());
    scripted.dial().send(Ok(8)).unwrap();
    assert_eq!(*dials.await.unwrap(), 8);
}

#[tokio::test]
async fn every_address_is_dialed_once_before_the_first_delay() {
    let addresses = [refused_address().await, refused_address().await];
    let pool = Pool::builder(1).retry_min(Duration::from_secs(60)).retry_max(Duration::from_secs(60)).build().unwrap();
    let resource = pool.resource_with("two addresses", TcpDialer::with_addresses(addresses)).unwrap();
    for retries in [false, false, true] {
        let error = in_time("get", resource.get()).await.unwrap_err();
        assert!(matches!(error, GetError::Dial { retry_in, .. } if retry_in.is_some() == retries), "{error:?}");
    }
    assert_eq!(pool.stats().dials_failed, 2);
}

#[tokio::test]
async fn server_that_comes_back_is_dialed_after_the_delay() {
    let proxy = FaultProxy::start(greeting_server().await).await.unwrap();
    let pool = Pool::builder(1).retry_min(10 * MS).retry_max(50 * MS).build().unwrap();
    let resource = greeted(&pool, proxy.addr());
    proxy.refuse();
    let error = in_time("get", resource.get()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    proxy.heal();
    drop(in_time("get", resource.get_timeout(Duration::from_secs(10))).await.unwrap());
    assert_eq!((pool.stats().opened, pool.stats().dials_failed), (1, 1));
}

#[tokio::test]
async fn loop_of_gets_that_fail_without_a_dial_yields_to_other_tasks() {
    let pool = Pool::builder(1).retry_min(Duration::from_secs(60)).retry_max(Duration::from_secs(60)).build().unwrap();
    let (resource, dials) = failing(&pool);
    let looping = tokio::spawn(async move {
        loop {
            drop(resource.get().await);
        }
    });
    // There is only this one thread.
    sleep(5 * MS).await;
    looping.abort();
    assert!(looping.await.unwrap_err().is_cancelled());
    assert_eq!(dials.load(SeqCst), 1);
}

#[test]
fn error_that_uses_the_pool_when_it_is_dropped_does_not_deadlock() {
    #[derive(Debug)]
    struct AsksPool(Arc<Mutex<Option<Resource<u8>>>>);
    impl std::fmt::Display for AsksPool {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("on purpose")
        }
    }
    impl std::error::Error for AsksPool {}
    impl Drop for AsksPool {
        fn drop(&mut self) {
            let resource = self.0.lock().unwrap().clone();
            if let Some(resource) = resource {
                let _ = spawn(resource.get()).poll();
            }
        }
    }
    let (sender, done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let pool = Pool::builder(1).retry_min(MS).retry_max(MS).build().unwrap();
            let own = Arc::new(Mutex::new(None));
            let resource = pool.resource_fn("own", {
                let own = Arc::clone(&own);
                move || std::future::ready(Err(io::Error::other(AsksPool(Arc::clone(&own)))))
            });
            *own.lock().unwrap() = Some(resource.clone());
            for _ in 0..3 {
                drop(resource.get_timeout(Duration::from_secs(1)).await);
            }
            own.lock().unwrap().take();
        });
        sender.send(()).unwrap();
    });
    assert!(done.recv_timeout(crate::support::HANG_LIMIT).is_ok(), "deadlock");
}
