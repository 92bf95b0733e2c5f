//! A stress test over the loopback: connections of all kinds at once, on two runtimes, against servers that break their
//! links in every way, with clients that cancel, hold, abandon, close and drop at any moment.
//!
//! ```text
//! cargo test --test stress -- --nocapture                                 # ten seconds
//! PERCONN_STRESS_SECONDS=600 PERCONN_STRESS_WORKERS=8 cargo test --release --test stress -- --nocapture
//! PERCONN_STRESS_SEED=4711 cargo test --test stress -- --nocapture        # begins with the plan of this seed
//! ```
//!
//! It runs in rounds. In a round, each connection goes through a storm and a calm to its end, or through a short storm
//! alone; [`play`] says what that means. What is checked:
//!
//! - each link carries whole frames from its first byte on, in both directions ([`frame`], [`reading`]);
//! - the jobs of a task arrive in order, none twice, and in the calm none is lost ([`jobs`]);
//! - each handle reports each break, once and in order ([`reports`]);
//! - nothing hangs: each call has a limit, and its panic names the call, the client and the seed ([`play`]);
//! - after each round the descriptors, the tasks and the heap are what they were ([`usage`]).
//!
//! The other tests of this program check the checkers of frames and jobs.

#![allow(unreachable_pub, reason = "a test has no public items")]

use std::io::{self, Write};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::plan::{Kind, Plan, generator};
use crate::play::resume;
use crate::runtimes::{Places, Runtimes};
use crate::totals::{Count, breaks, cancels, total};
use crate::usage::{HEAP_TOLERANCE, Usage};

mod frame;
mod halves;
mod handle;
mod jobs;
mod plan;
mod play;
mod reading;
mod reports;
mod runtimes;
mod server;
mod shared;
mod totals;
mod usage;
mod whole;
mod writing;

/// How many clients there are at once. Every third one lives short lives, one after the other.
const CLIENTS: u32 = 24;

/// How long the servers break links in each round.
const STORM: Duration = Duration::from_millis(700);

/// What the runtimes and the harness allocate once is there after this number of rounds.
const WARM_UP: u64 = 2;

/// How long the heap may take to find its size after a round of the warm-up.
const COOLING: Duration = Duration::from_millis(200);

const PROGRESS: Duration = Duration::from_secs(5);

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?}: expected a number")))
}

#[test]
fn every_promise_holds_under_stress() {
    let time = Duration::from_secs(setting("PERCONN_STRESS_SECONDS").unwrap_or(10));
    let workers = setting("PERCONN_STRESS_WORKERS").unwrap_or(2) as usize;
    let seed =
        setting("PERCONN_STRESS_SEED").unwrap_or_else(|| rand::make_rng::<SmallRng>().random_range(0..1_000_000));
    println!("PERCONN_STRESS_SEED={seed}: {CLIENTS} clients, {workers} workers and a single thread, {time:?}");
    let runtimes = Runtimes::start(workers);
    runtimes.pool.block_on(stress(&runtimes.places, seed, time));
}

/// Plays round after round, and checks after each that it has left nothing behind.
async fn stress(places: &Places, seed: u64, time: Duration) {
    let begin = Instant::now();
    let at_start = Usage::now(places);
    let (mut warm, mut most, mut last) = (at_start, at_start, at_start);
    let mut next_line = PROGRESS;
    let mut rounds = 0;
    while rounds <= WARM_UP || begin.elapsed() < time {
        round(places, seed + rounds).await;
        rounds += 1;
        if rounds <= WARM_UP {
            // The heap has still to find its size.
            let start = Usage { heap: isize::MAX - HEAP_TOLERANCE, ..at_start };
            Usage::settled(places, &start).await;
            sleep(COOLING).await;
            warm = Usage::now(places);
            most = warm;
        }
        last = Usage::settled(places, &Usage { heap: warm.heap, ..at_start }).await;
        most.heap = most.heap.max(last.heap);
        assert!(
            last.is_back_at(&Usage { heap: warm.heap, ..at_start }),
            "round {rounds} has left something behind, PERCONN_STRESS_SEED={}: {last:?}; at the start {at_start:?}, \
             after the warm-up {warm:?}",
            seed + rounds - 1
        );
        if begin.elapsed() >= next_line {
            // The harness would keep the lines of `println!`, and they would count as a leak.
            let _ = writeln!(io::stdout(), "{}", progress(begin.elapsed(), rounds, &last));
            next_line = begin.elapsed() + PROGRESS;
        }
    }
    println!("\n{rounds} rounds in {:.1?}, from seed {seed} on\n\n{}", begin.elapsed(), totals::table());
    println!("  {:<40}{:>12}{:>12}{:>12}", "after a round", "descriptors", "tasks", "heap");
    for (name, usage) in [("before the first", at_start), ("after the warm-up", warm), ("most", most), ("last", last)] {
        println!("  {name:<40}{:>12}{:>12}{:>12}", usage.descriptors, usage.tasks, usage.heap);
    }
    println!("\nevery promise held");
}

/// Plays all clients once.
async fn round(places: &Places, seed: u64) {
    let mut clients = JoinSet::new();
    for slot in 0..CLIENTS {
        clients.spawn(play_client(places.clone(), seed, slot));
    }
    while let Some(outcome) = clients.join_next().await {
        outcome.unwrap_or_else(resume);
    }
}

/// One client's part of a round.
async fn play_client(places: Places, seed: u64, slot: u32) {
    let mut random = generator(seed, &[u64::from(slot)]);
    let kind = Kind::ALL[slot as usize % Kind::ALL.len()];
    if slot % 3 != 2 {
        let plan = Plan::draw(&mut random, kind, STORM, true);
        return play::run(slot << 16, plan, places, seed).await;
    }
    let begin = Instant::now();
    for life in 0.. {
        if begin.elapsed() >= STORM {
            break;
        }
        let storm = Duration::from_micros(random.random_range(0..200_000));
        let plan = Plan::draw(&mut random, kind, storm, false);
        play::run(slot << 16 | life, plan, places.clone(), seed).await;
    }
}

fn progress(elapsed: Duration, rounds: u64, usage: &Usage) -> String {
    let (links, jobs, megabytes) = (total(Count::Links), total(Count::Jobs), total(Count::BytesReceived) / 1_000_000);
    format!(
        "{:>5}s  round {rounds}: {links} links, {} breaks, {jobs} jobs, {megabytes} MB, {} cancels; then {} descriptors, \
         {} tasks, {} bytes of heap",
        elapsed.as_secs(),
        breaks(),
        cancels(),
        usage.descriptors,
        usage.tasks,
        usage.heap
    )
}
