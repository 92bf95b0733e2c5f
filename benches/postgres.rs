//! `perconn::postgres` beside sqlx's `PgListener`, in one run.
//!
//! ```text
//! cargo bench -p perconn-benches --bench postgres
//! cargo bench -p perconn-benches --bench postgres -- outages dials    # a part: notifications, one, outages, dials
//! ```
//!
//! Rounds of the two alternate. It prints medians, with the quartiles of the ratios. PostgreSQL is a real one and never
//! stops: a proxy on the same machine plays the outages, so that the start of a server is not in the figures. It also
//! delays notifications and then sends all of them at once, so that PostgreSQL's own speed is not in them, either.
//!
//! The number of refused dials is the kernel's count for this network namespace. If other programs dial in vain meanwhile,
//! use a namespace of its own: `unshare -n sh -c 'ip link set lo up; cargo bench ...'`.
//!
//! Next: [`postgres::candidates`], the two listeners.

use std::time::{Duration, Instant};

use perconn::postgres::Listener;
use perconn::testing::{Cut, Direction, FaultProxy, Link};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use sqlx::postgres::PgListener;
use tokio::sync::watch;

use crate::postgres::candidates::{CHANNEL, Candidate, Quick, Settled};
use crate::server::{DATABASE, PASSWORD, Plain, Postgres, USER};

#[path = "../tests/support/real_server.rs"]
mod real_server;
#[path = "../tests/postgres/server.rs"]
mod server;
#[path = "../tests/support/mod.rs"]
mod support;

mod postgres {
    pub(crate) mod candidates;
}

fn main() {
    // `cargo test --benches` passes no `--bench`: one short round shows that it runs.
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let (rounds, scale) = if is_bench { (21, 1) } else { (1, 100) };
    let wanted: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == part);
    let Some(server) = Postgres::start("bench") else { return };
    println!("| | sqlx | perconn | beside sqlx |");
    println!("|---|---|---|---|");
    for workers in [1, 2] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap();
        let s = if workers == 1 { "" } else { "s" };
        let with = format!("{workers} worker{s}");
        runtime.block_on(async {
            if is_wanted("notifications") {
                throughput(&server, &with, rounds, 100_000 / scale).await;
            }
            if is_wanted("one") {
                latency(&server, &with, rounds, 2_000 / scale).await;
            }
            if is_wanted("outages") {
                // It is chance where between two dials an outage ends. Short outages leave time for more rounds.
                for (millis, times) in [(100, 5), (300, 4), (1_000, 2), (3_000, 1)] {
                    let (outage, rounds) = (Duration::from_millis(millis) / scale as u32, rounds * times);
                    recovery::<Settled>(&server, &format!("default delays, {with}"), rounds, outage).await;
                }
                for millis in [100, 1_000, 3_000] {
                    let outage = Duration::from_millis(millis) / scale as u32;
                    recovery::<Quick>(&server, &format!("10 to 100 ms, {with}"), rounds.min(9), outage).await;
                }
            }
            if is_wanted("dials") {
                let time = Duration::from_secs(1) / scale as u32;
                dials(&server, &with, rounds.min(11), time).await;
            }
        });
    }
}

/// A listener behind a proxy of its own.
async fn start<C: Candidate>(server: impl Into<perconn::Address>) -> (FaultProxy, C) {
    let proxy = FaultProxy::start(server).await.unwrap();
    let url = format!("postgres://{USER}:{PASSWORD}@{}/{DATABASE}?sslmode=disable", proxy.addr());
    let candidate = C::connect(url).await;
    (proxy, candidate)
}

/// How many notifications a second it receives when all of them are waiting.
async fn throughput(server: &Postgres, with: &str, rounds: usize, count: usize) {
    async fn round<C: Candidate>(server: &Postgres, writer: &Plain, count: usize) -> f64 {
        // What the second proxy delays has passed the first, which counts it.
        let counting = FaultProxy::start(server.address).await.unwrap();
        let (delaying, mut candidate) = start::<C>(counting.addr()).await;
        let sql = format!("SELECT pg_notify('{CHANNEL}', lpad(i::text, 32, '0')) FROM generate_series(1, {count}) i");
        delaying.latency(Duration::from_secs(3600), Duration::ZERO);
        // Header, channel and payload of each message.
        let length = count * (1 + 4 + 4 + (CHANNEL.len() + 1) + (32 + 1));
        let passed = counting.ledger()[0].to_client + length as u64;
        writer.batch(&sql).await.unwrap();
        counting.wait_for_bytes(Direction::ToClient, passed).await;
        let reader = tokio::spawn(async move {
            for _ in 1..count {
                assert_eq!(candidate.next(str::len).await, 32);
            }
            assert_eq!(candidate.next(|last| last.parse()).await, Ok(count));
            (Instant::now(), candidate)
        });
        let began = Instant::now();
        delaying.heal();
        let (ended, candidate) = reader.await.unwrap();
        drop(candidate);
        count as f64 / (ended - began).as_secs_f64() / 1e6
    }
    let writer = server.client().await;
    let mut figures = [const { Vec::new() }; 2];
    for _ in 0..rounds {
        figures[0].push(round::<PgListener>(server, &writer, count).await);
        figures[1].push(round::<Listener>(server, &writer, count).await);
    }
    print_row(&format!("notifications a second, {with}"), " million", &figures, |sqlx, ours| ours / sqlx);
}

