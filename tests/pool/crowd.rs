//! Many users: never more open than there are slots, never two with one connection, nobody left waiting, nothing lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use perconn::pool::{GetError, Pool, Resource};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::in_time;
use crate::world::nobody_has_anything;

/// Counts what is open, and knows its user.
#[derive(Debug, Default)]
struct Census {
    open: AtomicUsize,
    most: AtomicUsize,
}

struct Token {
    census: Arc<Census>,
    users: AtomicUsize,
}

impl Token {
    fn open(census: &Arc<Census>) -> Self {
        let open = census.open.fetch_add(1, Ordering::SeqCst) + 1;
        census.most.fetch_max(open, Ordering::SeqCst);
        Self { census: Arc::clone(census), users: AtomicUsize::new(0) }
    }

    /// Until what is returned is dropped, it has a user.
    fn use_it(&self) -> Use<'_> {
        assert_eq!(self.users.fetch_add(1, Ordering::SeqCst), 0, "two users have one connection");
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
        self.census.open.fetch_sub(1, Ordering::SeqCst);
    }
}

fn token(pool: &Pool, census: &Arc<Census>) -> Resource<Token> {
    let census = Arc::clone(census);
    pool.resource_fn("a token", move || {
        let token = Token::open(&census);
        async move {
            tokio::task::yield_now().await;
            Ok(token)
        }
    })
}

const CAPACITY: usize = 10;

/// Under, at, one over and far over the capacity.
const CROWDS: [usize; 7] = [1, 2, 9, 10, 11, 31, 113];

/// Each user goes through so many cycles with the resource of its own, or with one of a few that all share.
async fn cycles(users: usize, resources: usize, closes: bool) {
    let (pool, census) = (Pool::new(CAPACITY).unwrap(), Arc::new(Census::default()));
    let resources: Vec<_> = (0..resources).map(|_| token(&pool, &census)).collect();
    let mut tasks = JoinSet::new();
    for user in 0..users {
        let resource = resources[user % resources.len()].clone();
        tasks.spawn(async move {
            for cycle in 0..3000 / users.max(10) {
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
    nobody_has_anything(&pool);
    let most = census.most.load(Ordering::SeqCst);
    assert!(most <= CAPACITY.min(resources.len()), "{most} were open at once");
    assert_eq!(census.open.load(Ordering::SeqCst), pool.stats().idle);
    assert!(!closes || pool.stats().idle == 0);
    drop(resources);
    assert_eq!((census.open.load(Ordering::SeqCst), pool.stats().idle), (0, 0));
}

async fn all_cycles() {
    for users in CROWDS {
        for closes in [false, true] {
            cycles(users, users, closes).await;
            cycles(users, users.div_ceil(8), closes).await;
        }
    }
}

#[tokio::test]
async fn cycles_of_get_and_put_on_one_thread() {
    all_cycles().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn cycles_of_get_and_put_on_one_worker() {
    all_cycles().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cycles_of_get_and_put_on_two_workers() {
    all_cycles().await;
}

const MEANT: &str = "meant to be";

/// A panic that prints nothing.
fn quiet_panic() -> ! {
    std::panic::resume_unwind(Box::new(MEANT))
}

/// A resource whose dials take their time, fail, hang, panic.
fn moody(pool: &Pool, census: &Arc<Census>, seed: u64) -> Resource<Token> {
    let (census, mut rng) = (Arc::clone(census), SmallRng::seed_from_u64(seed));
    pool.resource_fn("a moody one", move || {
        let (mood, delay) = (rng.random_range(0..10), Duration::from_millis(rng.random_range(0..20)));
        let token = Token::open(&census);
        async move {
            sleep(delay).await;
            match mood {
                0 => Err(std::io::ErrorKind::ConnectionRefused.into()),
                1 => std::future::pending().await,
                2 => quiet_panic(),
                _ => Ok(token),
            }
        }
    })
}

/// One user: asks, waits or not, uses, and ends in one of many ways.
async fn user(pool: Pool, resources: Vec<Resource<Token>>, seed: u64) {
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
            Err(GetError::Closed) => panic!("nobody closes it"),
            Err(_) => {}
        }
    }
}

async fn simulate(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let capacity = rng.random_range(1..8);
    let idle_timeout = rng.random_bool(0.5).then(|| Duration::from_millis(rng.random_range(1..50)));
    let builder = Pool::builder(capacity).dial_timeout(Duration::from_millis(100)).idle_timeout(idle_timeout);
    let (pool, census) = (builder.build().unwrap(), Arc::new(Census::default()));
    let resources: Vec<_> = (0..rng.random_range(1..12)).map(|n| moody(&pool, &census, seed ^ (n << 32))).collect();
    let mut users = JoinSet::new();
    for number in 0..rng.random_range(1..16) {
        users.spawn(user(pool.clone(), resources.clone(), seed ^ (number << 48)));
    }
    // Some are cut short at any moment.
    for _ in 0..rng.random_range(0..4) {
        let number = rng.random_range(0..16);
        let victim = users.spawn(user(pool.clone(), resources.clone(), seed ^ (number << 40)));
        let life = Duration::from_millis(rng.random_range(0..400));
        users.spawn(async move {
            sleep(life).await;
            victim.abort();
        });
    }
    let all = async {
        while let Some(outcome) = users.join_next().await {
            let panic = outcome.err().filter(|error| error.is_panic()).map(|error| error.into_panic());
            let said = panic.as_ref().map(|panic| panic.downcast_ref::<&str>().copied());
            assert!(said.is_none_or(|said| said == Some(MEANT)), "seed {seed}: a user panicked");
        }
    };
    assert!(timeout(Duration::from_secs(3600), all).await.is_ok(), "seed {seed}: somebody waits for ever");
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.releasing, stats.waiting), (0, 0, 0), "seed {seed}: {stats:?}");
    let (open, most) = (census.open.load(Ordering::SeqCst), census.most.load(Ordering::SeqCst));
    assert_eq!(open, stats.idle, "seed {seed}");
    assert!(most <= capacity, "seed {seed}: {most} of {capacity} were open at once");
    // All slots are there.
    let slots: Vec<_> = (0..capacity).map(|_| pool.try_slot().unwrap()).collect();
    assert!(pool.try_slot().is_err(), "seed {seed}");
    assert_eq!((slots.len(), census.open.load(Ordering::SeqCst)), (capacity, 0), "seed {seed}");
}

#[test]
fn all_slots_are_free_again_after_any_mix_of_panics_drops_and_cancellations() {
    for seed in 0..300 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(simulate(seed));
    }
}
