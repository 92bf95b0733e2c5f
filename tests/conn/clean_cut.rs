//! Promise 1, where futures are dropped: `abandon` is a clean cut, and the documented patterns are right.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{
    SLOWNESS, Server, in_time, perconn_error, quick, refused_address, reported_generation, reset,
    server_that_hangs_once, wait_for_break, wait_for_generation,
};
use perconn::{Conn, Error, Event, ReadHalf, WriteHalf};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::timeout;

#[path = "../../examples/heartbeat_select.rs"]
#[expect(dead_code, reason = "it is a program with a `main` of its own")]
mod heartbeat_select;
#[path = "../../examples/request_timeout.rs"]
#[expect(dead_code, reason = "it is a program with a `main` of its own")]
mod request_timeout;

const SOON: Duration = Duration::from_millis(20);
const REQUEST_LIMIT: Duration = Duration::from_millis(150 * SLOWNESS as u64);

/// One request and its answer.
async fn ask(
    write: &mut (impl AsyncWrite + Unpin),
    read: &mut (impl AsyncBufReadExt + Unpin),
    request: &str,
) -> io::Result<String> {
    write.write_all(format!("{request}\n").as_bytes()).await?;
    let mut answer = String::new();
    read.read_line(&mut answer).await?;
    Ok(answer)
}

/// Discards what a reader has buffered.
fn discard(reader: &mut BufReader<impl AsyncRead + Unpin>) {
    reader.consume(reader.buffer().len());
}

#[tokio::test]
async fn answers_belong_to_their_requests_after_a_timeout() {
    let conn = quick(Conn::builder(server_that_hangs_once().await)).close_as_error(true).connect().await.unwrap();
    let mut conn = BufReader::new(conn);
    for number in 0..8 {
        let request = format!("request {number}");
        let answer = in_time("an answer", request_timeout::ask(&mut conn, &request, REQUEST_LIMIT)).await.unwrap();
        assert_eq!(answer, format!("{request}\n"));
    }
    assert_eq!(conn.get_ref().generation(), 2, "one link was given up");
}

#[tokio::test]
async fn outage_does_not_use_up_the_time_for_an_answer() {
    // Slow, but within the limit: it must get all of that from each link.
    const LIMIT: Duration = Duration::from_secs(2);
    const ANSWER_AFTER: Duration = Duration::from_millis(500);
    const OUTAGE: Duration = Duration::from_millis(1800);
    let mut server = Server::start().await;
    server.stop();
    let mut conn = BufReader::new(server.client().build().unwrap());
    let asking = tokio::spawn(async move {
        let answer = request_timeout::ask(&mut conn, "ask", LIMIT).await;
        (answer, conn.get_ref().generation())
    });
    tokio::time::sleep(OUTAGE).await;
    server.restart().await;
    let mut peer = server.accept().await;
    in_time("the request", peer.read_exact(&mut [0; 4])).await.unwrap();
    tokio::time::sleep(ANSWER_AFTER).await;
    peer.write_all(b"answer\n").await.unwrap();
    let (answer, generation) = in_time("the answer", asking).await.unwrap();
    assert_eq!((answer.unwrap().as_str(), generation), ("answer\n", 1));
}

#[tokio::test]
async fn answers_belong_to_their_requests_after_both_halves_abandon_or_are_reunited() {
    for reunites in [false, true] {
        let conn = quick(Conn::builder(server_that_hangs_once().await)).close_as_error(true).connect().await.unwrap();
        let (read, mut write) = conn.into_split();
        let mut read = BufReader::new(read);
        for number in 0..8 {
            let request = format!("request {number}");
            loop {
                match timeout(REQUEST_LIMIT, ask(&mut write, &mut read, &request)).await {
                    Ok(answer) => {
                        assert_eq!(answer.unwrap(), format!("{request}\n"), "reunites: {reunites}");
                        break;
                    }
                    Err(_) if reunites => {
                        let mut conn = read.into_inner().reunite(write).unwrap();
                        conn.abandon();
                        let (again, other) = conn.into_split();
                        (read, write) = (BufReader::new(again), other);
                    }
                    Err(_) => {
                        write.abandon();
                        read.get_mut().abandon();
                        discard(&mut read);
                    }
                }
            }
        }
        assert_eq!(write.generation(), 2);
    }
}

