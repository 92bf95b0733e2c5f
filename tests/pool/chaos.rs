//! One pool on several runtimes, which come and go: what is opened is closed, and no slot is lost.

use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use perconn::pool::{Event, GetError, Pool, Resource};
use perconn::testing::{Cut, FaultProxy};
use perconn::{Dial, TcpDialer};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::fixtures::EchoServer;
use crate::support::{HANG_LIMIT, SLOWNESS};

const SLOTS: usize = 6;
const TASKS: usize = 12;
const CALLS: usize = 60;
const MS: Duration = Duration::from_millis(1);

/// A socket that counts itself.
struct Counted {
    stream: TcpStream,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    opened: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
}

impl Counted {
    fn new(stream: TcpStream, counts: &Arc<Counts>) -> Self {
        counts.opened.fetch_add(1, SeqCst);
        counts.most.fetch_max(counts.open.fetch_add(1, SeqCst) + 1, SeqCst);
        Self { stream, counts: Arc::clone(counts) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, SeqCst);
    }
}

/// Opens a counted connection, with a set-up of a few milliseconds.
async fn open(address: SocketAddr, counts: Arc<Counts>) -> io::Result<Counted> {
    let stream = TcpDialer::new(address).dial().await?;
    let counted = Counted::new(stream, &counts);
    sleep(MS).await;
    Ok(counted)
}

/// All kinds of resources: plain ones, ones with hooks, and ones with a release action.
fn resources(pool: &Pool, address: SocketAddr, counts: &Arc<Counts>) -> Vec<Resource<Counted>> {
    (0..9)
        .map(|index| {
            let counts = Arc::clone(counts);
            let resource = pool.resource_fn(&format!("{index}"), move || open(address, Arc::clone(&counts)));
            let resource = resource.check(|counted| {
                counted.stream.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            });
            match index % 3 {
                0 => resource,
                1 => resource.before_reuse(|mut counted| async move {
                    exchange(&mut counted.stream).await?;
                    Ok(counted)
                }),
                _ => resource.release(|mut counted| async move {
                    sleep(MS).await;
                    counted.stream.shutdown().await
                }),
            }
        })
        .collect()
}

async fn exchange(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"ping").await?;
    stream.read_exact(&mut [0; 4]).await.map(drop)
}

/// One caller: it opens, uses, cancels, drops and panics, as its seed says.
async fn caller(pool: Pool, resources: Vec<Resource<Counted>>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..CALLS {
        let resource = resources.choose(&mut rng).expect("there are some");
        let limit = MS * rng.random_range(0..8);
        let outcome = match rng.random_range(0..12) {
            0 => resource.try_get().await,
            1..=3 => resource.get_timeout(limit).await,
            4 | 5 => match timeout(limit, resource.get()).await {
                Ok(outcome) => outcome,
                Err(_) => continue,
            },
            6 => {
                resource.schedule_close();
                continue;
            }
            7 => {
                if let Ok(slot) = timeout(limit, pool.slot()).await {
                    let _slot = slot.unwrap();
                    sleep(limit).await;
                }
                continue;
            }
            // A handle and a resource of its own.
            8 => drop_resource(&pool, limit).await,
            _ => timeout(Duration::from_secs(5) * SLOWNESS, resource.get()).await.expect("no caller waits for so long"),
        };
        let mut conn = match outcome {
            Ok(conn) => conn,
            Err(GetError::Closed) => panic!("nothing closes the pool"),
            Err(_) => continue,
        };
        conn.close_on_drop(true);
        if timeout(limit, exchange(&mut conn.stream)).await.is_ok_and(|outcome| outcome.is_ok()) {
            conn.close_on_drop(false);
        }
        match rng.random_range(0..20) {
            0 => drop(conn.detach()),
            1 => conn.close(),
            2 => resume_unwind(Box::new("on purpose")),
            _ => drop(conn),
        }
    }
}

/// Asks for a connection of a resource whose only handle goes at once.
async fn drop_resource(pool: &Pool, limit: Duration) -> Result<perconn::pool::Guard<Counted>, GetError> {
    let hung = pool.resource_fn("hung", std::future::pending::<io::Result<Counted>>);
    hung.get_timeout(limit).await
}

fn runtime(workers: usize) -> Runtime {
    match workers {
        1 => Builder::new_current_thread().enable_all().build().unwrap(),
        _ => Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap(),
    }
}

