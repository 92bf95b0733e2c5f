//! Jobs of many tasks: each is sent whole, on one link, and in the order of its task.

use std::collections::{HashMap, HashSet};

use perconn::Conn;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpListener;
use tokio_test::task::spawn;

use crate::support::{CLOSE_LIMIT, Server, in_time, pipes, quick, reported_generation, reset};

/// A record: the task, the number, the length of the payload, the payload.
fn record(task: u16, number: u32, length: usize) -> Vec<u8> {
    let mut bytes = task.to_be_bytes().to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend((0..length).map(|at| (at as u32 ^ number) as u8));
    bytes
}

/// The next record of a stream, checked; `None` if it ends before the record does.
async fn read_record(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u16, u32)> {
    let task = stream.read_u16().await.ok()?;
    let number = stream.read_u32().await.ok()?;
    let length = stream.read_u32().await.ok()? as usize;
    assert!(task < 100 && length <= 200_000, "not the start of a record: task {task}, length {length}");
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await.ok()?;
    assert_eq!(rest, record(task, number, length)[10..]);
    Some((task, number))
}

fn length(random: &mut SmallRng) -> usize {
    // Small jobs are copied into the queue, large ones are not.
    if random.random_bool(0.02) { random.random_range(16_000..150_000) } else { random.random_range(0..3_000) }
}

async fn many_tasks_write() {
    const TASKS: u16 = 32;
    const RECORDS: u32 = 200;
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let conn = conn.into_shared();
    for task in 0..TASKS {
        let conn = conn.clone();
        tokio::spawn(async move {
            let mut random = SmallRng::seed_from_u64(task.into());
            for number in 0..RECORDS {
                in_time("write", conn.write_all(&record(task, number, length(&mut random)))).await.unwrap();
            }
        });
    }
    drop(conn);
    let mut next = HashMap::new();
    while let Some((task, number)) = in_time("a record", read_record(&mut peer)).await {
        let next = next.entry(task).or_insert(0);
        assert_eq!(number, *next, "task {task}");
        *next += 1;
    }
    assert_eq!(next.len(), usize::from(TASKS));
    assert!(next.values().all(|next| *next == RECORDS));
}

#[tokio::test]
async fn jobs_of_many_tasks_are_never_mixed_and_keep_their_order() {
    many_tasks_write().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_many_tasks_are_never_mixed_and_keep_their_order_on_two_workers() {
    many_tasks_write().await;
}

/// Accepts links, and closes or resets each after some records. Returns the records that arrived.
async fn take_links(listener: TcpListener, seed: u64, links: usize) -> Vec<(u16, u32)> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut received = Vec::new();
    for link in 0..=links {
        let (mut peer, _) = in_time("accept", listener.accept()).await.unwrap();
        // At least one: a reset that comes before the client knows of the link is a failed dial to it, and no link.
        let mut records = if link == links { usize::MAX } else { random.random_range(1..200) };
        while records > 0 {
            let Some(record) = in_time("a record", read_record(&mut peer)).await else { break };
            received.push(record);
            records -= 1;
        }
        if random.random_bool(0.5) {
            reset(peer);
        }
    }
    received
}

async fn server_is_killed_again_and_again(seed: u64) {
    const TASKS: u16 = 8;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let builder = quick(Conn::builder(listener.local_addr().unwrap())).job_queue_size(4);
    let server = tokio::spawn(take_links(listener, seed, 12));
    let conn = builder.connect().await.unwrap().into_shared();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let conn = conn.clone();
            tokio::spawn(async move {
                let mut random = SmallRng::seed_from_u64(seed ^ u64::from(task) << 32);
                let mut failed = HashSet::new();
                // Until the last link is up, then 100 more on that link.
                let mut number = 0;
                let mut more = 100;
                while more > 0 {
                    if conn.generation() > 12 {
                        more -= 1;
                    }
                    let bytes = record(task, number, length(&mut random));
                    if let Err(error) = in_time("write", conn.write_all(&bytes)).await {
                        reported_generation(&error);
                        failed.insert(number);
                    }
                    number += 1;
                }
                failed
            })
        })
        .collect();
    let mut failed = Vec::new();
    for task in tasks {
        failed.push(task.await.unwrap());
    }
    in_time("close", conn.close(CLOSE_LIMIT)).await;
    let received = server.await.unwrap();
    let mut last: HashMap<u16, u32> = HashMap::new();
    for (task, number) in received {
        let last = last.insert(task, number);
        assert!(last.is_none_or(|last| last < number), "task {task}: {number} after {last:?}");
        assert!(!failed[usize::from(task)].contains(&number), "a job that failed arrived whole");
    }
}