/// The time from the NOTIFY call to the notification, one at a time.
async fn latency(server: &Postgres, with: &str, rounds: usize, count: usize) {
    async fn round<C: Candidate>(server: &Postgres, writer: &Plain, count: usize) -> f64 {
        let mut candidate = C::connect(format!("{}?sslmode=disable", server.url())).await;
        let began = Instant::now();
        for _ in 0..count {
            let (outcome, _) = tokio::join!(writer.batch("NOTIFY bench, 'x'"), candidate.next(str::len));
            outcome.unwrap();
        }
        began.elapsed().as_secs_f64() * 1e6 / count as f64
    }
    let writer = server.client().await;
    let mut figures = [const { Vec::new() }; 2];
    for _ in 0..rounds {
        figures[0].push(round::<PgListener>(server, &writer, count).await);
        figures[1].push(round::<Listener>(server, &writer, count).await);
    }
    print_row(&format!("one notification, there and back, {with}"), " us", &figures, |sqlx, ours| sqlx / ours);
}

/// The time from the server's return to the first notification.
async fn recovery<Ours: Candidate>(server: &Postgres, with: &str, rounds: usize, outage: Duration) {
    async fn round<C: Candidate>(server: &Postgres, outage: Duration) -> f64 {
        let (proxy, mut candidate) = start::<C>(server.address).await;
        let (heard, mut last) = watch::channel(Instant::now());
        // A task that always waits, so that no figure includes the start of a wait.
        let reader = tokio::spawn(async move {
            while heard.send(Instant::now()).is_ok() {
                candidate.next(str::len).await;
            }
        });
        let up = Instant::now();
        last.wait_for(|last| *last > up + Duration::from_millis(60)).await.unwrap();
        proxy.refuse();
        proxy.cut(Cut::Close);
        tokio::time::sleep(outage).await;
        proxy.heal();
        let back = Instant::now();
        let first = *last.wait_for(|last| *last > back).await.unwrap();
        reader.abort();
        (first - back).as_secs_f64() * 1e3
    }
    let writer = server.client().await;
    let notify = tokio::spawn(async move {
        while writer.batch("NOTIFY bench, 'x'").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut figures = [const { Vec::new() }; 2];
    let mut random = SmallRng::seed_from_u64(1);
    for _ in 0..rounds {
        // The delays of sqlx are fixed. Whether an outage ends just before or after a dial must not decide.
        let outage = outage.mul_f64(random.random_range(0.5..1.5));
        figures[0].push(round::<PgListener>(server, outage).await);
        figures[1].push(round::<Ours>(server, outage).await);
    }
    notify.abort();
    let what = format!("first notification after an outage of about {:.1} s, {with}", outage.as_secs_f64());
    print_row(&what, " ms", &figures, |sqlx, ours| sqlx / ours);
    print_means(&what, &figures);
}

/// Dials after a loss, to a server that refuses them and to one that accepts and closes.
async fn dials(server: &Postgres, with: &str, rounds: usize, time: Duration) {
    async fn round<C: Candidate>(server: &Postgres, is_refused: bool, time: Duration) -> f64 {
        let (proxy, mut candidate) = start::<C>(server.address).await;
        let reader = tokio::spawn(async move {
            loop {
                candidate.next(str::len).await;
            }
        });
        let count = |proxy: &FaultProxy| if is_refused { refused_dials() } else { proxy.ledger().len() as u64 };
        let before = count(&proxy);
        if is_refused {
            proxy.refuse();
        } else {
            proxy.script(std::iter::repeat(Link::accept_and_close()));
        }
        proxy.cut(Cut::Close);
        tokio::time::sleep(time).await;
        let after = count(&proxy);
        reader.abort();
        (after - before) as f64
    }
    for is_refused in [true, false] {
        let mut figures = [const { Vec::new() }; 2];
        for _ in 0..rounds {
            figures[0].push(round::<PgListener>(server, is_refused, time).await);
            figures[1].push(round::<Listener>(server, is_refused, time).await);
        }
        let behaviour = if is_refused { "refuses" } else { "accepts and closes" };
        print_row(&format!("dials in a second, the server {behaviour}, {with}"), "", &figures, |sqlx, ours| {
            sqlx / ours
        });
    }
}

/// The number of refused dials in this network namespace, since it exists.
fn refused_dials() -> u64 {
    let snmp = std::fs::read_to_string("/proc/net/snmp").unwrap();
    let mut tcp = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: ")).map(str::split_whitespace);
    let (names, figures) = (tcp.next().unwrap(), tcp.next().unwrap());
    let (_, count) = names.zip(figures).find(|(name, _)| *name == "AttemptFails").unwrap();
    count.parse().unwrap()
}

/// Prints means. The delays decide, and they vary more with one candidate than with the other, which a median hides.
fn print_means(what: &str, figures: &[Vec<f64>; 2]) {
    let [sqlx, ours] = figures.each_ref().map(|figures| figures.iter().sum::<f64>() / figures.len() as f64);
    println!("| {what}: mean | {sqlx:.0} ms | {ours:.0} ms | {:.2}x |", sqlx / ours);
}

fn print_row(what: &str, unit: &str, figures: &[Vec<f64>; 2], ratio: impl Fn(f64, f64) -> f64) {
    let [sqlx, ours] = figures;
    let mut ratios: Vec<_> = sqlx.iter().zip(ours).map(|(sqlx, ours)| ratio(*sqlx, *ours)).collect();
    let quartile = |sorted: &mut [f64], quarter: usize| {
        sorted.sort_by(f64::total_cmp);
        sorted[(sorted.len() - 1) * quarter / 4]
    };
    let [sqlx, ours] = [sqlx, ours].map(|figures| {
        let median = quartile(&mut figures.clone(), 2);
        format!("{median:.0$}{unit}", usize::from(median < 10.0))
    });
    let [low, median, high] = [1, 2, 3].map(|quarter| quartile(&mut ratios, quarter));
    let digits = if median < 10.0 { 2 } else { 0 };
    println!("| {what} | {sqlx} | {ours} | {median:.digits$}x ({low:.digits$}-{high:.digits$}) |");
}
