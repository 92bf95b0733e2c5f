//! Which callers wait, in which order, and for how long.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use perconn::pool::{GetError, Pool, Resource};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_test::task::spawn;

use crate::fixtures::assert_all_given_back;
use crate::support::{Server, in_time, refused_address};

fn number(pool: &Pool, name: &str) -> Resource<u8> {
    pool.resource_fn(name, || std::future::ready(Ok(1)))
}

#[tokio::test]
async fn callers_of_one_resource_are_served_in_order() {
    let pool = Pool::new(1).unwrap();
    let resource = number(&pool, "one");
    let first = resource.get().await.unwrap();
    let mut second = spawn(resource.get());
    assert!(second.poll().is_pending());
    let mut third = spawn(resource.get());
    assert!(third.poll().is_pending());
    assert_eq!(pool.stats().waiting, 2);
    drop(first);
    assert!(second.is_woken() && !third.is_woken());
    // A later call does not overtake them.
    assert!(resource.try_get().await.is_err());
    let second = in_time("the second", second).await.unwrap();
    assert!(third.poll().is_pending());
    drop(second);
    assert!(in_time("the third", third).await.unwrap().is_reused());
}

#[tokio::test]
async fn first_waiter_gets_the_slot_even_if_the_connection_would_serve_a_later_one() {
    let pool = Pool::new(1).unwrap();
    let (a, b) = (number(&pool, "a"), number(&pool, "b"));
    let first = a.get().await.unwrap();
    let mut other = spawn(b.get());
    assert!(other.poll().is_pending());
    let mut same = spawn(a.get());
    assert!(same.poll().is_pending());
    drop(first);
    let other = in_time("the first waiter", other).await.unwrap();
    assert!(same.poll().is_pending());
    drop(other);
    assert!(!in_time("the second", same).await.unwrap().is_reused());
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn waiter_that_gives_up_does_not_block_others() {
    let pool = Pool::new(1).unwrap();
    let (a, b) = (number(&pool, "a"), number(&pool, "b"));
    for resource in [&a, &b] {
        let first = a.get().await.unwrap();
        let mut gives_up = spawn(resource.get());
        assert!(gives_up.poll().is_pending());
        let mut waits = spawn(b.get());
        assert!(waits.poll().is_pending());
        drop(gives_up);
        drop(first);
        drop(in_time("the waiter", waits).await.unwrap());
    }
    // A waiter that was granted the connection, and is dropped without a poll.
    let first = a.get().await.unwrap();
    let mut gives_up = spawn(a.get());
    assert!(gives_up.poll().is_pending());
    let mut waits = spawn(b.get());
    assert!(waits.poll().is_pending());
    drop(first);
    assert!(gives_up.is_woken() && !waits.is_woken());
    drop(gives_up);
    drop(in_time("the waiter", waits).await.unwrap());
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn error_of_a_refused_dial_reaches_all_waiters_at_once() {
    let address = refused_address().await;
    let pool = Pool::builder(4).dial_timeout(Duration::from_secs(3600)).build().unwrap();
    let resource = pool.resource(address).unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let resource = resource.clone();
        callers.spawn(async move { resource.get_timeout(Duration::from_secs(3600)).await.map(drop) });
    }
    while let Some(outcome) = in_time("an error", callers.join_next()).await {
        let error = outcome.unwrap().unwrap_err();
        assert!(matches!(error, GetError::Dial { .. }), "{error:?}");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert!(source.raw_os_error().is_some());
        assert_eq!(error.to_string(), format!("dial to {address} failed"));
    }
    assert_all_given_back(&pool);
}

#[tokio::test(start_paused = true)]
async fn hung_dial_keeps_its_slot_no_longer_than_the_dial_timeout() {
    let pool = Pool::builder(1).dial_timeout(Duration::from_secs(5)).build().unwrap();
    let hung = pool.resource_fn::<_, _, u8>("hung", std::future::pending);
    let good = number(&pool, "good");
    let began = tokio::time::Instant::now();
    let (one, two, good) = tokio::join!(hung.get(), hung.get(), good.get());
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    for outcome in [one, two] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.source().unwrap().to_string(), "the dial took longer than 5s");
    }
    drop(good.unwrap());
}

