//! `perconn::acceptor::Acceptor` beside a bare loop around `TcpListener::accept`, in one run.
//!
//! ```text
//! cargo bench -p perconn-benches --bench acceptor
//! cargo bench -p perconn-benches --bench acceptor -- lines    # or streams, redis: one part of it
//! ```
//!
//! It counts connections a second (each is opened, sends 64 B, reads their echo, and is closed), and echoes a second on
//! connections that stay open. Then it counts connections of a thousand clients of lines, and then `redis-benchmark`, a public
//! load generator in a process of its own, loads both.
//! Rounds of the two alternate, and each pair of rounds reverses their order. It prints the medians of the rounds, and the median of
//! the ratios within a pair.
//!
//! Next: [`lines`], the clients of lines; then [`load`], the load of `redis-benchmark`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use perconn::acceptor::{Acceptor, AcceptorBuilder};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

#[path = "acceptor/lines.rs"]
mod lines;
#[path = "acceptor/load.rs"]
mod load;

const PAIRS: usize = 31;
const ROUND: Duration = Duration::from_millis(400);
const CLIENTS: usize = 16;

fn main() {
    // `cargo test --benches` passes no `--bench`: one short pair shows that it runs.
    let pairs = if std::env::args().any(|arg| arg == "--bench") { PAIRS } else { 1 };
    let (server, clients) = (runtime(), runtime());
    println!("{:<60} {:>8} {:>10} {:>7}  quartiles", "", "bare", "acceptor", "ratio");
    if wants("streams") {
        run_streams(&server, &clients, pairs);
    }
    if wants("lines") {
        lines::run(&server, &clients, pairs);
    }
    if wants("redis") {
        load::run(&server, pairs);
    }
}

/// Whether the command line names this part of the benchmark, or none.
fn wants(part: &str) -> bool {
    let named = std::env::args().filter(|arg| ["streams", "lines", "redis"].contains(&arg.as_str()));
    let named: Vec<_> = named.collect();
    named.is_empty() || named.iter().any(|name| name == part)
}

/// Connections with one echo each, and echoes on connections that stay open.
fn run_streams(server: &Runtime, clients: &Runtime, pairs: usize) {
    let _server = server.enter();
    let bare = server.block_on(async { bare(TcpListener::bind("127.0.0.1:0").await.unwrap(), echo) });
    let plain = Acceptor::builder("127.0.0.1:0").handler(|stream, _| echo(stream)).build().unwrap();
    let limited = with_limits(Acceptor::builder("127.0.0.1:0")).handler(|stream, _| echo(stream)).build().unwrap();
    for (name, acceptor) in [("", &plain), (", with time limits and an event hook", &limited)] {
        let address = acceptor.local_addr().unwrap();
        let run = |what: &str, client: fn(SocketAddr, Instant) -> Counting| {
            let rounds = alternate(pairs, [bare, address], |address| clients.block_on(measure(address, client)));
            report(&format!("{what}{name}"), "/s", &rounds);
        };
        run("connections", |address, end| Box::pin(connections(address, end)));
        run("echoes", |address, end| Box::pin(echoes(address, end)));
    }
}

/// Rounds of both candidates. Each pair of rounds reverses their order.
fn alternate<T>(
    pairs: usize,
    [bare, acceptor]: [SocketAddr; 2],
    mut measure: impl FnMut(SocketAddr) -> T,
) -> Vec<(T, T)> {
    let pair = |pair| match pair % 2 {
        0 => (measure(bare), measure(acceptor)),
        _ => {
            let acceptor = measure(acceptor);
            (measure(bare), acceptor)
        }
    };
    (0..pairs).map(pair).collect()
}

type Counting = std::pin::Pin<Box<dyn Future<Output = u64> + Send>>;

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn with_limits(builder: AcceptorBuilder) -> AcceptorBuilder {
    let events = Arc::new(AtomicU64::new(0));
    builder.first_byte_timeout(Duration::from_secs(10)).idle_timeout(Duration::from_secs(60)).on_event(move |_| {
        events.fetch_add(1, Ordering::Relaxed);
    })
}

fn bare<Fut>(listener: TcpListener, serve: impl Fn(TcpStream) -> Fut + Send + 'static) -> SocketAddr
where
    Fut: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        }
    });
    address
}

/// The handler of both.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n]).await?,
        }
    }
}

async fn connections(address: SocketAddr, end: Instant) -> u64 {
    let mut done = 0;
    while Instant::now() < end {
        let mut stream = TcpStream::connect(address).await.unwrap();
        exchange(&mut stream).await;
        // A reset leaves no port in TIME_WAIT. Clean closes would soon use up the ports.
        stream.set_zero_linger().unwrap();
        done += 1;
    }
    done
}

async fn echoes(address: SocketAddr, end: Instant) -> u64 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut done = 0;
    while Instant::now() < end {
        exchange(&mut stream).await;
        done += 1;
    }
    done
}

async fn exchange(stream: &mut TcpStream) {
    let mut bytes = [7; 64];
    stream.write_all(&bytes).await.unwrap();
    stream.read_exact(&mut bytes).await.unwrap();
}

/// Connections or echoes a second, of all clients together.
async fn measure(address: SocketAddr, client: fn(SocketAddr, Instant) -> Counting) -> f64 {
    let start = Instant::now();
    let clients: JoinSet<_> = (0..CLIENTS).map(|_| client(address, start + ROUND)).collect();
    let done: u64 = clients.join_all().await.into_iter().sum();
    done as f64 / start.elapsed().as_secs_f64()
}

fn report(what: &str, unit: &str, rounds: &[(f64, f64)]) {
    let sorted = |figures: &mut dyn Iterator<Item = f64>| {
        let mut figures: Vec<_> = figures.collect();
        figures.sort_by(f64::total_cmp);
        figures
    };
    let at = |figures: &[f64], part: usize| figures[(figures.len() - 1) * part / 4];
    let bare = sorted(&mut rounds.iter().map(|round| round.0));
    let acceptor = sorted(&mut rounds.iter().map(|round| round.1));
    let ratios = sorted(&mut rounds.iter().map(|(bare, acceptor)| acceptor / bare));
    let figure = |value: f64| format!("{value:.*}{unit}", usize::from(value < 100.0) * 2);
    println!(
        "{what:<60} {:>8} {:>10} {:>6.3}x  {:.3}-{:.3}",
        figure(at(&bare, 2)),
        figure(at(&acceptor, 2)),
        at(&ratios, 2),
        at(&ratios, 1),
        at(&ratios, 3)
    );
}