/// All callers of one runtime.
async fn crowd(pool: Pool, resources: Vec<Resource<Counted>>, seed: u64) {
    let mut callers = JoinSet::new();
    for number in 0..TASKS {
        callers.spawn(caller(pool.clone(), resources.clone(), seed ^ (number as u64) << 32));
    }
    while let Some(outcome) = callers.join_next().await {
        let panic = outcome.err().filter(|error| error.is_panic()).map(|error| error.into_panic());
        let message = panic.as_ref().map(|panic| panic.downcast_ref::<&str>().copied());
        assert!(message.is_none_or(|message| message == Some("on purpose")), "an unexpected panic: {message:?}");
    }
}

#[test]
fn crowd_on_runtimes_that_come_and_go_leaves_nothing_open_and_no_slot_in_use() {
    let servers = runtime(2);
    let echo = servers.block_on(EchoServer::start());
    let proxy = FaultProxy::start_blocking(echo.address).unwrap();
    for seed in 0..3 {
        let (counts, events) = (Arc::new(Counts::default()), Arc::new(Mutex::new((0, 0))));
        let counter = Arc::clone(&events);
        let pool = Pool::builder(SLOTS)
            .dial_timeout(200 * MS)
            .retry_min(MS)
            .retry_max(5 * MS)
            .idle_timeout(20 * MS)
            .max_age(50 * MS)
            .check_idle_every(3 * MS)
            .on_event(move |event| match event {
                Event::Opened { .. } => counter.lock().unwrap().0 += 1,
                Event::Closed { .. } => counter.lock().unwrap().1 += 1,
                _ => {}
            })
            .build()
            .unwrap();
        let resources = resources(&pool, proxy.addr(), &counts);
        let done = Arc::new(AtomicUsize::new(0));
        let stays: Vec<_> = [1, 2]
            .into_iter()
            .map(|workers| {
                let (pool, resources, done) = (pool.clone(), resources.clone(), Arc::clone(&done));
                thread::spawn(move || {
                    let runtime = runtime(workers);
                    runtime.block_on(async {
                        crowd(pool, resources, seed ^ (workers as u64) << 16).await;
                        // The callers of the other runtime may wait for a dial of this one.
                        done.fetch_add(1, SeqCst);
                        while done.load(SeqCst) < 2 {
                            sleep(MS).await;
                        }
                    });
                    runtime
                })
            })
            .collect();
        // Three others end in the middle, one after the other, while links break.
        for (round, workers) in [2, 1, 2].into_iter().enumerate() {
            let ends = runtime(workers);
            let seed = seed ^ (round as u64 + 7) << 24;
            let crowd = crowd(pool.clone(), resources.clone(), seed);
            let _ = ends.block_on(async { timeout(40 * MS, crowd).await });
            proxy.cut(if round == 1 { Cut::Reset } else { Cut::Close });
            ends.shutdown_background();
        }
        // Their runtimes are driven until everything has ended.
        let runtimes: Vec<_> = stays.into_iter().map(|thread| thread.join().expect("no caller fails")).collect();
        pool.close();
        drop(resources);
        let began = Instant::now();
        loop {
            runtimes.iter().for_each(|runtime| runtime.block_on(async { sleep(MS).await }));
            let stats = pool.stats();
            if stats.in_use + stats.idle + stats.releasing + stats.waiting == 0 && counts.open.load(SeqCst) == 0 {
                break;
            }
            let open = counts.open.load(SeqCst);
            assert!(began.elapsed() < HANG_LIMIT, "seed {seed}: {open} are open, {stats:?}");
        }
        let (opened, most) = (counts.opened.load(SeqCst), counts.most.load(SeqCst));
        let (reported, closed) = *events.lock().unwrap();
        let stats = pool.stats();
        assert_eq!((reported, reported as u64), (closed, stats.opened), "seed {seed}: {stats:?}");
        assert!(opened >= reported && opened > 50, "seed {seed}: {opened} were opened");
        // Those that were taken out of the pool are dropped at once.
        assert!(most <= SLOTS + 2 * TASKS, "seed {seed}: {most} were open at once");
        println!("seed {seed}: {opened} opened, {most} at once; {stats:?}");
    }
    servers.block_on(echo.stop());
}
