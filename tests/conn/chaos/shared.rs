//! A shared connection: several tasks write through clones, and another task reads the acknowledgements.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use perconn::SharedConn;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{Chaos, MAX_PAYLOAD, record, seeds};
use crate::support::{CLOSE_LIMIT, in_time, reported_generation};

/// The outcomes of the jobs of one task.
#[derive(Default)]
struct Jobs {
    sent: HashSet<u64>,
    failed: HashSet<u64>,
}

/// One of many writing tasks. It cancels one write in ten.
async fn write_jobs(conn: SharedConn, task: u64, seed: u64, enough: Arc<AtomicBool>) -> Jobs {
    let mut random = SmallRng::seed_from_u64(seed ^ task << 40);
    let mut jobs = Jobs::default();
    for number in task << 32.. {
        if enough.load(Ordering::Relaxed) {
            break;
        }
        let len = if random.random_bool(0.1) { MAX_PAYLOAD } else { random.random_range(0..200) };
        let bytes = record(number, len);
        let write = in_time("a job", conn.write_all(&bytes));
        let outcome = if random.random_bool(0.1) {
            tokio::select! {
                biased;
                outcome = write => Some(outcome),
                () = tokio::task::yield_now() => None,
            }
        } else {
            Some(write.await)
        };
        match outcome {
            Some(Ok(())) => drop(jobs.sent.insert(number)),
            Some(Err(error)) => {
                reported_generation(&error);
                jobs.failed.insert(number);
            }
            // A cancelled job is sent whole or not at all.
            None => {}
        }
    }
    jobs
}

/// Reads acknowledgements through a clone until that of the last job has arrived.
async fn read_shared(conn: SharedConn, last: u64, enough: Arc<AtomicBool>) -> (Vec<u64>, Vec<u64>) {
    let (mut acknowledged, mut reported, mut partial) = (Vec::new(), Vec::new(), Vec::new());
    let mut buf = [0; 1024];
    let mut on_last = 0;
    while acknowledged.last() != Some(&LAST_JOB) {
        match in_time("an acknowledgement", conn.read(&mut buf)).await {
            Ok(0) => reported.push(reported.last().map_or(1, |generation| generation + 1)),
            Ok(n) => {
                partial.extend_from_slice(&buf[..n]);
                let whole = partial.len() / 8 * 8;
                acknowledged.extend(partial.drain(..whole).as_slice().chunks(8).map(|bytes| {
                    on_last += u64::from(reported.len() as u64 == last - 1);
                    u64::from_be_bytes(bytes.try_into().unwrap())
                }));
                enough.store(on_last >= 20, Ordering::Relaxed);
                continue;
            }
            Err(error) => reported.push(reported_generation(&error)),
        }
        partial.clear();
    }
    (acknowledged, reported)
}

/// The number of the job that is written after every task has ended.
const LAST_JOB: u64 = TASKS << 32;
const TASKS: u64 = 8;

async fn run_shared(seed: u64) {
    let chaos = Chaos::start(seed).await;
    let last = chaos.last;
    let conn = chaos.client().job_queue_size(4).build().unwrap().into_shared();
    let enough = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> =
        (0..TASKS).map(|task| tokio::spawn(write_jobs(conn.clone(), task, seed, Arc::clone(&enough)))).collect();
    let reader = tokio::spawn(read_shared(conn.clone(), last, enough));
    let mut jobs = Jobs::default();
    for writer in writers {
        let Jobs { sent, failed } = in_time("a writer", writer).await.unwrap();
        jobs.sent.extend(sent);
        jobs.failed.extend(failed);
    }
    in_time("the last job", conn.write_all(&record(LAST_JOB, 0))).await.unwrap();
    let (acknowledged, reported) = in_time("the reader", reader).await.unwrap();
    in_time("close", conn.close(CLOSE_LIMIT)).await;
    let (seen, every) = chaos.end().await;

    // The server has checked every byte, so no job is mixed with another. No job arrives twice, each task's jobs arrive
    // in order, and no failed job arrives whole.
    let mut arrived = HashSet::new();
    let mut newest = [None; TASKS as usize + 1];
    for number in seen.iter().flatten() {
        assert!(arrived.insert(*number), "job {number:#x} arrived twice");
        assert!(!jobs.failed.contains(number), "job {number:#x} failed, and arrived whole");
        let newest = &mut newest[(number >> 32) as usize];
        assert!(newest.is_none_or(|newest| newest < *number), "job {number:#x} arrived after {newest:?}");
        *newest = Some(*number);
    }
    // Each job is acknowledged at most once, and only if it arrived.
    let unique: HashSet<_> = acknowledged.iter().copied().collect();
    assert_eq!(unique.len(), acknowledged.len(), "acknowledged twice");
    assert!(unique.is_subset(&arrived));
    // The last link is never cut, so nothing is lost on it.
    let on_last: HashSet<_> = seen.last().unwrap().iter().copied().collect();
    for task in 0..TASKS {
        let Some(first) = on_last.iter().filter(|number| **number >> 32 == task).min() else { continue };
        let lost: Vec<_> =
            jobs.sent.iter().filter(|sent| **sent >> 32 == task && *sent > first && !on_last.contains(sent)).collect();
        assert!(lost.is_empty(), "lost on the last link: {lost:#x?}");
    }
    assert_eq!(reported, every, "the reports of the reader");
}

#[tokio::test]
async fn shared_connection_on_one_thread() {
    for seed in seeds() {
        run_shared(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn shared_connection_on_one_worker() {
    for seed in seeds() {
        tokio::spawn(run_shared(seed)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_connection_on_two_workers() {
    for seed in seeds() {
        tokio::spawn(run_shared(seed)).await.unwrap();
    }
}
