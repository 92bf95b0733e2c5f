//! Halves in two tasks: one writes records, the other reads their acknowledgements.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;

use perconn::{ReadHalf, WriteHalf};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::{Chaos, MAX_PAYLOAD, record, seeds};
use crate::support::{in_time, reported_generation};

/// Writes records until the reader has seen 20 acknowledgements on the last link.
async fn write_records(mut write: WriteHalf, seed: u64, enough: Arc<Notify>) -> (u64, Vec<u64>) {
    let mut random = SmallRng::seed_from_u64(!seed);
    let mut number = 0;
    let mut reported = Vec::new();
    let mut enough = pin!(enough.notified());
    loop {
        let len = if random.random_bool(0.1) { MAX_PAYLOAD } else { random.random_range(0..200) };
        let outcome = tokio::select! {
            biased;
            () = &mut enough => return (number, reported),
            outcome = async { write.write_all(&record(number, len)).await } => outcome,
        };
        number += 1;
        if let Err(error) = outcome {
            reported.push(reported_generation(&error));
        }
        if random.random_bool(0.05) {
            tokio::task::yield_now().await;
        }
    }
}

/// Reads acknowledgements, and drops a partly received one at each break.
async fn read_acknowledgements(mut read: ReadHalf, last: u64, enough: Arc<Notify>) -> (Vec<u64>, Vec<u64>) {
    let (mut acknowledged, mut reported, mut partial) = (Vec::new(), Vec::new(), Vec::new());
    let mut on_last = 0;
    let mut buf = [0; 1024];
    loop {
        let n = match in_time("an acknowledgement", read.read(&mut buf)).await {
            Ok(0) => {
                partial.clear();
                reported.push(reported.last().map_or(1, |generation| generation + 1));
                continue;
            }
            Ok(n) => n,
            Err(error) => {
                partial.clear();
                reported.push(reported_generation(&error));
                continue;
            }
        };
        partial.extend_from_slice(&buf[..n]);
        while partial.len() >= 8 {
            let rest = partial.split_off(8);
            acknowledged.push(u64::from_be_bytes(partial.as_slice().try_into().unwrap()));
            partial = rest;
            on_last += u64::from(reported.len() as u64 == last - 1);
        }
        if on_last >= 20 {
            enough.notify_one();
            return (acknowledged, reported);
        }
    }
}

async fn run_halves(seed: u64) {
    let chaos = Chaos::start(seed).await;
    let last = chaos.last;
    let conn = chaos.client().build().unwrap();
    let (read, write) = conn.into_split();
    let enough = Arc::new(Notify::new());
    let writer = tokio::spawn(write_records(write, seed, Arc::clone(&enough)));
    let (acknowledged, read_reports) = read_acknowledgements(read, last, enough).await;
    let (written, write_reports) = in_time("the writer", writer).await.unwrap();
    let (seen, every) = chaos.end().await;

    // The server has checked every byte. Records arrive in order, and none twice.
    let mut arrived = HashSet::new();
    for link in &seen {
        assert!(link.is_sorted(), "out of order: {link:?}");
        for number in link {
            assert!(*number < written && arrived.insert(*number), "record {number} arrived twice");
        }
    }
    // Each record is acknowledged at most once, and only if it arrived.
    let unique: HashSet<_> = acknowledged.iter().copied().collect();
    assert_eq!(unique.len(), acknowledged.len(), "acknowledged twice");
    assert!(unique.is_subset(&arrived));
    // Each half reports each break once, in order. The writer may have stopped before it reported the last.
    assert_eq!(read_reports, every, "the reports of the read half");
    assert!(write_reports.len() <= every.len() && write_reports == every[..write_reports.len()], "{write_reports:?}");
    assert!(write_reports.len() + 1 >= every.len(), "the write half reported {write_reports:?} of {last} links");
}

#[tokio::test]
async fn halves_on_one_thread() {
    for seed in seeds() {
        run_halves(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn halves_on_one_worker() {
    for seed in seeds() {
        tokio::spawn(run_halves(seed)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_on_two_workers() {
    for seed in seeds() {
        tokio::spawn(run_halves(seed)).await.unwrap();
    }
}
