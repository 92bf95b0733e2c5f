//! Closing one connection, the idle ones, or the whole pool.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, mpsc};
use std::task::Poll;

use perconn::pool::{CloseReason, Event, GetError, Pool, PoolBuilder, Resource};
use tokio_test::task::spawn;

use crate::fixtures::{CloseReasons, EchoServer, assert_all_given_back, echo};
use crate::support::{HANG_LIMIT, in_time};

fn number(pool: &Pool, name: &str) -> Resource<u8> {
    pool.resource_fn(name, || std::future::ready(Ok(1)))
}

#[tokio::test]
async fn scheduled_close_closes_an_idle_connection_at_once() {
    let server = EchoServer::start().await;
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(1));
    let resource = pool.resource(server.address).unwrap();
    echo(&mut in_time("get", resource.get()).await.unwrap()).await;
    resource.schedule_close();
    assert_eq!((reasons.list(), pool.stats().idle), (vec![CloseReason::Scheduled], 0));
}

#[tokio::test]
async fn scheduled_close_closes_a_connection_in_use_when_it_comes_back_and_only_that_one() {
    let server = EchoServer::start().await;
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(1));
    let resource = pool.resource(server.address).unwrap();
    let mut conn = in_time("get", resource.get()).await.unwrap();
    resource.schedule_close();
    echo(&mut conn).await;
    drop(conn);
    assert_eq!(reasons.list(), [CloseReason::Scheduled]);
    for is_reused in [false, true, true] {
        let conn = in_time("get", resource.get()).await.unwrap();
        assert_eq!(conn.is_reused(), is_reused);
    }
    // For a resource that is not open, the call has no effect, now or later.
    resource.schedule_close();
    resource.schedule_close();
    for is_reused in [false, true] {
        assert_eq!(in_time("get", resource.get()).await.unwrap().is_reused(), is_reused);
    }
}

#[tokio::test]
async fn scheduled_close_ends_with_the_connection_it_was_for() {
    let pool = Pool::new(1).unwrap();
    let resource = number(&pool, "one");
    let conn = resource.get().await.unwrap();
    resource.schedule_close();
    conn.close();
    drop(resource.get().await.unwrap());
    assert!(resource.get().await.unwrap().is_reused());
}

#[tokio::test]
async fn drop_of_the_last_handle_of_a_resource_closes_its_connection() {
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(2));
    let resource = number(&pool, "one");
    let clone = resource.clone();
    drop(resource.get().await.unwrap());
    drop(resource);
    assert_eq!(pool.stats().idle, 1);
    drop(clone);
    assert_eq!((pool.stats().idle, reasons.list()), (0, vec![CloseReason::Gone]));
    // A connection in use outlives the handle, and is closed when it is given back.
    let resource = number(&pool, "two");
    let conn = resource.get().await.unwrap();
    drop(resource);
    assert_eq!((pool.stats().in_use, *conn), (1, 1));
    drop(conn);
    assert_eq!(reasons.list(), [CloseReason::Gone, CloseReason::Gone]);
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn close_of_the_pool_fails_all_waiters_and_closes_what_comes_back() {
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(2));
    let [a, b, idle] = ["a", "b", "idle"].map(|name| number(&pool, name));
    drop(idle.get().await.unwrap());
    let conn = a.get().await.unwrap();
    let slot = pool.slot().await.unwrap();
    let mut waiting = [spawn(a.get()), spawn(b.get()), spawn(b.get())];
    assert!(waiting.iter_mut().all(|call| call.poll().is_pending()));
    pool.close();
    for call in waiting {
        assert!(matches!(in_time("closed", call).await, Err(GetError::Closed)));
    }
    assert!(matches!(idle.get().await, Err(GetError::Closed)));
    assert!(matches!(pool.try_slot(), Err(GetError::Closed)));
    drop((conn, slot));
    assert_eq!(pool.stats().idle, 0);
    assert_all_given_back(&pool);
    assert_eq!(reasons.list(), [CloseReason::Evicted, CloseReason::Gone]);
}

