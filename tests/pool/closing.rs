//! Closing one connection, those that are idle, or everything.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, mpsc};

use perconn::pool::{CloseReason, Event, GetError, Pool, PoolBuilder, Resource};
use tokio_test::task::spawn;

use crate::support::{HANG_LIMIT, in_time};
use crate::world::{Closings, EchoServer, echo, nobody_has_anything};

fn number(pool: &Pool, name: &str) -> Resource<u8> {
    pool.resource_fn(name, || std::future::ready(Ok(1)))
}

#[tokio::test]
async fn scheduled_close_closes_an_idle_connection_at_once() {
    let server = EchoServer::start().await;
    let closings = Closings::default();
    let pool = closings.watch(Pool::builder(1));
    let resource = pool.resource(server.address).unwrap();
    echo(&mut in_time("get", resource.get()).await.unwrap()).await;
    resource.schedule_close();
    assert_eq!((closings.list(), pool.stats().idle), (vec![CloseReason::Scheduled], 0));
}

#[tokio::test]
async fn scheduled_close_closes_a_connection_in_use_when_it_comes_back_and_only_that_one() {
    let server = EchoServer::start().await;
    let closings = Closings::default();
    let pool = closings.watch(Pool::builder(1));
    let resource = pool.resource(server.address).unwrap();
    let mut conn = in_time("get", resource.get()).await.unwrap();
    resource.schedule_close();
    echo(&mut conn).await;
    drop(conn);
    assert_eq!(closings.list(), [CloseReason::Scheduled]);
    for is_reused in [false, true, true] {
        let conn = in_time("get", resource.get()).await.unwrap();
        assert_eq!(conn.is_reused(), is_reused);
    }
    // Of a resource that is not open, nothing is remembered.
    resource.schedule_close();
    resource.schedule_close();
    for is_reused in [false, true] {
        assert_eq!(in_time("get", resource.get()).await.unwrap().is_reused(), is_reused);
    }
}

#[tokio::test]
async fn scheduled_close_is_over_with_the_connection_it_was_for() {
    let pool = Pool::new(1).unwrap();
    let resource = number(&pool, "one");
    let conn = resource.get().await.unwrap();
    resource.schedule_close();
    conn.close();
    drop(resource.get().await.unwrap());
    assert!(resource.get().await.unwrap().is_reused());
}

#[tokio::test]
async fn last_handle_of_a_resource_takes_its_connection_with_it() {
    let closings = Closings::default();
    let pool = closings.watch(Pool::builder(2));
    let resource = number(&pool, "one");
    let clone = resource.clone();
    drop(resource.get().await.unwrap());
    drop(resource);
    assert_eq!(pool.stats().idle, 1);
    drop(clone);
    assert_eq!((pool.stats().idle, closings.list()), (0, vec![CloseReason::Gone]));
    // One in use outlives the handle, and closes when it is given back.
    let resource = number(&pool, "two");
    let conn = resource.get().await.unwrap();
    drop(resource);
    assert_eq!((pool.stats().in_use, *conn), (1, 1));
    drop(conn);
    assert_eq!(closings.list(), [CloseReason::Gone, CloseReason::Gone]);
    nobody_has_anything(&pool);
}

#[tokio::test]
async fn closed_pool_tells_all_who_wait_and_closes_what_comes_back() {
    let closings = Closings::default();
    let pool = closings.watch(Pool::builder(2));
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
    nobody_has_anything(&pool);
    assert_eq!(closings.list(), [CloseReason::Evicted, CloseReason::Gone]);
}

#[tokio::test]
async fn idle_connections_are_closed_on_demand() {
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
async fn hook_that_panics_and_value_that_panics_when_dropped_harm_nobody() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the value's own");
        }
    }
    let pool = Pool::builder(1).on_event(|_| panic!("the hook's own")).build().unwrap();
    let bomb = pool.resource_fn("a bomb", || std::future::ready(Ok(Bomb)));
    let other = number(&pool, "other");
    drop(bomb.get().await.unwrap());
    // Evicted for this one.
    drop(other.get().await.unwrap());
    drop(bomb.get().await.unwrap());
    bomb.schedule_close();
    nobody_has_anything(&pool);
    assert_eq!(pool.stats().idle, 0);
}

