//! `perconn::pool` beside bb8 and deadpool, in one run.
//!
//! ```text
//! cargo bench -p perconn-benches --bench pool
//! ```
//!
//! Rounds of the candidates alternate. It prints medians, with the quartiles of the ratios to deadpool, the faster of the two peers.
//!
//! bb8 and deadpool keep interchangeable connections to one address, and a task takes any of the 64. `perconn` has 64
//! resources with one connection each, and a task keeps to its resource, as if each were another address. So deadpool runs
//! a second time, with 64 pools of one and each task keeping to its pool: that is the same problem. bb8 lets a new caller
//! overtake the waiters: hardly any task waits, and those that do wait for very long.
//!
//! A number needs no health check. A socket is a connection over the loopback. Before a pool hands it out, it checks that the connection
//! is not closed and holds no unexpected bytes: `perconn` does so itself, and the peers get a non-blocking peek.

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use deadpool::managed;
use perconn::pool::{Pool, Resource};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, yield_now};

const SLOTS: usize = 64;
const TASKS: usize = 512;

fn main() {
    // `cargo test --benches` passes no `--bench`: one short round shows that it runs.
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let (rounds, scale) = if is_bench { (31, 1) } else { (1, 100) };
    println!("| | bb8 | deadpool | deadpool, 64 pools of one | perconn | beside deadpool | beside the 64 |");
    println!("|---|---|---|---|---|---|---|");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        numbers().compare_alone("a number, one task", rounds, 200_000 / scale).await;
        sockets().await.compare_alone("a socket, one task", rounds, 100_000 / scale).await;
    });
    for workers in [1, 2] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap();
        let (tasks, s) = (TASKS, if workers == 1 { "" } else { "s" });
        // Two workers make the figures noisier.
        let rounds = if workers == 1 { rounds } else { rounds * 4 };
        runtime.block_on(async {
            let what = format!("a number, {tasks} tasks, {workers} worker{s}");
            numbers().compare_crowd(&what, rounds, 400 / scale).await;
            let what = format!("a socket, {tasks} tasks, {workers} worker{s}");
            sockets().await.compare_crowd(&what, rounds, 200 / scale).await;
        });
    }
}

fn numbers() -> Candidates<Number, u8> {
    Candidates {
        bb8: bb8::Pool::builder().max_size(SLOTS as u32).build_unchecked(Number),
        deadpool: managed::Pool::builder(Number).max_size(SLOTS).build().unwrap(),
        each: (0..SLOTS).map(|_| managed::Pool::builder(Number).max_size(1).build().unwrap()).collect(),
        ours: resources(|pool| pool.resource_fn("a number", || std::future::ready(Ok(1)))),
    }
}

async fn sockets() -> Candidates<Sockets, TcpStream> {
    let address = silent_server().await;
    Candidates {
        bb8: bb8::Pool::builder().max_size(SLOTS as u32).build_unchecked(Sockets(address)),
        deadpool: managed::Pool::builder(Sockets(address)).max_size(SLOTS).build().unwrap(),
        each: (0..SLOTS).map(|_| managed::Pool::builder(Sockets(address)).max_size(1).build().unwrap()).collect(),
        ours: resources(|pool| pool.resource(address).unwrap()),
    }
}

/// A server that accepts connections and sends nothing.
async fn silent_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut peers = Vec::new();
        while let Ok((peer, _)) = listener.accept().await {
            peers.push(peer);
        }
    });
    address
}

fn resources<T: Send + 'static>(make: impl Fn(&Pool) -> Resource<T>) -> Vec<Resource<T>> {
    let pool = Pool::new(SLOTS).unwrap();
    (0..SLOTS).map(|_| make(&pool)).collect()
}

/// All candidates, with objects of one kind.
struct Candidates<M, T>
where
    M: managed::Manager + bb8::ManageConnection,
    T: Send + 'static,
{
    bb8: bb8::Pool<M>,
    deadpool: managed::Pool<M>,
    /// deadpool again: pools of one.
    each: Vec<managed::Pool<M>>,
    ours: Vec<Resource<T>>,
}

impl<M, T> Candidates<M, T>
where
    M: bb8::ManageConnection + managed::Manager + Send + Sync + 'static,
    <M as managed::Manager>::Type: Send,
    <M as managed::Manager>::Error: Send + Debug,
    <M as bb8::ManageConnection>::Error: Debug,
    T: Send + 'static,
{
    /// The time of a get and a put, with one task.
    async fn compare_alone(&self, what: &str, rounds: usize, calls: usize) {
        let mut figures = [const { Vec::new() }; 4];
        for _ in 0..rounds {
            figures[0].push(time(calls, async || drop(self.bb8.get().await.unwrap())).await);
            figures[1].push(time(calls, async || drop(self.deadpool.get().await.unwrap())).await);
            figures[2].push(time(calls, async || drop(self.each[0].get().await.unwrap())).await);
            figures[3].push(time(calls, async || drop(self.ours[0].get().await.unwrap())).await);
        }
        print_row(what, "ns", &figures);
    }

    /// The time of a get, a trip to another task and a put, with many tasks; and the 99th percentile and maximum of the waits.
    async fn compare_crowd(&self, what: &str, rounds: usize, calls: usize) {
        let mut times = [const { Vec::new() }; 4];
        let mut waits = [const { Vec::new() }; 4];
        let mut longest = [const { Vec::new() }; 4];
        for _ in 0..rounds {
            let outcomes = [
                crowd(calls, |_| self.bb8.clone()).await,
                crowd(calls, |_| self.deadpool.clone()).await,
                crowd(calls, |task| self.each[task % SLOTS].clone()).await,
                crowd(calls, |task| self.ours[task % SLOTS].clone()).await,
            ];
            for (index, (time, sorted)) in outcomes.into_iter().enumerate() {
                let micros = |rank: usize| sorted[rank].as_secs_f64() * 1e6;
                times[index].push(time);
                waits[index].push(micros(sorted.len() * 99 / 100));
                longest[index].push(micros(sorted.len() - 1));
            }
        }
        print_row(what, "ns", &times);
        print_row(&format!("{what}: p99 wait"), "us", &waits);
        print_row(&format!("{what}: longest wait"), "us", &longest);
    }
}