#[tokio::test]
async fn close_idle_closes_the_idle_connections_only() {
    let pool = Pool::new(3).unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| number(&pool, name));
    drop((a.get().await.unwrap(), b.get().await.unwrap()));
    let conn = c.get().await.unwrap();
    assert_eq!((pool.stats().idle, pool.stats().in_use), (2, 1));
    pool.close_idle();
    assert_eq!((pool.stats().idle, pool.stats().in_use), (0, 1));
    drop(conn);
    assert!(!a.get().await.unwrap().is_reused());
}

#[tokio::test]
async fn panics_of_the_hook_and_of_a_drop_do_not_reach_the_caller() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the drop of the value");
        }
    }
    let pool = Pool::builder(1).on_event(|_| panic!("the hook")).build().unwrap();
    let bomb = pool.resource_fn("a bomb", || std::future::ready(Ok(Bomb)));
    let other = number(&pool, "other");
    drop(bomb.get().await.unwrap());
    // The bomb is evicted for this one.
    drop(other.get().await.unwrap());
    drop(bomb.get().await.unwrap());
    bomb.schedule_close();
    assert_all_given_back(&pool);
    assert_eq!(pool.stats().idle, 0);
}

#[tokio::test]
async fn scheduled_close_has_no_effect_on_a_connection_that_does_not_exist_yet() {
    let pool = Pool::new(1).unwrap();
    let (a, b) = (number(&pool, "a"), number(&pool, "b"));
    let slot = pool.slot().await.unwrap();
    let mut waits = spawn(a.get());
    assert!(waits.poll().is_pending());
    a.schedule_close();
    drop(slot);
    drop(in_time("get", waits).await.unwrap());
    assert!(a.get().await.unwrap().is_reused());
    // Or on the next connection, if the dial that it was for fails.
    let fails = pool.resource_fn("fails once", {
        let mut dials = 0;
        move || {
            dials += 1;
            let fails = dials == 1;
            async move {
                tokio::task::yield_now().await;
                if fails { Err(std::io::ErrorKind::Other.into()) } else { Ok(1) }
            }
        }
    });
    let mut dials = spawn(fails.get());
    assert!(dials.poll().is_pending());
    fails.schedule_close();
    assert!(in_time("the dial", dials).await.is_err());
    drop(fails.get_timeout(HANG_LIMIT).await.unwrap());
    assert!(fails.get().await.unwrap().is_reused());
    drop(b);
}

#[tokio::test]
async fn close_of_the_pool_ends_dials_and_revokes_grants() {
    let pool = Pool::new(2).unwrap();
    let a = number(&pool, "a");
    let hung = pool.resource_fn::<_, _, u8>("hung", std::future::pending);
    let mut dials = spawn(hung.get());
    assert!(dials.poll().is_pending());
    let conn = a.get().await.unwrap();
    let mut same = spawn(a.get());
    assert!(same.poll().is_pending());
    drop(conn);
    assert!(same.is_woken());
    pool.close();
    assert!(matches!(in_time("the dial", dials).await, Err(GetError::Closed)));
    assert!(matches!(in_time("the granted call", same).await, Err(GetError::Closed)));
    assert_eq!(pool.stats().idle, 0);
    assert_all_given_back(&pool);
}

#[test]
fn dropped_pool_leaves_no_task_behind() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for _ in 0..10 {
            let pool = Pool::builder(1).idle_timeout(std::time::Duration::from_secs(3600)).build().unwrap();
            drop(number(&pool, "one").get().await.unwrap());
            let kept = number(&pool, "kept");
            drop(kept.get().await.unwrap());
            tokio::task::yield_now().await;
        }
        in_time("no task is left", async {
            while runtime.metrics().num_alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    });
}