#[tokio::test]
async fn each_job_is_on_one_link_or_has_failed() {
    for seed in 0..3 {
        server_is_killed_again_and_again(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_job_is_on_one_link_or_has_failed_on_two_workers() {
    for seed in 3..6 {
        server_is_killed_again_and_again(seed).await;
    }
}

#[tokio::test]
async fn unstarted_jobs_move_to_the_next_link_and_only_the_partly_written_one_fails() {
    let (conn, mut peers) = pipes().await;
    let conn = conn.into_shared();
    let first = peers.recv().await.unwrap();
    // The pipe takes 64 bytes: the first job is sent, and the second in part.
    let jobs = [[1; 40], [2; 40], [3; 40], [4; 40]];
    let mut calls: Vec<_> = jobs.iter().map(|job| spawn(conn.write_all(job))).collect();
    assert!(calls[0].poll().is_ready());
    assert!(calls[1..].iter_mut().all(|call| call.poll().is_pending()));
    drop(first);
    let mut second = in_time("redial", peers.recv()).await.unwrap();
    let rest = tokio::spawn(async move {
        let mut all = Vec::new();
        second.read_to_end(&mut all).await.unwrap();
        all
    });
    let mut outcomes = Vec::new();
    for call in calls.drain(1..) {
        outcomes.push(in_time("a call", call).await);
    }
    assert_eq!(reported_generation(outcomes[0].as_ref().unwrap_err()), 1);
    assert!(outcomes[1..].iter().all(Result::is_ok), "{outcomes:?}");
    in_time("close", conn.close(CLOSE_LIMIT)).await;
    drop(calls);
    drop(conn);
    assert_eq!(rest.await.unwrap(), [[3; 40], [4; 40]].concat());
}

#[tokio::test]
async fn full_queue_makes_callers_wait_in_order() {
    let (sender, mut peers) = tokio::sync::mpsc::unbounded_channel();
    let dialer = perconn::dial_fn(move || {
        let (near, far) = tokio::io::duplex(8);
        sender.send(far).unwrap();
        std::future::ready(Ok(near))
    });
    let builder = quick(Conn::builder("memory").dialer(dialer)).job_queue_size(2);
    let conn = in_time("connect", builder.connect()).await.unwrap().into_shared();
    let mut peer = peers.recv().await.unwrap();
    let jobs: Vec<_> = (0..20_u8).map(|number| [number; 10]).collect();
    let mut calls: Vec<_> = jobs.iter().map(|job| Box::pin(conn.write_all(job))).collect();
    let mut all = vec![0; 200];
    // The first poll of each call is in order; later polls are in another one.
    let writing = async {
        for call in &mut calls {
            let _ = spawn(call).poll();
        }
        let calls = calls.into_iter().map(|call| async { call.await.unwrap() });
        join_all_reversed(calls).await;
    };
    let (_, read) = tokio::join!(in_time("writes", writing), in_time("peer", peer.read_exact(&mut all)));
    read.unwrap();
    let order: Vec<_> = all.chunks(10).map(|job| job[0]).collect();
    assert_eq!(order, (0..20).collect::<Vec<_>>());
    assert!(all.chunks(10).all(|job| job.iter().all(|byte| *byte == job[0])));
}

/// Awaits all futures, and polls them in reverse order.
async fn join_all_reversed(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.map(|future| Some(Box::pin(future))).collect();
    std::future::poll_fn(|cx| {
        for slot in futures.iter_mut().rev() {
            if slot.as_mut().is_some_and(|future| future.as_mut().poll(cx).is_ready()) {
                *slot = None;
            }
        }
        if futures.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn cancelled_job_is_sent_whole_or_not_at_all() {
    for size in [40, 40_000] {
        let (conn, mut peers) = pipes().await;
        let conn = conn.into_shared();
        let mut peer = peers.recv().await.unwrap();
        let [started, waiting, last] = [1, 2, 3].map(|byte| vec![byte; size]);
        let mut first = spawn(conn.write_all(&started));
        let mut partial = spawn(conn.write_all(&started));
        let mut never = spawn(conn.write_all(&waiting));
        assert!(size < 64 || first.poll().is_pending());
        if size < 64 {
            let _ = first.poll();
        }
        assert!(partial.poll().is_pending());
        assert!(never.poll().is_pending());
        tokio::task::yield_now().await;
        drop((first, partial, never));
        let written = tokio::spawn({
            let conn = conn.clone();
            async move { conn.write_all(&last).await }
        });
        let mut all = Vec::new();
        let reading = async {
            let mut of_the_last = 0;
            while of_the_last < size {
                let mut some = [0; 64];
                let n = peer.read(&mut some).await.unwrap();
                of_the_last += some[..n].iter().filter(|byte| **byte == 3).count();
                all.extend_from_slice(&some[..n]);
            }
        };
        in_time("peer", reading).await;
        in_time("write", written).await.unwrap().unwrap();
        assert_eq!(all.len() % size, 0);
        assert!(all.chunks(size).all(|job| job.iter().all(|byte| *byte == job[0])));
    }
}

#[tokio::test]
async fn unpolled_future_does_not_delay_other_writes() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let conn = conn.into_shared();
    // Two callers, so that writes go through the queue.
    let mut held = spawn(conn.write_all(b"held "));
    let _ = held.poll();
    let mut also = spawn(conn.write_all(b"also "));
    let _ = also.poll();
    in_time("write", conn.write_all(b"through")).await.unwrap();
    let mut text = [0; 17];
    in_time("peer", peer.read_exact(&mut text)).await.unwrap();
    assert_eq!(&text, b"held also through");
}
