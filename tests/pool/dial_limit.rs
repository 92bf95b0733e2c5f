//! A limit of dials that a pool shares with others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use perconn::pool::{GetError, Pool, Resource, WaitingFor};
use perconn::{Conn, DialLimit, dial_fn};
use tokio::io::DuplexStream;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, yield_now};
use tokio_test::task::spawn;

use crate::support::in_time;

const S: Duration = Duration::from_secs(1);

/// Dials that end when the test lets them.
#[derive(Clone)]
struct Held {
    begun: Arc<AtomicUsize>,
    ends: Arc<Semaphore>,
}

impl Held {
    fn new() -> Self {
        Self { begun: Arc::default(), ends: Arc::new(Semaphore::new(0)) }
    }

    async fn dial(self) -> io::Result<usize> {
        let number = self.begun.fetch_add(1, SeqCst);
        self.ends.acquire().await.unwrap().forget();
        Ok(number)
    }

    fn resource(&self, pool: &Pool, name: &str) -> Resource<usize> {
        let held = self.clone();
        pool.resource_fn(name, move || held.clone().dial())
    }

    fn begun(&self) -> usize {
        self.begun.load(SeqCst)
    }
}

fn limited(limit: &DialLimit) -> Pool {
    Pool::builder(100).dial_limit(limit).build().unwrap()
}

/// Waits until this is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    in_time(what, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crowd_of_two_pools_dials_at_most_at_once() {
    let limit = DialLimit::new(3, 50_000).unwrap();
    let pools = [limited(&limit), limited(&limit)];
    let counts = Arc::new([const { AtomicUsize::new(0) }; 2]);
    let mut callers = JoinSet::new();
    for number in 0..100 {
        let counts = Arc::clone(&counts);
        let resource = pools[number % 2].resource_fn(&number.to_string(), move || {
            let counts = Arc::clone(&counts);
            async move {
                counts[1].fetch_max(counts[0].fetch_add(1, SeqCst) + 1, SeqCst);
                for _ in 0..10 {
                    yield_now().await;
                }
                counts[0].fetch_sub(1, SeqCst);
                Ok(number)
            }
        });
        callers.spawn(async move { drop(resource.get().await.unwrap()) });
    }
    in_time("all callers", callers.join_all()).await;
    until("all turns have ended", || limit.waiting() + limit.dialing() == 0).await;
    let most = counts[1].load(SeqCst);
    assert!((1..=3).contains(&most), "{most} dials at once");
}

#[tokio::test]
async fn pool_and_connection_wait_for_each_other() {
    let limit = DialLimit::new(1, 50_000).unwrap();
    let (pool, held) = (limited(&limit), Held::new());
    let resource = held.resource(&pool, "one");
    let mut get = spawn(resource.get());
    assert!(get.poll().is_pending());
    let dialer = dial_fn(|| std::future::ready(Ok::<DuplexStream, _>(tokio::io::duplex(8).0)));
    let conn = Conn::builder("another").dialer(dialer).dial_limit(&limit).build().unwrap();
    until("the connection waits", || limit.waiting() == 1).await;
    assert!(held.begun() == 1 && !conn.is_connected());
    held.ends.add_permits(1);
    drop(in_time("get", get).await.unwrap());
    in_time("the connection", conn.connected()).await.unwrap();
}

#[tokio::test]
async fn waiting_for_the_limit_is_no_dial_and_ends_with_the_callers_limit_and_with_the_pool() {
    let limit = DialLimit::new(1, 50_000).unwrap();
    let (pool, held) = (limited(&limit), Held::new());
    let (first, second) = (held.resource(&pool, "first"), held.resource(&pool, "second"));
    let mut get = spawn(first.get());
    assert!(get.poll().is_pending());
    let error = in_time("its limit", second.get_timeout(S / 50)).await.unwrap_err();
    assert!(matches!(error, GetError::Timeout { waiting_for: WaitingFor::Dial, .. }), "{error:?}");
    // The pool waits on, as it goes on with a dial.
    until("the pool waits", || limit.waiting() == 1).await;
    let mut another = spawn(second.get());
    assert!(another.poll().is_pending());
    pool.close();
    assert!(matches!(in_time("the close", another).await, Err(GetError::Closed)));
    assert!(matches!(in_time("the close", get).await, Err(GetError::Closed)));
    until("all have left", || limit.waiting() + limit.dialing() == 0).await;
    assert_eq!((held.begun(), pool.stats().dials_failed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn wait_takes_nothing_of_the_dial_timeout_and_delays_no_next_dial() {
    let limit = DialLimit::new(1, 1).unwrap();
    let pool = Pool::builder(9).dial_limit(&limit).dial_timeout(S / 10).build().unwrap();
    let resources: Vec<_> =
        (0..5).map(|number| pool.resource_fn(&number.to_string(), move || std::future::ready(Ok(number)))).collect();
    let began = tokio::time::Instant::now();
    let mut callers = JoinSet::new();
    for resource in &resources {
        let resource = resource.clone();
        callers.spawn(async move { drop(resource.get().await.unwrap()) });
    }
    callers.join_all().await;
    let took = began.elapsed();
    assert!((4 * S..6 * S).contains(&took), "{took:?}");
    // What is open needs no turn.
    let open = spawn(resources[4].get()).poll().is_ready();
    assert!(open && limit.dialing() == 0);
}

#[tokio::test]
async fn resource_that_is_dropped_while_waiting_gives_its_place_up() {
    let limit = DialLimit::new(1, 50_000).unwrap();
    let (pool, held) = (limited(&limit), Held::new());
    let (first, second) = (held.resource(&pool, "first"), held.resource(&pool, "second"));
    let mut get = spawn(first.get());
    assert!(get.poll().is_pending());
    {
        let mut leaves = spawn(second.get());
        assert!(leaves.poll().is_pending());
        assert_eq!(limit.waiting(), 1);
    }
    drop(second);
    until("its place is given up", || limit.waiting() == 0).await;
    held.ends.add_permits(1);
    drop(in_time("get", get).await.unwrap());
    assert_eq!((held.begun(), limit.dialing()), (1, 0));
}
