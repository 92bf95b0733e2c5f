//! Closing one connection, those that are idle, or everything.

use perconn::pool::{GetError, Pool, Resource, Why};
use tokio_test::task::spawn;

use crate::support::soon;
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
    echo(&mut soon("get", resource.get()).await.unwrap()).await;
    resource.schedule_close();
    assert_eq!((closings.list(), pool.stats().idle), (vec![Why::Scheduled], 0));
}

#[tokio::test]
async fn scheduled_close_closes_a_connection_in_use_when_it_comes_back_and_only_that_one() {
    let server = EchoServer::start().await;
    let closings = Closings::default();
    let pool = closings.watch(Pool::builder(1));
    let resource = pool.resource(server.address).unwrap();
    let mut conn = soon("get", resource.get()).await.unwrap();
    resource.schedule_close();
    echo(&mut conn).await;
    drop(conn);
    assert_eq!(closings.list(), [Why::Scheduled]);
    for is_reused in [false, true, true] {
        let conn = soon("get", resource.get()).await.unwrap();
        assert_eq!(conn.is_reused(), is_reused);
    }
    // Of a resource that is not open, nothing is remembered.
    resource.schedule_close();
    resource.schedule_close();
    for is_reused in [false, true] {
        assert_eq!(soon("get", resource.get()).await.unwrap().is_reused(), is_reused);
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
    assert_eq!((pool.stats().idle, closings.list()), (0, vec![Why::Gone]));
    // One in use outlives the handle, and closes when it is given back.
    let resource = number(&pool, "two");
    let conn = resource.get().await.unwrap();
    drop(resource);
    assert_eq!((pool.stats().in_use, *conn), (1, 1));
    drop(conn);
    assert_eq!(closings.list(), [Why::Gone, Why::Gone]);
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
        assert!(matches!(soon("closed", call).await, Err(GetError::Closed)));
    }
    assert!(matches!(idle.get().await, Err(GetError::Closed)));
    assert!(matches!(pool.try_slot(), Err(GetError::Closed)));
    drop((conn, slot));
    assert_eq!(pool.stats().idle, 0);
    nobody_has_anything(&pool);
    assert_eq!(closings.list(), [Why::Evicted, Why::Gone]);
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
    drop(soon("get", waits).await.unwrap());
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
    assert!(matches!(soon("the dial", dials).await, Err(GetError::Closed)));
    assert!(matches!(soon("the granted one", same).await, Err(GetError::Closed)));
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
        soon("no task is left", async {
            while runtime.metrics().num_alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    });
}
