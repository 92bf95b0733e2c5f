//! Many callers at once: no more open connections than slots, one caller for each connection, no lost slot, no endless
//! wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use perconn::pool::{GetError, Pool, Resource};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::fixtures::assert_all_given_back;
use crate::support::in_time;

/// Counts the open connections.
#[derive(Debug, Default)]
struct OpenCount {
    open: AtomicUsize,
    most: AtomicUsize,
}

/// A connection that counts itself and its users.
struct Token {
    open_count: Arc<OpenCount>,
    users: AtomicUsize,
}

impl Token {
    fn open(open_count: &Arc<OpenCount>) -> Self {
        let open = open_count.open.fetch_add(1, Ordering::SeqCst) + 1;
        open_count.most.fetch_max(open, Ordering::SeqCst);
        Self { open_count: Arc::clone(open_count), users: AtomicUsize::new(0) }
    }

    /// Uses the connection until the returned value is dropped.
    fn use_it(&self) -> Use<'_> {
        assert_eq!(self.users.fetch_add(1, Ordering::SeqCst), 0, "two callers have one connection");
        Use(self)
    }
}

struct Use<'a>(&'a Token);

impl Drop for Use<'_> {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.open_count.open.fetch_sub(1, Ordering::SeqCst);
    }
}

fn token(pool: &Pool, open_count: &Arc<OpenCount>) -> Resource<Token> {
    let open_count = Arc::clone(open_count);
    pool.resource_fn("a token", move || {
        let token = Token::open(&open_count);
        async move {
            tokio::task::yield_now().await;
            Ok(token)
        }
    })
}

const CAPACITY: usize = 10;

/// Numbers of callers: below, at, just above and far above the capacity.
const CALLERS: [usize; 7] = [1, 2, 9, 10, 11, 31, 113];

/// Runs many cycles of get and drop in each of `callers` tasks, which share `resources` resources.
async fn cycles(callers: usize, resources: usize, closes: bool) {
    let (pool, open_count) = (Pool::new(CAPACITY).unwrap(), Arc::new(OpenCount::default()));
    let resources: Vec<_> = (0..resources).map(|_| token(&pool, &open_count)).collect();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let resource = resources[caller % resources.len()].clone();
        tasks.spawn(async move {
            for cycle in 0..3000 / callers.max(10) {
                let token = resource.get().await.unwrap();
                let in_use = token.use_it();
                if cycle % 3 == 0 {
                    tokio::task::yield_now().await;
                }
                drop(in_use);
                if closes {
                    token.close();
                }
            }
        });
    }
    in_time("all cycles", async { while tasks.join_next().await.transpose().unwrap().is_some() {} }).await;
    assert_all_given_back(&pool);
    let most = open_count.most.load(Ordering::SeqCst);
    assert!(most <= CAPACITY.min(resources.len()), "{most} were open at once");
    assert_eq!(open_count.open.load(Ordering::SeqCst), pool.stats().idle);
    assert!(!closes || pool.stats().idle == 0);
    drop(resources);
    assert_eq!((open_count.open.load(Ordering::SeqCst), pool.stats().idle), (0, 0));
}

async fn all_cycles() {
    for callers in CALLERS {
        for closes in [false, true] {
            cycles(callers, callers, closes).await;
            cycles(callers, callers.div_ceil(8), closes).await;
        }
    }
}