#[tokio::test]
async fn select_loop_handles_each_break_once() {
    const LINKS: usize = 25;
    let server = Server::start().await;
    let (lines, mut received) = mpsc::unbounded_channel();
    let client = tokio::spawn(heartbeat_select::run(server.client(), Duration::from_micros(200), move |line| {
        lines.send(String::from_utf8(line.to_vec()).unwrap()).unwrap();
    }));
    for link in 0..LINKS {
        let mut peer = server.accept().await;
        // A subscription comes first, and then heartbeats, at any moment of the loop.
        let mut expected = [0; 10];
        in_time("a subscription", peer.read_exact(&mut expected)).await.unwrap();
        assert_eq!(&expected, b"SUBSCRIBE\n", "link {link}");
        in_time("a line", peer.write_all(format!("line {link}\nhalf").as_bytes())).await.unwrap();
        assert_eq!(in_time("the line", received.recv()).await.unwrap(), format!("line {link}\n"));
        let mut rest = Vec::new();
        if link % 2 == 0 {
            peer.shutdown().await.unwrap();
            in_time("the end", peer.read_to_end(&mut rest)).await.unwrap();
        } else {
            in_time("heartbeats", peer.read_buf(&mut rest)).await.unwrap();
            reset(peer);
        }
        let rest = String::from_utf8(rest).unwrap();
        assert!(!rest.contains("SUBSCRIBE"), "link {link}: {rest:?}");
    }
    client.abort();
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn operations_dropped_before_abandon_report_nothing_after_it() {
    let server = Server::start().await;
    let (mut conn, peer) = server.pair().await;
    // A read that waited, and a write that has sent a part.
    assert!(timeout(SOON, conn.read(&mut [0; 4])).await.is_err());
    let big = vec![0; 64 << 20];
    assert!(timeout(SOON, conn.write_all(&big)).await.is_err());
    conn.abandon();
    assert_eq!(conn.last_reported(), 1);
    let mut next = server.accept().await;
    in_time("a write", conn.write_all(b"new")).await.unwrap();
    let mut buf = [0; 3];
    in_time("the peer's read", next.read_exact(&mut buf)).await.unwrap();
    assert_eq!(&buf, b"new", "no rest of the old write");
    in_time("the peer's write", next.write_all(b"ans")).await.unwrap();
    in_time("a read", conn.read_exact(&mut buf)).await.unwrap();
    assert_eq!(&buf, b"ans");
    drop((peer, next));
    // The next break is reported once.
    assert_eq!(in_time("the close", conn.read(&mut [0; 4])).await.unwrap(), 0);
    assert_eq!(conn.last_reported(), 2);
}

#[tokio::test]
async fn abandon_forgets_what_arrived_and_a_break_that_is_not_reported() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    peer.write_all(b"late").await.unwrap();
    drop(peer);
    wait_for_break(&conn).await;
    let mut next = server.accept().await;
    wait_for_generation(&conn, 2).await;
    conn.abandon();
    assert_eq!((conn.generation(), conn.last_reported(), conn.is_connected()), (2, 1, true), "the fresh link stays");
    next.write_all(b"new").await.unwrap();
    let mut buf = [0; 3];
    in_time("a read", conn.read_exact(&mut buf)).await.unwrap();
    assert_eq!(&buf, b"new");
}

