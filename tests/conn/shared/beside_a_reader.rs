//! `WriteHalf::into_shared`: many tasks write beside the `ReadHalf` that one task reads.

use std::io::ErrorKind;
use std::time::Duration;

use perconn::{Error, SharedConn, WhenDown};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio_test::task::spawn;

use super::{run_other_tasks, wait_for_generation};
use crate::support::{
    CLOSE_LIMIT, Server, in_time, perconn_error, pipes, reported_generation, reset, wait_for_disconnect,
};

/// Many tasks write lines, and the reader gets each of them back from the server, whole and in the order of its task.
async fn many_tasks_write_beside_a_reader_of_lines() {
    const TASKS: usize = 16;
    const LINES: usize = 100;
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let echo = tokio::spawn(async move {
        let (mut read, mut write) = peer.split();
        tokio::io::copy(&mut read, &mut write).await
    });
    let (reader, writer) = conn.into_split();
    let writer = writer.into_shared();
    for task in 0..TASKS {
        let writer = writer.clone();
        tokio::spawn(async move {
            for number in 0..LINES {
                let line = format!("{task} {number} {}\n", "x".repeat(number * task % 2_000));
                in_time("write", writer.write_all(line.as_bytes())).await.unwrap();
            }
        });
    }
    // The tasks' clones are the last ones: when they are done, the writing side is shut down.
    drop(writer);
    let mut next = [0; TASKS];
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = in_time("a line", lines.next_line()).await.unwrap() {
        let (task, rest) = line.split_once(' ').unwrap();
        let (number, rest) = rest.split_once(' ').unwrap();
        let (task, number): (usize, usize) = (task.parse().unwrap(), number.parse().unwrap());
        assert_eq!((number, rest.len()), (next[task], number * task % 2_000), "task {task}");
        next[task] += 1;
    }
    assert_eq!(next, [LINES; TASKS]);
    in_time("the server", echo).await.unwrap().unwrap();
    server.expect_no_dial(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn lines_of_many_tasks_come_back_to_one_reader() {
    many_tasks_write_beside_a_reader_of_lines().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_many_tasks_come_back_to_one_reader_on_two_workers() {
    many_tasks_write_beside_a_reader_of_lines().await;
}

/// The server breaks its links. Each job that fails does so with a break, and the reader reports every break once.
async fn breaks_beside_a_reader() {
    const LINKS: u64 = 10;
    let server = Server::start().await;
    let (conn, _) = tokio::join!(server.client().close_as_error(true).connect(), async {});
    let (reader, writer) = conn.unwrap().into_split();
    let writer = writer.into_shared();
    let reading = tokio::spawn(async move {
        let mut reported = Vec::new();
        let mut lines = BufReader::new(reader).lines();
        while reported.len() < LINKS as usize {
            match in_time("a line", lines.next_line()).await {
                Ok(line) => assert!(line.unwrap().starts_with("line "), "not the start of a line"),
                Err(error) => {
                    reported.push(reported_generation(&error));
                    lines = BufReader::new(lines.into_inner().into_inner()).lines();
                }
            }
        }
        reported
    });
    let writers: Vec<_> = (0..4)
        .map(|task| {
            let writer = writer.clone();
            tokio::spawn(async move {
                while writer.generation() <= LINKS {
                    if let Err(error) = in_time("write", writer.write_all(format!("line of {task}\n").as_bytes())).await
                    {
                        reported_generation(&error);
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for link in 1..=LINKS {
        let mut peer = server.accept().await;
        let mut some = [0; 500];
        in_time("the peer", peer.read_exact(&mut some)).await.unwrap();
        assert!(some.starts_with(b"line of "), "the link begins in the middle of a job");
        peer.write_all(&some).await.unwrap();
        if link % 2 == 0 {
            reset(peer);
        }
    }
    let mut peer = server.accept().await;
    tokio::spawn(async move { tokio::io::copy(&mut peer, &mut tokio::io::sink()).await });
    assert_eq!(in_time("the reader", reading).await.unwrap(), (1..=LINKS).collect::<Vec<_>>());
    for writer in writers {
        in_time("a writer", writer).await.unwrap();
    }
}

#[tokio::test]
async fn reader_reports_each_break_once_while_many_tasks_write() {
    breaks_beside_a_reader().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reader_reports_each_break_once_while_many_tasks_write_on_two_workers() {
    breaks_beside_a_reader().await;
}

#[tokio::test]
async fn last_clone_shuts_the_writing_side_down_and_the_reader_reads_on() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (mut reader, writer) = conn.into_split();
    let writer = writer.into_shared();
    let clone = writer.clone();
    in_time("write", writer.write_all(b"request")).await.unwrap();
    drop(writer);
    in_time("write", clone.write_all(b", last")).await.unwrap();
    drop(clone);
    let mut request = String::new();
    in_time("the end of the request", peer.read_to_string(&mut request)).await.unwrap();
    assert_eq!(request, "request, last");
    peer.write_all(b"answer").await.unwrap();
    let mut answer = [0; 6];
    in_time("the answer", reader.read_exact(&mut answer)).await.unwrap();
    drop(peer);
    assert_eq!(in_time("the end", reader.read(&mut answer)).await.unwrap(), 0);
    let error = in_time("after the end", reader.read(&mut answer)).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::ClosedConnection));
    server.expect_no_dial(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn last_clone_sends_the_job_that_is_sent_in_part() {
    let (conn, mut peers) = pipes().await;
    let mut peer = peers.recv().await.unwrap();
    let (mut reader, writer) = conn.into_split();
    let writer = writer.into_shared();
    // The pipe takes 64 bytes: the first job is sent, the second in part, and nothing of the third.
    let mut calls: Vec<_> = [b"1", b"2", b"3"].map(|byte| byte.repeat(40)).to_vec();
    let third = calls.pop().unwrap();
    let [mut first, mut second] = [&calls[0], &calls[1]].map(|job| spawn(writer.write_all(job)));
    assert!(first.poll().is_ready());
    assert!(second.poll().is_pending());
    let mut unsent = spawn(writer.write_all(&third));
    assert!(unsent.poll().is_pending());
    run_other_tasks().await;
    drop((first, second, unsent));
    drop(writer);
    let mut all = Vec::new();
    in_time("the peer", peer.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, calls.concat());
    // The reader's direction is still open.
    peer.write_all(b"answer").await.unwrap();
    let mut answer = [0; 6];
    in_time("the answer", reader.read_exact(&mut answer)).await.unwrap();
    drop(peer);
    assert_eq!(in_time("the end", reader.read(&mut answer)).await.unwrap(), 0);
    in_time("the end of the reader", reader.read(&mut answer)).await.unwrap_err();
    assert!(in_time("no redial", peers.recv()).await.is_none());
}

#[tokio::test]
async fn last_clone_leaves_the_rest_of_a_direct_write_to_the_task() {
    let (conn, mut peers) = pipes().await;
    let mut peer = peers.recv().await.unwrap();
    let (_reader, writer) = conn.into_split();
    let writer = writer.into_shared();
    // The pipe takes 64 bytes. The task has not run since.
    assert!(spawn(writer.write_all(&[1; 100])).poll().is_pending());
    drop(writer);
    let mut all = Vec::new();
    in_time("the peer", peer.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, [1; 100]);
}

#[tokio::test]
async fn last_clone_in_an_outage_ends_the_redial() {
    let mut server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (mut reader, writer) = conn.into_split();
    let writer = writer.into_shared();
    server.stop();
    drop(peer);
    assert_eq!(in_time("the break", reader.read(&mut [0])).await.unwrap(), 0);
    drop(writer);
    let error = in_time("the end", reader.read(&mut [0])).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::ClosedConnection), "{error:?}");
    server.restart().await;
    server.expect_no_dial(Duration::from_millis(100)).await;
}

#[test]
fn last_clone_shuts_the_writing_side_down_while_the_runtime_is_stopped() {
    use std::io::Read;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (_reader, writer) = runtime.block_on(async {
        let (reader, writer) = perconn::Conn::connect(address).await.unwrap().into_split();
        let writer = writer.into_shared();
        writer.write_all(b"x").await.unwrap();
        (reader, writer)
    });
    let (mut peer, _) = listener.accept().unwrap();
    drop(writer);
    peer.set_read_timeout(Some(crate::support::HANG_LIMIT)).unwrap();
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"x");
}

#[tokio::test]
async fn close_of_a_clone_sends_what_is_queued_and_ends_the_reader() {
    let (conn, mut peers) = pipes().await;
    let mut peer = peers.recv().await.unwrap();
    let (mut reader, writer) = conn.into_split();
    let writer = writer.into_shared();
    let waiting = tokio::spawn(async move { (reader.read(&mut [0; 8]).await, reader) });
    let queued: Vec<_> = (0..5_u8)
        .map(|number| {
            let writer = writer.clone();
            tokio::spawn(async move { writer.write_all(&[number; 50]).await })
        })
        .collect();
    run_other_tasks().await;
    let mut all = vec![0; 250];
    let close = async { tokio::join!(writer.close(CLOSE_LIMIT), peer.read_exact(&mut all)) };
    in_time("close", close).await.1.unwrap();
    for call in queued {
        in_time("a queued write", call).await.unwrap().unwrap();
    }
    let (outcome, mut reader) = in_time("the waiting read", waiting).await.unwrap();
    assert!(matches!(perconn_error(&outcome.unwrap_err()), Error::ClosedConnection));
    let error = in_time("a later read", reader.read(&mut [0; 8])).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::ClosedConnection));
    let error = in_time("a later write", writer.write_all(b"late")).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::ClosedConnection));
    drop((reader, writer));
    assert!(in_time("no redial", peers.recv()).await.is_none());
}

#[tokio::test]
async fn read_of_a_writing_clone_is_unsupported() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (mut reader, writer) = conn.into_split();
    let writer = writer.into_shared();
    peer.write_all(b"for the half").await.unwrap();
    for clone in [writer.clone(), writer] {
        let error = in_time("read", clone.read(&mut [0; 8])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(Error::of(&error).is_none());
    }
    let mut bytes = [0; 12];
    in_time("read", reader.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"for the half");
}

#[tokio::test]
async fn break_that_cuts_a_job_is_reported_to_its_caller_and_to_the_reader() {
    let (conn, mut peers) = pipes().await;
    let mut peer = peers.recv().await.unwrap();
    let (mut reader, writer) = conn.into_split();
    let writer = writer.into_shared();
    peer.write_all(b"left").await.unwrap();
    // The pipe takes 64 bytes of the first job.
    let mut calls = [[1; 100], [2; 100]].map(|job| spawn_write(&writer, job));
    run_other_tasks().await;
    drop(peer);
    let [cut, whole] = &mut calls;
    assert_eq!(reported_generation(&in_time("the cut job", cut).await.unwrap().unwrap_err()), 1);
    let mut peer = in_time("redial", peers.recv()).await.unwrap();
    let mut second = [0; 100];
    in_time("the next job", peer.read_exact(&mut second)).await.unwrap();
    assert_eq!(second, [2; 100]);
    in_time("the next job", whole).await.unwrap().unwrap();
    peer.write_all(b"next").await.unwrap();
    // The reader reads what had arrived, and then reports the break, once.
    let mut bytes = [0; 4];
    in_time("read", reader.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"left");
    match in_time("the break", reader.read(&mut bytes)).await {
        Ok(n) => assert_eq!(n, 0),
        Err(error) => assert_eq!(reported_generation(&error), 1),
    }
    assert_eq!(reader.last_reported(), 1);
    in_time("read", reader.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"next");
}

/// A task that writes one job.
fn spawn_write<S>(writer: &SharedConn<S>, job: [u8; 100]) -> tokio::task::JoinHandle<std::io::Result<()>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let writer = writer.clone();
    tokio::spawn(async move { writer.write_all(&job).await })
}

#[tokio::test]
async fn writers_go_on_over_breaks_after_the_reader_was_dropped() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (reader, writer) = conn.into_split();
    let writer = writer.into_shared();
    let clone = writer.clone();
    drop(reader);
    for generation in 1..=3 {
        for conn in [&writer, &clone] {
            in_time("write", conn.write_all(b"still here")).await.unwrap();
        }
        let mut bytes = [0; 20];
        in_time("the peer", peer.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(&bytes, b"still herestill here");
        reset(peer);
        peer = server.accept().await;
        wait_for_generation(&writer, generation + 1).await;
    }
    drop(clone);
    in_time("write", writer.write_all(b"last")).await.unwrap();
    // With the last clone, the last handle is gone.
    let status = writer.watch_status();
    drop(writer);
    let mut all = Vec::new();
    in_time("the peer", peer.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"last");
    let mut status = status;
    in_time("the connection ends", status.wait_for(|status| status.is_final())).await.unwrap();
    server.expect_no_dial(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn abandon_by_the_reader_is_no_error_for_jobs_that_have_not_begun() {
    let server = Server::start().await;
    let (conn, mut first) = server.pair().await;
    let (mut reader, writer) = conn.into_split();
    let writer = writer.into_shared();
    in_time("write", writer.write_all(b"one")).await.unwrap();
    reader.abandon();
    in_time("write", writer.write_all(b"two")).await.unwrap();
    let mut all = Vec::new();
    in_time("link 1", first.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"one");
    let mut peer = server.accept().await;
    let mut bytes = [0; 3];
    in_time("link 2", peer.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"two");
    peer.write_all(b"A").await.unwrap();
    assert_eq!(in_time("read", reader.read_u8()).await.unwrap(), b'A');
}

#[tokio::test]
async fn when_down_applies_to_the_jobs_beside_a_reader() {
    let mut server = Server::start().await;
    let (conn, peer) = tokio::join!(server.client().when_down(WhenDown::Fail).connect(), server.accept());
    let (_reader, writer) = conn.unwrap().into_split();
    let writer = writer.into_shared();
    server.stop();
    drop(peer);
    wait_for_disconnect(writer.watch_status()).await;
    let error = in_time("write", writer.write_all(b"x")).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::Down { .. }), "{error:?}");
}

#[tokio::test]
async fn job_after_a_break_that_the_half_has_not_reported_goes_to_the_next_link() {
    let (conn, mut peers) = pipes().await;
    let mut first = peers.recv().await.unwrap();
    let (mut reader, mut writer) = conn.into_split();
    assert!(spawn(writer.write_all(&[1; 100])).poll().is_pending());
    writer.break_link(1);
    in_time("the break", reader.read(&mut [0; 4])).await.unwrap_err();
    let mut second = in_time("redial", peers.recv()).await.unwrap();
    let writer = writer.into_shared();
    in_time("a job", writer.write_all(b"whole")).await.unwrap();
    let mut bytes = [0; 5];
    in_time("link 2", second.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"whole");
    let mut part = Vec::new();
    in_time("link 1", first.read_to_end(&mut part)).await.unwrap();
    assert_eq!(part, [1; 64]);
}