#[tokio::test]
async fn scheduled_close_reaches_a_waiter_that_was_granted_the_connection_and_not_polled() {
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(1));
    let resource = number(&pool, "one");
    let first = resource.get().await.unwrap();
    let mut next = spawn(resource.get());
    assert!(next.poll().is_pending());
    drop(first);
    resource.schedule_close();
    let conn = in_time("the next", next).await.unwrap();
    assert_eq!((conn.is_reused(), reasons.list()), (false, vec![CloseReason::Scheduled]));
    drop(conn);
    assert!(resource.get().await.unwrap().is_reused());
}

#[tokio::test]
async fn scheduled_close_reaches_a_caller_whose_task_had_to_yield() {
    use tokio::task::coop;
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(1));
    let resource = number(&pool, "one");
    for closes_pool in [false, true] {
        drop(resource.get().await.unwrap());
        let mut yields = Box::pin(resource.get());
        while coop::has_budget_remaining() {
            coop::consume_budget().await;
        }
        assert!(std::future::poll_fn(|cx| Poll::Ready(yields.as_mut().poll(cx))).await.is_pending());
        assert_eq!(pool.stats().in_use, 1);
        if closes_pool {
            pool.close();
            assert!(matches!(in_time("get", yields).await, Err(GetError::Closed)));
        } else {
            resource.schedule_close();
            assert!(!in_time("get", yields).await.unwrap().is_reused());
        }
    }
    assert_eq!(reasons.list(), [CloseReason::Scheduled, CloseReason::Gone]);
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn scheduled_close_ends_when_the_connection_it_was_for_is_found_dead() {
    let server = EchoServer::start().await;
    let address = server.address;
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource(address).unwrap();
    let mut first = in_time("get", resource.get()).await.unwrap();
    echo(&mut first).await;
    let mut next = spawn(resource.get());
    assert!(next.poll().is_pending());
    server.stop().await;
    let _server = EchoServer::start_at(address).await;
    // The waiter is granted the connection before the close is scheduled, and checks it after that.
    drop(first);
    resource.schedule_close();
    drop(in_time("the next", next).await.unwrap());
    assert!(in_time("get", resource.get()).await.unwrap().is_reused());
}

#[tokio::test]
async fn scheduled_close_has_no_effect_on_a_caller_that_has_a_slot_and_has_not_dialed() {
    let pool = Pool::new(1).unwrap();
    let resource = number(&pool, "one");
    let slot = pool.slot().await.unwrap();
    let mut next = spawn(resource.get());
    assert!(next.poll().is_pending());
    drop(slot);
    resource.schedule_close();
    drop(in_time("the next", next).await.unwrap());
    assert!(resource.get().await.unwrap().is_reused());
}

/// A value whose drop lasts until the test ends it.
struct Gated(Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>);

impl Drop for Gated {
    fn drop(&mut self) {
        if let Some((begins, may_end)) = self.0.take() {
            begins.send(()).unwrap();
            let _ = may_end.recv();
        }
    }
}