#[tokio::test]
async fn cycles_of_get_and_drop_on_one_thread() {
    all_cycles().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn cycles_of_get_and_drop_on_one_worker() {
    all_cycles().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cycles_of_get_and_drop_on_two_workers() {
    all_cycles().await;
}

const ON_PURPOSE: &str = "on purpose";

/// Panics without a message on the terminal.
fn quiet_panic() -> ! {
    std::panic::resume_unwind(Box::new(ON_PURPOSE))
}

/// A resource whose dials are slow, fail, hang, or panic.
fn unreliable(pool: &Pool, open_count: &Arc<OpenCount>, seed: u64) -> Resource<Token> {
    let (open_count, mut rng) = (Arc::clone(open_count), SmallRng::seed_from_u64(seed));
    pool.resource_fn("unreliable", move || {
        let (outcome, delay) = (rng.random_range(0..10), Duration::from_millis(rng.random_range(0..20)));
        let token = Token::open(&open_count);
        async move {
            sleep(delay).await;
            match outcome {
                0 => Err(std::io::ErrorKind::ConnectionRefused.into()),
                1 => std::future::pending().await,
                2 => quiet_panic(),
                _ => Ok(token),
            }
        }
    })
}

/// One caller: it asks, waits or not, uses the connection, and ends in one of many ways.
async fn caller(pool: Pool, resources: Vec<Resource<Token>>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..20 {
        let resource = resources.choose(&mut rng).expect("there are some");
        let time = |rng: &mut SmallRng| Duration::from_millis(rng.random_range(0..30));
        sleep(time(&mut rng)).await;
        let limit = time(&mut rng);
        let outcome = match rng.random_range(0..10) {
            0 => resource.try_get().await,
            1 => resource.get_timeout(limit).await,
            2 => match timeout(limit, resource.get()).await {
                Ok(outcome) => outcome,
                Err(_) => continue,
            },
            3 => {
                resource.schedule_close();
                continue;
            }
            4 => match timeout(limit, pool.slot()).await {
                Ok(slot) => {
                    let _slot = slot.unwrap();
                    sleep(time(&mut rng)).await;
                    continue;
                }
                Err(_) => continue,
            },
            5 => {
                pool.close_idle();
                continue;
            }
            _ => resource.get().await,
        };
        match outcome {
            Ok(mut token) => {
                let in_use = token.use_it();
                sleep(time(&mut rng)).await;
                drop(in_use);
                match rng.random_range(0..10) {
                    0 => token.close(),
                    1 => quiet_panic(),
                    2 => token.close_on_drop(true),
                    _ => {}
                }
            }
            Err(GetError::Closed) => panic!("nothing closes the pool"),
            Err(_) => {}
        }
    }
}

async fn simulate(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let capacity = rng.random_range(1..8);
    let idle_timeout = rng.random_bool(0.5).then(|| Duration::from_millis(rng.random_range(1..50)));
    let builder = Pool::builder(capacity).dial_timeout(Duration::from_millis(100)).idle_timeout(idle_timeout);
    let (pool, open_count) = (builder.build().unwrap(), Arc::new(OpenCount::default()));
    let resources: Vec<_> =
        (0..rng.random_range(1..12)).map(|n| unreliable(&pool, &open_count, seed ^ (n << 32))).collect();
    let mut callers = JoinSet::new();
    for number in 0..rng.random_range(1..16) {
        callers.spawn(caller(pool.clone(), resources.clone(), seed ^ (number << 48)));
    }
    // Some callers are aborted at a random moment.
    for _ in 0..rng.random_range(0..4) {
        let number = rng.random_range(0..16);
        let victim = callers.spawn(caller(pool.clone(), resources.clone(), seed ^ (number << 40)));
        let life = Duration::from_millis(rng.random_range(0..400));
        callers.spawn(async move {
            sleep(life).await;
            victim.abort();
        });
    }
    let all = async {
        while let Some(outcome) = callers.join_next().await {
            let panic = outcome.err().filter(|error| error.is_panic()).map(|error| error.into_panic());
            let message = panic.as_ref().map(|panic| panic.downcast_ref::<&str>().copied());
            assert!(message.is_none_or(|message| message == Some(ON_PURPOSE)), "seed {seed}: an unexpected panic");
        }
    };
    assert!(timeout(Duration::from_secs(3600), all).await.is_ok(), "seed {seed}: a caller waits forever");
    // Dials whose callers have left go on until the dial timeout.
    sleep(Duration::from_millis(101)).await;
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.releasing, stats.waiting), (0, 0, 0), "seed {seed}: {stats:?}");
    let (open, most) = (open_count.open.load(Ordering::SeqCst), open_count.most.load(Ordering::SeqCst));
    assert_eq!(open, stats.idle, "seed {seed}");
    assert!(most <= capacity, "seed {seed}: {most} of {capacity} were open at once");
    // No slot is lost.
    let slots: Vec<_> = (0..capacity).map(|_| pool.try_slot().unwrap()).collect();
    assert!(pool.try_slot().is_err(), "seed {seed}");
    assert_eq!((slots.len(), open_count.open.load(Ordering::SeqCst)), (capacity, 0), "seed {seed}");
}

#[test]
fn all_slots_are_free_again_after_any_mix_of_panics_drops_and_cancellations() {
    for seed in 0..300 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(simulate(seed));
    }
}
