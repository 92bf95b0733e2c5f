//! One connection for many tasks: each job whole, on one link, in order; and nobody waits for somebody else's read.

mod support;

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::time::Duration;

use perconn::{Conn, Error, SharedConn, WhenDown};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use support::{Server, event, inside, pipes, quick, refused_address, reset, soon, told_generation};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_test::task::spawn;

/// A record: the task, its number, the length of the rest, the rest.
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
    assert!(task < 100 && length <= 200_000, "this is no beginning of a record");
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await.ok()?;
    assert_eq!(rest, record(task, number, length)[10..]);
    Some((task, number))
}

fn length(random: &mut SmallRng) -> usize {
    // Some are copied, and some are not.
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
                soon("write", conn.write_all(&record(task, number, length(&mut random)))).await.unwrap();
            }
        });
    }
    drop(conn);
    let mut next = HashMap::new();
    while let Some((task, number)) = soon("a record", read_record(&mut peer)).await {
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

/// What the killed server's links brought.
async fn take_links(listener: TcpListener, seed: u64, links: usize) -> Vec<(u16, u32)> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut received = Vec::new();
    for link in 0..=links {
        let (mut peer, _) = soon("accept", listener.accept()).await.unwrap();
        let mut records = if link == links { usize::MAX } else { random.random_range(0..200) };
        while records > 0 {
            let Some(record) = soon("a record", read_record(&mut peer)).await else { break };
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
                // Until the last link is up, and some more on that one.
                let mut number = 0;
                let mut more = 100;
                while more > 0 {
                    if conn.generation() > 12 {
                        more -= 1;
                    }
                    let bytes = record(task, number, length(&mut random));
                    if let Err(error) = soon("write", conn.write_all(&bytes)).await {
                        told_generation(&error);
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
    soon("close", conn.close()).await;
    let received = server.await.unwrap();
    let mut last: HashMap<u16, u32> = HashMap::new();
    for (task, number) in received {
        let last = last.insert(task, number);
        assert!(last.is_none_or(|last| last < number), "task {task}: {number} after {last:?}");
        assert!(!failed[usize::from(task)].contains(&number), "a job that failed has arrived whole");
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
async fn jobs_that_had_not_begun_go_out_whole_on_the_next_link_and_only_the_cut_one_fails() {
    let (conn, mut peers) = pipes().await;
    let conn = conn.into_shared();
    let first = peers.recv().await.unwrap();
    // The pipe takes 64 bytes: the first job is sent, the second is cut.
    let jobs = [[1; 40], [2; 40], [3; 40], [4; 40]];
    let mut calls: Vec<_> = jobs.iter().map(|job| spawn(conn.write_all(job))).collect();
    assert!(calls[0].poll().is_ready());
    assert!(calls[1..].iter_mut().all(|call| call.poll().is_pending()));
    drop(first);
    let mut second = soon("redial", peers.recv()).await.unwrap();
    let rest = tokio::spawn(async move {
        let mut all = Vec::new();
        second.read_to_end(&mut all).await.unwrap();
        all
    });
    let mut outcomes = Vec::new();
    for call in calls.drain(1..) {
        outcomes.push(soon("a call", call).await);
    }
    assert_eq!(told_generation(outcomes[0].as_ref().unwrap_err()), 1);
    assert!(outcomes[1..].iter().all(Result::is_ok), "{outcomes:?}");
    soon("close", conn.close()).await;
    drop(calls);
    drop(conn);
    assert_eq!(rest.await.unwrap(), [[3; 40], [4; 40]].concat());
}

#[tokio::test]
async fn full_queue_lets_callers_wait_in_order() {
    let (sender, mut peers) = tokio::sync::mpsc::unbounded_channel();
    let dialer = perconn::dial_fn(move || {
        let (near, far) = tokio::io::duplex(8);
        sender.send(far).unwrap();
        std::future::ready(Ok(near))
    });
    let builder = quick(Conn::builder("memory").dialer(dialer)).job_queue_size(2);
    let conn = soon("connect", builder.connect()).await.unwrap().into_shared();
    let mut peer = peers.recv().await.unwrap();
    let jobs: Vec<_> = (0..20_u8).map(|number| [number; 10]).collect();
    let mut calls: Vec<_> = jobs.iter().map(|job| Box::pin(conn.write_all(job))).collect();
    let mut all = vec![0; 200];
    // Polled in any order, again and again; the first poll of each was in this one.
    let writing = async {
        for call in &mut calls {
            let _ = spawn(call).poll();
        }
        let calls = calls.into_iter().map(|call| async { call.await.unwrap() });
        futures_join_all(calls).await;
    };
    let (_, read) = tokio::join!(soon("writes", writing), soon("peer", peer.read_exact(&mut all)));
    read.unwrap();
    let order: Vec<_> = all.chunks(10).map(|job| job[0]).collect();
    assert_eq!(order, (0..20).collect::<Vec<_>>());
    assert!(all.chunks(10).all(|job| job.iter().all(|byte| *byte == job[0])));
}

/// Awaits all at once.
async fn futures_join_all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
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
        let [begun, waiting, last] = [1, 2, 3].map(|byte| vec![byte; size]);
        let mut first = spawn(conn.write_all(&begun));
        let mut cut = spawn(conn.write_all(&begun));
        let mut never = spawn(conn.write_all(&waiting));
        assert!(size < 64 || first.poll().is_pending());
        if size < 64 {
            let _ = first.poll();
        }
        assert!(cut.poll().is_pending());
        assert!(never.poll().is_pending());
        tokio::task::yield_now().await;
        drop((first, cut, never));
        let written = tokio::spawn({
            let conn = conn.clone();
            async move { conn.write_all(&last).await }
        });
        let mut all = Vec::new();
        let reading = async {
            while !all.ends_with(&[3]) || all.iter().filter(|byte| **byte == 3).count() < size {
                let mut some = [0; 64];
                let n = peer.read(&mut some).await.unwrap();
                all.extend_from_slice(&some[..n]);
            }
        };
        soon("peer", reading).await;
        soon("write", written).await.unwrap().unwrap();
        assert_eq!(all.len() % size, 0);
        assert!(all.chunks(size).all(|job| job.iter().all(|byte| *byte == job[0])));
    }
}

#[tokio::test]
async fn outage_is_dealt_with_as_the_policy_says() {
    let address = refused_address().await;
    let conn = quick(Conn::builder(address)).when_down(WhenDown::Fail).build().unwrap().into_shared();
    let error = soon("write", conn.write_all(b"x")).await.unwrap_err();
    assert!(matches!(inside(&error), Error::Down { .. }));

    let limit = Duration::from_millis(30);
    let conn = quick(Conn::builder(address)).when_down(WhenDown::WaitFor(limit)).build().unwrap().into_shared();
    let error = soon("write", conn.write_all(b"x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);

    let mut server = Server::start().await;
    server.stop();
    let conn = server.client().build().unwrap().into_shared();
    let writing = tokio::spawn({
        let conn = conn.clone();
        async move { conn.write_all(b"patience").await }
    });
    server.restart().await;
    let mut peer = server.accept().await;
    let mut text = [0; 8];
    soon("peer", peer.read_exact(&mut text)).await.unwrap();
    soon("write", writing).await.unwrap().unwrap();
}

#[tokio::test]
async fn close_sends_what_is_queued_and_then_refuses_everything() {
    let (conn, mut peers) = pipes().await;
    let conn = conn.into_shared();
    let mut peer = peers.recv().await.unwrap();
    let queued: Vec<_> = (0..5_u8)
        .map(|number| {
            let conn = conn.clone();
            tokio::spawn(async move { conn.write_all(&[number; 50]).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let closing = tokio::spawn({
        let conn = conn.clone();
        async move { conn.close().await }
    });
    tokio::task::yield_now().await;
    let mut all = vec![0; 250];
    soon("peer", peer.read_exact(&mut all)).await.unwrap();
    for call in queued {
        soon("write", call).await.unwrap().unwrap();
    }
    soon("close", closing).await.unwrap();
    let error = soon("write", conn.write_all(b"late")).await.unwrap_err();
    assert!(matches!(inside(&error), Error::ClosedConnection));
    let error = soon("read", conn.read(&mut [0; 8])).await.unwrap_err();
    assert!(matches!(inside(&error), Error::ClosedConnection));
    soon("close again", conn.close()).await;
}

#[tokio::test]
async fn close_does_not_wait_for_ever_for_a_peer_that_takes_nothing() {
    tokio::time::pause();
    let (conn, mut peers) = pipes().await;
    let conn = conn.into_shared();
    let _peer = peers.recv().await.unwrap();
    let stuck = tokio::spawn({
        let conn = conn.clone();
        async move { conn.write_all(&[1; 1_000]).await }
    });
    tokio::task::yield_now().await;
    let began = tokio::time::Instant::now();
    conn.close().await;
    assert!((5..6).contains(&began.elapsed().as_secs()));
    let error = soon("write", stuck).await.unwrap().unwrap_err();
    assert!(matches!(inside(&error), Error::ClosedConnection));
}

#[tokio::test]
async fn waiting_read_never_blocks_a_write_and_each_clone_is_told_once() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let conn = conn.into_shared();
    let read = |conn: SharedConn| async move {
        let mut buf = [0; 64];
        conn.read(&mut buf).await.map(|n| buf[..n].to_vec())
    };
    let (one, other) = (conn.clone(), conn.clone());
    let waiting = [tokio::spawn(read(one.clone())), tokio::spawn(read(other.clone()))];
    tokio::task::yield_now().await;
    soon("write", conn.write_all(b"unhindered")).await.unwrap();
    let mut text = [0; 10];
    soon("peer", peer.read_exact(&mut text)).await.unwrap();
    reset(peer);
    // Both that wait are told, though by clones of clones.
    for call in waiting {
        assert_eq!(told_generation(&soon("read", call).await.unwrap().unwrap_err()), 1);
    }
    let mut peer = server.accept().await;
    peer.write_all(b"welcome").await.unwrap();
    // The clones that waited were told through clones of theirs; they themselves are told once, and then they read.
    for clone in [one, other] {
        assert_eq!(told_generation(&soon("read", read(clone.clone())).await.unwrap_err()), 1);
        assert_eq!(told_generation(&soon("read", clone.read(&mut [0; 8])).await.unwrap_err()), 1);
    }
    assert_eq!(told_generation(&soon("read", conn.read(&mut [0; 8])).await.unwrap_err()), 1);
    let mut buf = [0; 8];
    assert_eq!(soon("read", conn.read(&mut buf)).await.unwrap(), 7);
}

#[tokio::test]
async fn future_that_is_held_and_not_polled_delays_nobody() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let conn = conn.into_shared();
    // Two callers, so that the queue is in use.
    let mut held = spawn(conn.write_all(b"held "));
    let _ = held.poll();
    let mut also = spawn(conn.write_all(b"also "));
    let _ = also.poll();
    soon("write", conn.write_all(b"through")).await.unwrap();
    let mut text = [0; 17];
    soon("peer", peer.read_exact(&mut text)).await.unwrap();
    assert_eq!(&text, b"held also through");
}

#[tokio::test]
async fn dropping_the_last_clone_closes_the_socket_and_ends_the_actor() {
    let server = Server::start().await;
    let (recorder, mut events) = support::Recorder::new();
    let (conn, mut peer) = tokio::join!(server.client().on_event(recorder.hook()).connect(), server.accept());
    let conn = conn.unwrap().into_shared();
    let clone = conn.clone();
    drop(conn);
    soon("write", clone.write_all(b"still here")).await.unwrap();
    drop(clone);
    let mut all = Vec::new();
    soon("peer", peer.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"still here");
    event(&mut events, |event| matches!(event, perconn::Event::Closed).then_some(())).await;
    server.expect_silence(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn break_while_everyone_is_idle_is_redialed() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let conn = conn.into_shared();
    drop(peer);
    let mut peer = server.accept().await;
    soon("the next link", conn.connected()).await.unwrap();
    // A job that had not begun is no part of that break.
    soon("write", conn.write_all(b"hello")).await.unwrap();
    let mut text = [0; 5];
    soon("peer", peer.read_exact(&mut text)).await.unwrap();
}

#[test]
fn runtime_that_shuts_down_leaves_nobody_waiting() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let conn = runtime.block_on(async { Conn::connect(address).await.unwrap().into_shared() });
    let _peer = listener.accept().unwrap();
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(async {
        let bytes = vec![1; 50_000_000];
        let mut small = spawn(conn.write_all(b"small"));
        let _ = small.poll();
        let mut large = spawn(conn.write_all(&bytes));
        assert!(large.poll().is_pending());
        tokio::task::spawn_blocking(move || drop(runtime)).await.unwrap();
        assert!(soon("write", large).await.is_err());
        assert!(soon("write", conn.write_all(b"late")).await.is_err());
        assert!(soon("read", conn.read(&mut [0; 8])).await.is_err());
    });
}

#[test]
fn shared_connection_can_be_shared_and_its_futures_be_sent() {
    fn is_shared<T: Clone + Send + Sync + 'static>() {}
    fn is_sent<T: Send>(_: T) {}
    is_shared::<SharedConn>();
    let _ = |conn: SharedConn<TcpStream>| {
        is_sent(conn.write_all(b""));
        is_sent(conn.close());
        is_sent(async move { conn.read(&mut [0; 8]).await });
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn job_beside_a_close_is_sent_whole_or_not_at_all() {
    let server = Server::start().await;
    for length in (0..200).map(|round| 1 + round * 997) {
        let (conn, mut peer) = server.pair().await;
        let conn = conn.into_shared();
        let writer = conn.clone();
        let job = tokio::spawn(async move { writer.write_all(&vec![7; length]).await });
        let close = tokio::spawn(async move { conn.close().await });
        let mut arrived = Vec::new();
        soon("the end of the stream", peer.read_to_end(&mut arrived)).await.unwrap();
        soon("close", close).await.unwrap();
        match soon("the job", job).await.unwrap() {
            Ok(()) => assert_eq!(arrived.len(), length),
            Err(error) => {
                assert!(matches!(inside(&error), Error::ClosedConnection), "{error}");
                assert_eq!(arrived.len(), 0, "of {length} bytes");
            }
        }
    }
}

#[tokio::test]
async fn loop_of_errors_lets_the_actor_redial() {
    let server = Server::start().await;
    let conn = server.client().when_down(WhenDown::Fail).build().unwrap().into_shared();
    // On the only thread there is.
    while conn.write_all(b"x").await.is_err() {}
    conn.close().await;
    let looping = tokio::spawn(async move { while conn.write_all(b"x").await.is_err() {} });
    tokio::time::sleep(Duration::from_millis(5)).await;
    looping.abort();
    assert!(looping.await.unwrap_err().is_cancelled());
}
