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