#[tokio::test]
async fn abandon_breaks_a_link_once_and_does_nothing_in_an_outage_or_after_the_end() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let conn = conn.into_split();
    let mut conn = conn.0.reunite(conn.1).unwrap();
    for _ in 0..3 {
        conn.abandon();
    }
    let _next = server.accept().await;
    wait_for_generation(&conn, 2).await;
    conn.abandon();
    assert!(conn.is_connected(), "a link that was not used stays");
    assert_eq!(conn.generation(), 2);
    drop(peer);
    conn.close().await;
    conn.abandon();
    let error = conn.write(b"x").await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::ClosedConnection));

    let dials = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dials);
    let mut conn = Conn::builder(refused_address().await)
        .retry_min(Duration::from_secs(60))
        .logger(|_| {})
        .on_event(move |event| {
            if matches!(event, Event::DialFailed { .. }) {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        })
        .build()
        .unwrap();
    for _ in 0..20 {
        assert!(timeout(SOON, conn.write_all(b"request\n")).await.is_err());
        conn.abandon();
    }
    assert_eq!(dials.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn abandon_of_a_half_is_reported_by_the_other_once() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (mut read, mut write) = conn.into_split();
    peer.write_all(b"arrived").await.unwrap();
    in_time("it has arrived", read.get_ref().unwrap().readable()).await.unwrap();
    write.abandon();
    let mut next = server.accept().await;
    in_time("the writer goes on", write.write_all(b"x")).await.unwrap();
    let mut buf = [0; 16];
    assert_eq!(in_time("what had arrived", read.read(&mut buf)).await.unwrap(), 7);
    let error = in_time("the report", read.read(&mut buf)).await.unwrap_err();
    assert_eq!((error.kind(), reported_generation(&error)), (ErrorKind::ConnectionAborted, 1));
    assert_eq!(
        Error::of(&error).unwrap().with_causes().to_string().split(": ").last(),
        Some("the program broke the link")
    );
    // Now the other way round. The reader gives up only a link that it has used.
    read.abandon();
    assert!(write.is_connected());
    next.write_all(b"new").await.unwrap();
    assert_eq!(in_time("a read", read.read(&mut buf)).await.unwrap(), 3);
    read.abandon();
    let _third = server.accept().await;
    let error = in_time("the report", write.write_all(b"x")).await.unwrap_err();
    assert_eq!(reported_generation(&error), 2);
    in_time("the writer goes on", write.write_all(b"x")).await.unwrap();
    assert!(timeout(SOON, read.read(&mut buf)).await.is_err(), "the reader has nothing to report");
}

#[tokio::test]
async fn halves_owe_nothing_after_reunite_and_into_split() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (mut read, mut write) = conn.into_split();
    assert!(timeout(SOON, read.read(&mut [0; 4])).await.is_err(), "the read is dropped while it waits");
    drop(peer);
    let _next = server.accept().await;
    assert_eq!(reported_generation(&in_time("a write", write.write(b"x")).await.unwrap_err()), 1);
    let whole = read.reunite(write).unwrap();
    assert_eq!(whole.last_reported(), 1);
    let (mut read, _write): (ReadHalf, WriteHalf) = whole.into_split();
    assert!(timeout(SOON, read.read(&mut [0; 4])).await.is_err(), "there is nothing to report");

    // The same for a whole connection whose read was dropped.
    let server = Server::start().await;
    let (mut conn, peer) = server.pair().await;
    assert!(timeout(SOON, conn.read(&mut [0; 4])).await.is_err());
    drop(peer);
    let _next = server.accept().await;
    assert_eq!(reported_generation(&in_time("a write", conn.write(b"x")).await.unwrap_err()), 1);
    let (mut read, _write) = conn.into_split();
    assert!(timeout(SOON, read.read(&mut [0; 4])).await.is_err(), "there is nothing to report");
}

#[tokio::test]
async fn break_link_concerns_one_link_only_and_every_handle_reports_it_once() {
    let server = Server::start().await;
    let (conn, _peer) = server.pair().await;
    let (mut read, mut write) = conn.into_split();
    for stale in [0, 2, 3, u64::MAX] {
        write.break_link(stale);
        assert!(write.is_connected(), "there is no link {stale}");
    }
    write.break_link(1);
    assert!(!write.is_connected());
    let _next = server.accept().await;
    wait_for_generation_of(&write, 2).await;
    for _ in 0..3 {
        read.break_link(1);
        write.break_link(1);
    }
    assert_eq!((write.generation(), write.is_connected()), (2, true), "a late call leaves the next link alone");
    for error in [read.read(&mut [0; 4]).await.unwrap_err(), write.write(b"x").await.unwrap_err()] {
        assert_eq!((error.kind(), reported_generation(&error)), (ErrorKind::ConnectionAborted, 1));
    }
    in_time("the writer goes on", write.write_all(b"x")).await.unwrap();
    assert!(timeout(SOON, read.read(&mut [0; 4])).await.is_err());
}

async fn wait_for_generation_of(half: &WriteHalf, generation: u64) {
    in_time("a link", half.connected()).await.unwrap();
    assert_eq!(half.generation(), generation);
}

#[tokio::test]
async fn break_link_of_a_shared_connection_is_reported_by_each_clone() {
    let server = Server::start().await;
    let (conn, _peer) = server.pair().await;
    let conn = conn.into_shared();
    let other = conn.clone();
    conn.break_link(conn.generation());
    let _next = server.accept().await;
    for clone in [&conn, &other] {
        let error = in_time("the report", clone.read(&mut [0; 4])).await.unwrap_err();
        assert_eq!(reported_generation(&error), 1);
    }
    in_time("a write", conn.write_all(b"x")).await.unwrap();
}
