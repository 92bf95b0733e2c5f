//! `SharedConn`, one connection for many tasks: each job is sent whole, on one link and in order, and no task waits for
//! another task's read.

#![allow(clippy::redundant_clone, reason = "each call owns its handle")]

mod beside_a_reader;
mod closing;
mod held_futures;
mod jobs;
mod lost_links;
mod outages;
mod panicking_callers;
mod reads;
mod runtimes;
mod scripted_streams;
mod wakers;

use std::time::Duration;

use perconn::{SharedConn, Status};

use crate::support::in_time;

async fn within<T>(millis: u64, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_millis(millis), future).await.ok()
}

/// Waits for a link of this number, or a later one.
async fn wait_for_generation<S>(conn: &SharedConn<S>, number: u64) {
    let is_there = |status: &Status| matches!(status, Status::Connected { generation, .. } if *generation >= number);
    in_time("the link", conn.watch_status().wait_for(is_there)).await.unwrap();
}

/// Lets every other task of a runtime of one thread run until it waits.
async fn run_other_tasks() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