/// Asserts that a resource has no second connection while the first one is being closed in some way, on another thread.
async fn assert_no_second_connection_during<F>(builder: PoolBuilder, close: F)
where
    F: FnOnce(&Pool, &Resource<Gated>) + Send + 'static,
{
    let (begins, has_begun) = mpsc::channel();
    let (end, may_end) = mpsc::channel();
    let mut gate = Some((begins, may_end));
    let pool = builder.build().unwrap();
    let resource = pool.resource_fn("gated", move || std::future::ready(Ok(Gated(gate.take()))));
    let slot = pool.slot().await.unwrap();
    tokio::spawn({
        let resource = resource.clone();
        async move { drop(resource.get().await.unwrap()) }
    })
    .await
    .unwrap();
    let closer = std::thread::spawn({
        let (pool, resource) = (pool.clone(), resource.clone());
        move || close(&pool, &resource)
    });
    has_begun.recv_timeout(HANG_LIMIT).expect("the close begins");
    drop(slot); // So the next call lacks no slot.
    let mut next = spawn(resource.get());
    let is_early = next.poll().is_ready() || resource.try_get().await.is_ok();
    end.send(()).unwrap();
    assert!(!is_early, "the resource has two connections");
    assert!(!in_time("the next", next).await.unwrap().is_reused());
    closer.join().unwrap();
    assert_all_given_back(&pool);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resource_has_no_second_connection_while_the_first_is_being_closed() {
    let pool = || Pool::builder(2);
    assert_no_second_connection_during(pool(), |_, resource| resource.schedule_close()).await;
    assert_no_second_connection_during(pool(), |pool, _| pool.close_idle()).await;
    // An eviction.
    assert_no_second_connection_during(pool(), |pool, _| drop(pool.try_slot().unwrap())).await;
    let idle = Pool::builder(2).idle_timeout(std::time::Duration::from_millis(1));
    assert_no_second_connection_during(idle, |_, _| {}).await;
}

#[tokio::test]
async fn hook_that_closes_all_idle_connections_does_not_recurse() {
    let (pool_of_hook, depth) = (Arc::new(OnceLock::<Pool>::new()), AtomicUsize::new(0));
    let deepest = Arc::new(AtomicUsize::new(0));
    let pool = Pool::builder(50).on_event({
        let (pool, deepest) = (Arc::clone(&pool_of_hook), Arc::clone(&deepest));
        move |event| {
            deepest.fetch_max(depth.fetch_add(1, SeqCst) + 1, SeqCst);
            if let (Event::Closed { .. }, Some(pool)) = (event, pool.get()) {
                pool.close_idle();
            }
            depth.fetch_sub(1, SeqCst);
        }
    });
    let pool = pool_of_hook.get_or_init(|| pool.build().unwrap());
    let resources: Vec<_> = (0..50).map(|_| number(pool, "one of many")).collect();
    let mut guards = Vec::new();
    for resource in &resources {
        guards.push(resource.get().await.unwrap());
    }
    drop(guards);
    resources[0].schedule_close();
    assert_eq!(pool.stats().idle, 0);
    assert_eq!(deepest.load(SeqCst), 2);
}

#[tokio::test]
async fn connection_that_opens_as_the_pool_closes_is_not_lent() {
    let pool = Pool::new(1).unwrap();
    let (open, opened) = tokio::sync::oneshot::channel();
    let mut opened = Some(opened);
    let resource = pool.resource_fn("slow", move || {
        let opened = opened.take().unwrap();
        async { opened.await.map_err(std::io::Error::other) }
    });
    let mut dials = spawn(resource.get());
    assert!(dials.poll().is_pending());
    pool.close();
    open.send(7).unwrap();
    assert!(matches!(dials.poll(), Poll::Ready(Err(GetError::Closed))));
    drop(dials);
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn connection_that_opens_after_the_pool_was_closed_is_not_lent_even_if_both_happen_within_one_poll() {
    let pool = Pool::new(1).unwrap();
    let closes = pool.clone();
    let resource = pool.resource_fn("a", move || {
        closes.close();
        std::future::ready(Ok(7))
    });
    assert!(matches!(resource.get().await, Err(GetError::Closed)));
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn end_of_a_dial_does_not_wake_its_caller_again() {
    let pool = Pool::new(1).unwrap();
    let (open, opened) = tokio::sync::oneshot::channel();
    let mut opened = Some(opened);
    let resource = pool.resource_fn("slow", move || {
        let opened = opened.take().unwrap();
        async { opened.await.map_err(std::io::Error::other) }
    });
    let mut dials = spawn(resource.get());
    assert!(dials.poll().is_pending());
    open.send(7).unwrap();
    assert!(dials.is_woken());
    assert!(dials.poll().is_ready());
    assert!(!dials.is_woken());
}