#[tokio::test]
async fn scheduled_close_is_nothing_to_a_connection_that_is_not_there_yet() {
    let pool = Pool::new(1).unwrap();
    let (a, b) = (number(&pool, "a"), number(&pool, "b"));
    let slot = pool.slot().await.unwrap();
    let mut waits = spawn(a.get());
    assert!(waits.poll().is_pending());
    a.schedule_close();
    drop(slot);
    drop(in_time("get", waits).await.unwrap());
    assert!(a.get().await.unwrap().is_reused());
    // Nor to the next one, if the dial that it was for is given up.
    let hung = pool.resource_fn("hangs once", {
        let mut dials = 0;
        move || {
            dials += 1;
            let hangs = dials == 1;
            async move { if hangs { std::future::pending().await } else { Ok(1) } }
        }
    });
    let mut dials = spawn(hung.get());
    assert!(dials.poll().is_pending());
    hung.schedule_close();
    drop(dials);
    drop(hung.get().await.unwrap());
    assert!(hung.get().await.unwrap().is_reused());
    drop(b);
}

#[tokio::test]
async fn closed_pool_ends_dials_and_serves_nobody_who_was_granted_a_slot() {
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
    assert!(matches!(in_time("the granted one", same).await, Err(GetError::Closed)));
    assert_eq!(pool.stats().idle, 0);
    nobody_has_anything(&pool);
}

#[test]
fn pool_that_is_gone_leaves_no_task_behind() {
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
async fn scheduled_close_is_seen_by_one_who_was_handed_the_connection_and_has_not_looked() {
    let closings = Closings::default();
    let pool = closings.watch(Pool::builder(1));
    let resource = number(&pool, "one");
    let first = resource.get().await.unwrap();
    let mut next = spawn(resource.get());
    assert!(next.poll().is_pending());
    drop(first);
    resource.schedule_close();
    let conn = in_time("the next", next).await.unwrap();
    assert_eq!((conn.is_reused(), closings.list()), (false, vec![CloseReason::Scheduled]));
    drop(conn);
    assert!(resource.get().await.unwrap().is_reused());
}

#[tokio::test]
async fn scheduled_close_is_over_when_the_connection_it_was_for_is_found_dead() {
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
    // (He is handed it before the schedule, and looks at it after that.)
    drop(first);
    resource.schedule_close();
    drop(in_time("the next", next).await.unwrap());
    assert!(in_time("get", resource.get()).await.unwrap().is_reused());
}

#[tokio::test]
async fn scheduled_close_is_nothing_to_one_who_has_a_slot_and_has_not_dialed() {
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

/// Its end lasts until the test says so.
struct Gated(Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>);

impl Drop for Gated {
    fn drop(&mut self) {
        if let Some((begins, may_end)) = self.0.take() {
            begins.send(()).unwrap();
            let _ = may_end.recv();
        }
    }
}

/// While a connection is being closed in some way, on another thread, its resource has no other one.
async fn nobody_has_another_while_it_is_being_closed<F>(builder: PoolBuilder, close: F)
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
    has_begun.recv_timeout(HANG_LIMIT).expect("it is being closed");
    drop(slot); // There is one for everybody.
    let mut next = spawn(resource.get());
    let is_early = next.poll().is_ready() || resource.try_get().await.is_ok();
    end.send(()).unwrap();
    assert!(!is_early, "a resource has two connections");
    assert!(!in_time("the next", next).await.unwrap().is_reused());
    closer.join().unwrap();
    nobody_has_anything(&pool);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resource_whose_connection_is_being_closed_has_no_other_one_until_then() {
    let pool = || Pool::builder(2);
    nobody_has_another_while_it_is_being_closed(pool(), |_, resource| resource.schedule_close()).await;
    nobody_has_another_while_it_is_being_closed(pool(), |pool, _| pool.close_idle()).await;
    // Evicted.
    nobody_has_another_while_it_is_being_closed(pool(), |pool, _| drop(pool.try_slot().unwrap())).await;
    let idle = Pool::builder(2).idle_timeout(std::time::Duration::from_millis(1));
    nobody_has_another_while_it_is_being_closed(idle, |_, _| {}).await;
}

#[tokio::test]
async fn hook_that_closes_all_idle_connections_is_not_called_within_itself_again_and_again() {
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
async fn connection_that_is_open_when_the_pool_has_been_closed_is_nobodys() {
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
    assert!(matches!(dials.poll(), std::task::Poll::Ready(Err(GetError::Closed))));
    drop(dials);
    nobody_has_anything(&pool);
}

#[tokio::test]
async fn dial_that_ends_wakes_nobody_again() {
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
