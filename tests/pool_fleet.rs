//! Thousands of addresses under a limit of a few descriptors, while their servers are killed.
//!
//! The client is a process of its own, as it lives under a limit of its own, and so is each server, as it is killed. All of
//! them are this test binary, which has no other tests: a process that is just being started holds on to what another thread
//! closes.

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

use crate::support::in_time;
use crate::world::nobody_has_anything;

#[path = "support/mod.rs"]
mod support;
#[path = "pool/world.rs"]
#[allow(dead_code, unreachable_pub, reason = "the other tests of the pool need more of it")]
mod world;

const DESCRIPTORS: usize = 200;
const ADDRESSES: usize = 5000;
const SERVERS: usize = 8;
const USERS: usize = 300;
/// How often each user asks for something. With the sweep of all addresses, that is what is done in all.
const EXCHANGES: usize = 60;
const KILLS: usize = 25;

const PORT: &str = "PERCONN_TEST_FLEET_PORT";

#[test]
fn fleet_is_polled_within_a_few_descriptors_while_its_servers_are_killed() {
    let me = std::env::current_exe().unwrap();
    let script = format!("ulimit -n {DESCRIPTORS}; exec \"$0\" --exact client --ignored --nocapture");
    let output = std::process::Command::new("sh").arg("-c").arg(script).arg(me).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let report = out.lines().find_map(|line| line.find("fleet: ").map(|at| &line[at..]));
    match report {
        Some(report) if output.status.success() => println!("{report}"),
        _ => panic!("{}\n{out}\n{err}", output.status),
    }
}

#[tokio::test]
#[ignore = "the server that the client starts"]
async fn server() {
    let Ok(port) = std::env::var(PORT) else { return };
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port.parse().unwrap())).await.unwrap();
    writeln!(std::io::stderr(), "port {}", listener.local_addr().unwrap().port()).unwrap();
    loop {
        // (It may reach its own limit for a moment.)
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

/// A server's process, and how often it was killed.
struct Server {
    port: u16,
    kills_begun: AtomicUsize,
    kills_ended: AtomicUsize,
}

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
    let port = line.strip_prefix("port ").unwrap_or_else(|| panic!("the server says: {line}")).parse().unwrap();
    (process, port)
}

/// What has come of the exchanges.
#[derive(Default)]
struct Tally {
    done: AtomicUsize,
    refused: AtomicUsize,
    cut: AtomicUsize,
}

/// One exchange with one address.
async fn exchange(resource: &Resource, server: &Server, tally: &Tally) {
    let begun = server.kills_begun.load(Ordering::SeqCst);
    let is_sound = begun == server.kills_ended.load(Ordering::SeqCst);
    let mut conn = match in_time("get", resource.get()).await {
        Ok(conn) => conn,
        Err(GetError::Dial { source, .. }) => {
            // (A listener that dies with connections that it has not accepted yet resets them.)
            let kinds = [std::io::ErrorKind::ConnectionRefused, std::io::ErrorKind::ConnectionReset];
            assert!(kinds.contains(&source.kind()), "{source:?}");
            tally.refused.fetch_add(1, Ordering::SeqCst);
            // It comes back soon.
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
        Ok(()) => tally.done.fetch_add(1, Ordering::SeqCst),
        Err(error) => {
            let was_killed = begun != server.kills_begun.load(Ordering::SeqCst);
            assert!(!is_sound || was_killed, "a dead connection was handed out (reused: {is_reused}): {error}");
            tally.cut.fetch_add(1, Ordering::SeqCst)
        }
    };
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the client, under a limit of descriptors that the other test sets"]
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
    let tally = Arc::new(Tally::default());
    let mut users = JoinSet::new();
    for user in 0..USERS {
        let (resources, servers, tally) = (Arc::clone(&resources), Arc::clone(&servers), Arc::clone(&tally));
        users.spawn(async move {
            let mut rng = SmallRng::seed_from_u64(user as u64);
            // Its share of all addresses, and, more often, some that many ask for.
            let mut plan: Vec<_> = (user..ADDRESSES).step_by(USERS).collect();
            let popular: Vec<_> = (0..100).collect();
            plan.extend((0..EXCHANGES).map(|_| *popular.choose(&mut rng).expect("there are some")));
            plan.shuffle(&mut rng);
            for index in plan {
                exchange(&resources[index], &servers[index % SERVERS], &tally).await;
            }
        });
    }
    let mut rng = SmallRng::seed_from_u64(7);
    let mut kills = 0;
    while kills < KILLS && !users.is_empty() {
        let index = rng.random_range(0..SERVERS);
        let server = &servers[index];
        server.kills_begun.fetch_add(1, Ordering::SeqCst);
        let mut process = processes.remove(&index).unwrap();
        in_time("the server's end", process.kill()).await.unwrap();
        server.kills_ended.fetch_add(1, Ordering::SeqCst);
        kills += 1;
        processes.insert(index, start(server.port).await.0);
        while let Some(outcome) = users.try_join_next() {
            outcome.unwrap();
        }
    }
    while let Some(outcome) = users.join_next().await {
        outcome.unwrap();
    }
    let stats = pool.stats();
    nobody_has_anything(pool);
    assert!(stats.reused > 0 && stats.evicted > 0 && stats.found_dead > 0, "{stats:?}");
    assert!(open_descriptors() <= descriptors + stats.idle, "{} of {descriptors}, {stats:?}", open_descriptors());
    pool.close_idle();
    assert!(open_descriptors() <= descriptors, "{} instead of {descriptors}", open_descriptors());
    let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    let (done, refused, cut) = (count(&tally.done), count(&tally.refused), count(&tally.cut));
    println!("fleet: {done} exchanges, {refused} refused, {cut} cut by {kills} kills; {stats:?}");
    assert_eq!(done + refused + cut, ADDRESSES + USERS * EXCHANGES);
    assert!(done > (ADDRESSES + USERS * EXCHANGES) / 2);
}
