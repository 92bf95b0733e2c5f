//! Connections to thousands of addresses under a limit of a few descriptors, while their servers are killed.
//!
//! The client is a process of its own because it has a limit of its own. Each server is one because it is killed. All
//! of them run this test binary. It has no other tests: between fork and exec, a child process holds copies of
//! descriptors that another thread closes.

#![cfg(target_os = "linux")]

use std::collections::HashMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use perconn::pool::{GetError, Pool, Resource};
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::fixtures::assert_all_given_back;
use crate::support::in_time;

#[path = "pool/fixtures.rs"]
#[allow(dead_code, unreachable_pub, reason = "the other tests of the pool need more of it")]
mod fixtures;
#[path = "support/mod.rs"]
mod support;

const DESCRIPTORS: usize = 200;
const ADDRESSES: usize = 5000;
const SERVERS: usize = 8;
const TASKS: usize = 300;
/// The number of exchanges of each task with a few popular addresses. In addition, the tasks share the addresses among
/// them, and visit each address once.
const EXCHANGES: usize = 60;
const KILLS: usize = 25;

/// The environment variable that tells a server its port.
const PORT: &str = "PERCONN_TEST_FLEET_PORT";

#[test]
fn fleet_is_polled_within_a_few_descriptors_while_servers_are_killed() {
    let this_binary = std::env::current_exe().unwrap();
    let script = format!("ulimit -n {DESCRIPTORS}; exec \"$0\" --exact client --ignored --nocapture");
    let output = std::process::Command::new("sh").arg("-c").arg(script).arg(this_binary).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let report = out.lines().find_map(|line| line.find("fleet: ").map(|at| &line[at..]));
    match report {
        Some(report) if output.status.success() => println!("{report}"),
        _ => panic!("{}\n{out}\n{err}", output.status),
    }
}

#[tokio::test]
#[ignore = "runs only as the server process that the client starts"]
async fn server() {
    let Ok(port) = std::env::var(PORT) else { return };
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port.parse().unwrap())).await.unwrap();
    writeln!(std::io::stderr(), "port {}", listener.local_addr().unwrap().port()).unwrap();
    loop {
        // The server may reach its own descriptor limit for a moment.
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        tokio::spawn(async move {
            let (mut reader, mut writer) = stream.split();
            tokio::io::copy(&mut reader, &mut writer).await
        });
    }
}

/// One server, and how often its process was killed.
struct Server {
    port: u16,
    kills_begun: AtomicUsize,
    kills_ended: AtomicUsize,
}

/// Starts a server process. Returns it with its port.
async fn start(port: u16) -> (Child, u16) {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "server", "--ignored", "--nocapture"])
        .env(PORT, port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let line = in_time("the server listens", lines.next_line()).await.unwrap().unwrap_or_default();
    let port = line
        .strip_prefix("port ")
        .unwrap_or_else(|| panic!("expected \"port <number>\" from the server: {line:?}"))
        .parse()
        .unwrap();
    (process, port)
}

/// How the exchanges ended.
#[derive(Default)]
struct Outcomes {
    done: AtomicUsize,
    refused: AtomicUsize,
    cut: AtomicUsize,
}