async fn time(calls: usize, mut call: impl AsyncFnMut()) -> f64 {
    call().await;
    let began = Instant::now();
    for number in 0..calls {
        call().await;
        // A candidate that uses up no cooperative budget yields to the runtime all the same.
        if number % 64 == 0 {
            yield_now().await;
        }
    }
    began.elapsed().as_secs_f64() * 1e9 / calls as f64
}

/// Where a task gets its object.
trait Source: Send + 'static {
    type Guard: Send;

    fn get(&self) -> impl Future<Output = Self::Guard> + Send;
}

impl<M: bb8::ManageConnection> Source for bb8::Pool<M> {
    type Guard = bb8::PooledConnection<'static, M>;

    async fn get(&self) -> Self::Guard {
        self.get_owned().await.unwrap_or_else(|_| panic!("bb8 has none"))
    }
}

impl<M> Source for managed::Pool<M>
where
    M: managed::Manager<Type: Send, Error: Send> + Sync + 'static,
{
    type Guard = managed::Object<M>;

    async fn get(&self) -> Self::Guard {
        self.get().await.unwrap_or_else(|_| panic!("deadpool has none"))
    }
}

impl<T: Send + 'static> Source for Resource<T> {
    type Guard = perconn::pool::Guard<T>;

    async fn get(&self) -> Self::Guard {
        self.get().await.unwrap()
    }
}

/// The time of one call, and all waits in ascending order.
async fn crowd<S: Source + Sync>(calls: usize, source: impl Fn(usize) -> S) -> (f64, Vec<Duration>) {
    let calls = calls.max(2);
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for task in 0..TASKS {
        let source = source(task);
        tasks.spawn(async move {
            let mut waits = Vec::with_capacity(calls);
            for _ in 0..calls {
                let asked = Instant::now();
                let guard = source.get().await;
                waits.push(asked.elapsed());
                tokio::spawn(async {}).await.unwrap();
                drop(guard);
            }
            waits
        });
    }
    let mut waits: Vec<Duration> = tasks.join_all().await.concat();
    let time = began.elapsed().as_secs_f64() * 1e9 / (TASKS * calls) as f64;
    waits.sort_unstable();
    (time, waits)
}

fn print_row(what: &str, unit: &str, figures: &[Vec<f64>; 4]) {
    let [bb8, deadpool, each, ours] = figures;
    let quartile = |sorted: &mut [f64], quarter: usize| {
        sorted.sort_by(f64::total_cmp);
        sorted[(sorted.len() - 1) * quarter / 4]
    };
    let beside = |other: &[f64]| {
        let mut ratios: Vec<_> = (0..ours.len()).map(|round| other[round] / ours[round]).collect();
        let [low, median, high] = [1, 2, 3].map(|quarter| quartile(&mut ratios, quarter));
        format!("{median:.2}x ({low:.2}-{high:.2})")
    };
    let (beside_deadpool, beside_each) = (beside(deadpool), beside(each));
    let medians = [bb8, deadpool, each, ours].map(|figures| quartile(&mut figures.clone(), 2));
    let [bb8, deadpool, each, ours] = medians.map(|figure| format!("{figure:.0} {unit}"));
    println!("| {what} | {bb8} | {deadpool} | {each} | {ours} | {beside_deadpool} | {beside_each} |");
}

/// Makes numbers, for both peers.
struct Number;

impl bb8::ManageConnection for Number {
    type Connection = u8;
    type Error = Infallible;

    async fn connect(&self) -> Result<u8, Infallible> {
        Ok(1)
    }

    async fn is_valid(&self, _: &mut u8) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut u8) -> bool {
        false
    }
}

impl managed::Manager for Number {
    type Type = u8;
    type Error = Infallible;

    async fn create(&self) -> Result<u8, Infallible> {
        Ok(1)
    }

    async fn recycle(&self, _: &mut u8, _: &managed::Metrics) -> managed::RecycleResult<Infallible> {
        Ok(())
    }
}

/// Makes connections and checks them, for both peers.
struct Sockets(SocketAddr);

/// Checks a connection with a peek, even if the runtime's readiness flag is out of date.
fn check(stream: &TcpStream) -> io::Result<()> {
    let peek = || socket2::SockRef::from(stream).peek(&mut [std::mem::MaybeUninit::uninit()]);
    // Clears the flag if there is nothing to read.
    let outcome =
        stream.try_io(Interest::READABLE, || peek().map(drop)).and_then(|()| Err(io::ErrorKind::Other.into()));
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => match peek() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            _ => Err(io::ErrorKind::ConnectionAborted.into()),
        },
        outcome => outcome,
    }
}

impl bb8::ManageConnection for Sockets {
    type Connection = TcpStream;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }

    async fn is_valid(&self, stream: &mut TcpStream) -> io::Result<()> {
        check(stream)
    }

    fn has_broken(&self, _: &mut TcpStream) -> bool {
        false
    }
}

impl managed::Manager for Sockets {
    type Type = TcpStream;
    type Error = io::Error;

    async fn create(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }

    async fn recycle(&self, stream: &mut TcpStream, _: &managed::Metrics) -> managed::RecycleResult<io::Error> {
        check(stream).map_err(managed::RecycleError::Backend)
    }
}