#[tokio::test(start_paused = true)]
async fn wait_with_a_limit_ends_in_time_and_leaves_nothing_behind() {
    let pool = Pool::new(1).unwrap();
    let (a, b) = (number(&pool, "a"), number(&pool, "b"));
    let hung = pool.resource_fn::<_, _, u8>("hung", std::future::pending);
    let limit = Duration::from_secs(2);
    let conn = a.get().await.unwrap();
    for (resource, cause) in [(&a, "another caller uses it"), (&b, "no slot is free")] {
        let error = resource.get_timeout(limit).await.unwrap_err();
        assert!(matches!(error, GetError::Timeout { .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("no connection to {} within 2s: {cause}", resource.name()));
    }
    drop(conn);
    // The limit ends the wait for a dial, too.
    let error = hung.get_timeout(limit).await.unwrap_err();
    assert_eq!(error.to_string(), "no connection to hung within 2s: its dial has not ended");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    drop(hung);
    tokio::task::yield_now().await;
    assert_all_given_back(&pool);
    assert_eq!(pool.stats().waiting, 0);
    drop(b.get().await.unwrap());
}

#[tokio::test]
async fn resource_works_after_a_dial_that_panicked() {
    let dials = Arc::new(AtomicUsize::new(0));
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource_fn("panics once", {
        let dials = Arc::clone(&dials);
        move || {
            let is_first = dials.fetch_add(1, Ordering::SeqCst) == 0;
            async move { if is_first { panic!("the dialer") } else { Ok(1) } }
        }
    });
    assert!(resource.get().await.is_err());
    drop(in_time("the next", resource.get_timeout(Duration::from_secs(10))).await.unwrap());
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn session_setup_that_hangs_ends_at_the_dial_timeout() {
    // The server accepts and sends nothing, while the set-up waits for a greeting.
    let silent = Server::start().await;
    let pool = Pool::builder(2).dial_timeout(Duration::from_millis(50)).build().unwrap();
    let greeting = |mut stream: tokio::net::TcpStream| async move {
        tokio::io::AsyncReadExt::read_u8(&mut stream).await?;
        Ok(stream)
    };
    use perconn::Dial;
    let dialer = perconn::TcpDialer::new(silent.address).and_then(greeting);
    let resource = pool.resource_with("silent", dialer).unwrap();
    let error = in_time("the dial timeout", resource.get()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_all_given_back(&pool);
}

/// Polls a future on another thread as soon as it is woken, before the waking thread goes on.
struct FasterWorker<F>(Mutex<Option<Pin<Box<F>>>>);

impl<F: Future + Send + 'static> Wake for FasterWorker<F> {
    fn wake(self: Arc<Self>) {
        let future = self.0.lock().unwrap().take();
        if let Some(mut future) = future {
            let runtime = tokio::runtime::Handle::current();
            let polled = std::thread::spawn(move || {
                let _entered = runtime.enter();
                let _ = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            });
            assert!(polled.join().is_ok(), "the next caller panicked");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn next_caller_finds_the_dialer_in_its_place_however_fast_it_is() {
    let pool = Pool::new(1).unwrap();
    let hung = pool.resource_fn::<_, _, u8>("hung", std::future::pending);
    let next = hung.clone();
    let ends = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut dials = spawn(async move { hung.get().await.map(drop) });
    {
        let _entered = ends.enter();
        assert!(dials.poll().is_pending());
    }
    let worker = Arc::new(FasterWorker(Mutex::new(None)));
    let mut waits = Box::pin(async move { next.get().await.map(drop) });
    assert!(waits.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&worker)))).is_pending());
    *worker.0.lock().unwrap() = Some(waits);
    // The dial goes on in its runtime, and ends with that.
    drop(dials);
    ends.shutdown_background();
    assert!(worker.0.lock().unwrap().is_none(), "the next caller was not woken");
    pool.close();
    in_time("the dial of the next caller", async {
        while pool.stats().in_use > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_all_given_back(&pool);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resource_works_after_refused_dials_of_many_tasks() {
    let address = refused_address().await;
    let pool = Pool::new(4).unwrap();
    let resource = pool.resource(address).unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let resource = resource.clone();
        callers.spawn(async move {
            for _ in 0..100 {
                assert!(matches!(resource.get().await, Err(GetError::Dial { .. })));
            }
        });
    }
    in_time("all callers", callers.join_all()).await;
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn next_address_is_dialed_after_a_dial_that_took_too_long() {
    use perconn::Dial;
    let (silent, good) = (Server::start().await, Server::start().await);
    let first = silent.address;
    let dialer =
        perconn::TcpDialer::with_addresses([silent.address, good.address]).and_then(move |stream| async move {
            if stream.peer_addr()? == first {
                std::future::pending::<()>().await;
            }
            Ok(stream)
        });
    let pool = Pool::builder(1).dial_timeout(Duration::from_millis(500)).build().unwrap();
    let resource = pool.resource_with("two addresses", dialer).unwrap();
    assert!(in_time("the first address", resource.get()).await.is_err());
    let conn = in_time("the second address", resource.get()).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), good.address);
}

#[tokio::test]
async fn failure_of_one_of_several_addresses_names_the_address() {
    let addresses = [refused_address().await, refused_address().await];
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource_with("two addresses", perconn::TcpDialer::with_addresses(addresses)).unwrap();
    for address in addresses {
        let error = in_time("get", resource.get()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let text = error.with_causes().to_string();
        assert!(text.contains(&format!(": {address}: ")), "{text}");
    }
}

#[tokio::test]
async fn failure_of_a_borrowed_dialer_reaches_no_other_caller() {
    let (server, nobody) = (Server::start().await, refused_address().await);
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource(server.address).unwrap();
    let slot = pool.slot().await.unwrap();
    let mut own = perconn::TcpDialer::new(nobody);
    let mut one = spawn(resource.get_with(&mut own));
    assert!(one.poll().is_pending());
    let mut other = spawn(resource.get());
    assert!(other.poll().is_pending());
    drop(slot);
    let (one, other) = in_time("both", async { tokio::join!(one, other) }).await;
    assert_eq!(one.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    drop(other.unwrap());
}

#[tokio::test]
async fn loop_of_gets_yields_to_other_tasks() {
    let pool = Pool::new(1).unwrap();
    let resource = number(&pool, "one");
    let looping = tokio::spawn(async move {
        loop {
            drop(resource.get().await);
        }
    });
    // There is only this one thread.
    sleep(Duration::from_millis(5)).await;
    looping.abort();
    assert!(looping.await.unwrap_err().is_cancelled());
}

/// The processor time of this thread, which does not depend on other processes.
#[cfg(target_os = "linux")]
fn cpu_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn cost_of_a_dropped_waiter_does_not_grow_with_the_queue() {
    let pool = Pool::new(1).unwrap();
    let resource = number(&pool, "one");
    let _held = resource.get().await.unwrap();
    let give_up = |count| {
        let mut waiting: Vec<_> = (0..count).map(|_| Box::pin(resource.get())).collect();
        for call in &mut waiting {
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        let began = cpu_time();
        drop(waiting);
        cpu_time() - began
    };
    // The least of ten, as other processes disturb the caches.
    let best = |count| (0..10).map(|_| give_up(count)).min().unwrap();
    let (few, many) = (best(2_000), best(20_000));
    assert!(many < few * 40 + Duration::from_millis(100), "2,000 took {few:?}, 20,000 took {many:?}");
}

#[test]
fn waker_that_uses_the_pool_when_it_is_dropped_does_not_deadlock() {
    struct AsksPool(Pool);
    impl Wake for AsksPool {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for AsksPool {
        fn drop(&mut self) {
            self.0.stats();
        }
    }
    let (sender, done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let pool = Pool::new(1).unwrap();
        let _slot = pool.try_slot().unwrap();
        let resource = number(&pool, "one");
        let waker = || Waker::from(Arc::new(AsksPool(pool.clone())));
        let mut call = Box::pin(resource.get());
        // The first waker is replaced by the second one, which is dropped with the call.
        for _ in 0..2 {
            assert!(matches!(call.as_mut().poll(&mut Context::from_waker(&waker())), Poll::Pending));
        }
        drop(call);
        sender.send(()).unwrap();
    });
    assert!(done.recv_timeout(crate::support::HANG_LIMIT).is_ok(), "deadlock");
}

#[tokio::test]
async fn callers_in_one_task_are_served_in_order() {
    let pool = Pool::new(1).unwrap();
    // More than the budget of a task.
    let resources: Vec<_> = (0..500).map(|_| number(&pool, "one")).collect();
    let served = Mutex::new(Vec::new());
    let callers = resources.iter().enumerate().map(|(caller, resource)| {
        let served = &served;
        async move {
            let _conn = resource.get().await.unwrap();
            served.lock().unwrap().push(caller);
            tokio::task::yield_now().await;
        }
    });
    in_time("all callers", futures_util::future::join_all(callers)).await;
    assert!(served.into_inner().unwrap().is_sorted());
}

#[tokio::test]
async fn caller_whose_task_yields_keeps_its_turn_until_it_is_dropped() {
    use tokio::task::coop;
    let pool = Pool::new(1).unwrap();
    let (resource, other) = (number(&pool, "one"), number(&pool, "other"));
    drop(resource.get().await.unwrap());
    for gives_up in [false, true] {
        let mut yields = Box::pin(resource.get());
        while coop::has_budget_remaining() {
            coop::consume_budget().await;
        }
        assert!(std::future::poll_fn(|cx| Poll::Ready(yields.as_mut().poll(cx))).await.is_pending());
        assert_eq!((pool.stats().in_use, pool.stats().waiting), (1, 0));
        let mut waits = spawn(other.get());
        assert!(waits.poll().is_pending());
        if gives_up {
            drop(yields);
        } else {
            assert!(in_time("the first", yields).await.unwrap().is_reused());
        }
        drop(in_time("the second", waits).await.unwrap());
        drop(resource.get().await.unwrap());
    }
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn loop_of_try_gets_yields_to_other_tasks() {
    let pool = Pool::new(1).unwrap();
    let resource = number(&pool, "one");
    let other = tokio::spawn(async {});
    for _ in 0..1000 {
        drop(resource.try_get().await.unwrap());
    }
    assert!(other.is_finished());
}

#[tokio::test]
async fn event_of_a_dial_that_did_not_end_says_why() {
    let causes = Arc::new(Mutex::new(Vec::new()));
    let pool = Pool::builder(1).on_event({
        let causes = Arc::clone(&causes);
        move |event| causes.lock().unwrap().push(event.to_string())
    });
    let pool = pool.build().unwrap();
    let panics = pool.resource_fn::<_, _, u8>("panics", || async { std::panic::resume_unwind(Box::new("on purpose")) });
    let panics_first = pool.resource_fn::<_, std::future::Pending<_>, u8>("panics first", || {
        std::panic::resume_unwind(Box::new("on purpose"))
    });
    for resource in [panics, panics_first] {
        assert!(resource.get().await.is_err());
    }
    let hung = pool.resource_fn::<_, _, u8>("hung", std::future::pending);
    let mut closed = spawn(hung.get());
    assert!(closed.poll().is_pending());
    pool.close();
    assert!(matches!(closed.poll(), Poll::Ready(Err(GetError::Closed))));
    let expected = [
        "panics: dial failed: the dialer panicked: on purpose",
        "panics first: dial failed: the dialer panicked: on purpose",
        "hung: dial failed: the pool was closed",
    ];
    assert_eq!(*causes.lock().unwrap(), expected);
}

#[tokio::test]
async fn errors_name_the_resource() {
    let pool = Pool::new(1).unwrap();
    let resource = number(&pool, "one");
    let _slot = pool.slot().await.unwrap();
    assert_eq!(pool.try_slot().unwrap_err().to_string(), "a slot is not available without waiting: no slot is free");
    assert_eq!(
        resource.try_get().await.unwrap_err().to_string(),
        "one is not available without waiting: no slot is free"
    );
}