/// One exchange with one address.
async fn exchange(resource: &Resource, server: &Server, outcomes: &Outcomes) {
    let begun = server.kills_begun.load(Ordering::SeqCst);
    let was_up = begun == server.kills_ended.load(Ordering::SeqCst);
    let mut conn = match in_time("get", resource.get()).await {
        Ok(conn) => conn,
        Err(GetError::Dial { source, .. }) => {
            // A listener that dies resets the connections that it has not accepted yet.
            let kinds = [std::io::ErrorKind::ConnectionRefused, std::io::ErrorKind::ConnectionReset];
            assert!(kinds.contains(&source.kind()), "{source:?}");
            outcomes.refused.fetch_add(1, Ordering::SeqCst);
            // The server is about to be started again.
            return tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Err(other) => panic!("{other:?}"),
    };
    let is_reused = conn.is_reused();
    let outcome = in_time("an exchange", async {
        conn.close_on_drop(true);
        conn.write_all(b"question").await?;
        let mut answer = [0; 8];
        conn.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"question");
        conn.close_on_drop(false);
        std::io::Result::Ok(())
    })
    .await;
    match outcome {
        Ok(()) => outcomes.done.fetch_add(1, Ordering::SeqCst),
        Err(error) => {
            let was_killed = begun != server.kills_begun.load(Ordering::SeqCst);
            assert!(!was_up || was_killed, "a dead connection was lent (reused: {is_reused}): {error}");
            outcomes.cut.fetch_add(1, Ordering::SeqCst)
        }
    };
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs only as the client process, under the descriptor limit that the other test sets"]
async fn client() {
    let pool = Pool::global();
    if pool.stats().max != DESCRIPTORS - 50 {
        return;
    }
    let mut processes = HashMap::new();
    let mut servers = Vec::new();
    for index in 0..SERVERS {
        let (process, port) = start(0).await;
        processes.insert(index, process);
        servers.push(Server { port, kills_begun: AtomicUsize::new(0), kills_ended: AtomicUsize::new(0) });
    }
    let servers = Arc::new(servers);
    let descriptors = open_descriptors();
    let resources: Vec<_> = (0..ADDRESSES)
        .map(|index| {
            let address = Ipv4Addr::new(127, 1, (index / 250) as u8, (index % 250 + 1) as u8);
            pool.resource(SocketAddr::from((address, servers[index % SERVERS].port))).unwrap()
        })
        .collect();
    let resources = Arc::new(resources);
    let outcomes = Arc::new(Outcomes::default());
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (resources, servers, outcomes) = (Arc::clone(&resources), Arc::clone(&servers), Arc::clone(&outcomes));
        tasks.spawn(async move {
            let mut rng = SmallRng::seed_from_u64(task as u64);
            // The task's share of all addresses and, more often, some popular ones.
            let mut plan: Vec<_> = (task..ADDRESSES).step_by(TASKS).collect();
            let popular: Vec<_> = (0..100).collect();
            plan.extend((0..EXCHANGES).map(|_| *popular.choose(&mut rng).expect("the list is not empty")));
            plan.shuffle(&mut rng);
            for index in plan {
                exchange(&resources[index], &servers[index % SERVERS], &outcomes).await;
            }
        });
    }
    let mut rng = SmallRng::seed_from_u64(7);
    let mut kills = 0;
    while kills < KILLS && !tasks.is_empty() {
        let index = rng.random_range(0..SERVERS);
        let server = &servers[index];
        server.kills_begun.fetch_add(1, Ordering::SeqCst);
        let mut process = processes.remove(&index).unwrap();
        in_time("the death of the server", process.kill()).await.unwrap();
        server.kills_ended.fetch_add(1, Ordering::SeqCst);
        kills += 1;
        processes.insert(index, start(server.port).await.0);
        while let Some(outcome) = tasks.try_join_next() {
            outcome.unwrap();
        }
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    let stats = pool.stats();
    assert_all_given_back(pool);
    assert!(stats.reused > 0 && stats.evicted > 0 && stats.found_dead > 0, "{stats:?}");
    assert!(open_descriptors() <= descriptors + stats.idle, "{} of {descriptors}, {stats:?}", open_descriptors());
    pool.close_idle();
    assert!(open_descriptors() <= descriptors, "{} instead of {descriptors}", open_descriptors());
    let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    let (done, refused, cut) = (count(&outcomes.done), count(&outcomes.refused), count(&outcomes.cut));
    println!("fleet: {done} exchanges, {refused} refused, {cut} cut by {kills} kills; {stats:?}");
    assert_eq!(done + refused + cut, ADDRESSES + TASKS * EXCHANGES);
    assert!(done > (ADDRESSES + TASKS * EXCHANGES) / 2);
}
