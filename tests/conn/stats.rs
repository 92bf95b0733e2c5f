//! The figures and the name of a connection.

use std::time::Duration;

use perconn::{Conn, Error, dial_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::mpsc;

use crate::support::{Server, in_time, pipes, quick, reset, wait_for_break, wait_for_generation};

#[tokio::test]
async fn figures_tell_the_story_of_a_connection() {
    let mut server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    let stats = conn.stats();
    assert_eq!((stats.generation, stats.dials, stats.failed_dials, stats.breaks.total()), (1, 1, 0, 0));
    assert!(stats.last_error.is_none());

    // Ten bytes there and four back, and a reset while nobody listens.
    conn.write_all(b"0123456789").await.unwrap();
    peer.read_exact(&mut [0; 10]).await.unwrap();
    peer.write_all(b"back").await.unwrap();
    conn.read_exact(&mut [0; 4]).await.unwrap();
    server.stop();
    reset(peer);
    wait_for_break(&conn).await;
    in_time("a failed dial", async {
        while conn.stats().failed_dials == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let stats = conn.stats();
    assert_eq!((stats.generation, stats.breaks.reset, stats.breaks.total()), (1, 1, 1));
    assert!(stats.dials > stats.failed_dials, "{stats:?}");
    let last = stats.last_error.unwrap();
    assert!(matches!(*last, Error::DialFailure { .. }), "{last:?}");

    // The next link, which the program breaks.
    server.restart().await;
    let mut peer = server.accept().await;
    conn.read(&mut [0]).await.unwrap_err();
    wait_for_generation(&conn, 2).await;
    conn.write_all(b"abc").await.unwrap();
    peer.read_exact(&mut [0; 3]).await.unwrap();
    assert_eq!((conn.stats().bytes_read, conn.stats().bytes_written), (4, 13));
    conn.break_link(2);
    assert_eq!(conn.stats().breaks.requested, 1);
    conn.read(&mut [0]).await.unwrap_err();

    // The third one, which the peer closes.
    drop(server.accept().await);
    wait_for_generation(&conn, 3).await;
    assert_eq!(conn.read(&mut [0]).await.unwrap(), 0);
    let stats = conn.stats();
    assert_eq!((stats.breaks.reset, stats.breaks.requested, stats.breaks.closed, stats.breaks.total()), (1, 1, 1, 3));
    assert_eq!((stats.bytes_read, stats.bytes_written), (4, 13), "of all links");
    assert_eq!(stats.generation, 3);
}

#[tokio::test(start_paused = true)]
async fn times_up_and_down_add_up_to_the_life_of_the_connection() {
    const S: Duration = Duration::from_secs(1);
    let (links, mut next) = mpsc::unbounded_channel();
    let dialer = dial_fn(move || {
        let (ours, theirs) = duplex(64);
        links.send(theirs).unwrap();
        async {
            tokio::time::sleep(3 * S).await;
            Ok(ours)
        }
    });
    let builder = Conn::builder("timed").dialer(dialer).exact_backoff(|| std::iter::repeat(5 * S));
    let mut conn = builder.close_as_error(true).logger(|_| {}).build().unwrap();
    conn.connected().await.unwrap();
    tokio::time::sleep(20 * S).await;
    assert_eq!((conn.stats().time_up, conn.stats().time_down), (20 * S, 3 * S));
    drop(next.recv().await);
    conn.read(&mut [0]).await.unwrap_err();
    tokio::time::sleep(6 * S).await;
    assert_eq!((conn.stats().time_up, conn.stats().time_down), (20 * S, 9 * S));
    conn.connected().await.unwrap();
    tokio::time::sleep(S).await;
    let shared = conn.into_shared();
    assert_eq!((shared.stats().time_up, shared.stats().time_down), (21 * S, 11 * S));
    shared.close(S).await;
    tokio::time::sleep(100 * S).await;
    let stats = shared.stats();
    assert_eq!((stats.time_up, stats.time_down), (21 * S, 11 * S), "nothing counts after the end");
    assert_eq!((stats.generation, stats.dials, stats.breaks.total()), (2, 2, 1), "a close is no break");
}

#[tokio::test]
async fn timeouts_and_broken_pipes_are_counted_apart() {
    let server = Server::start().await;
    let (conn, _silent) =
        tokio::join!(server.client().idle_timeout(Duration::from_millis(20)).connect(), server.accept());
    let mut conn = conn.unwrap();
    in_time("the timeout", conn.read(&mut [0])).await.unwrap_err();
    assert_eq!(conn.stats().breaks.timed_out, 1);

    let (mut conn, mut links) = pipes().await;
    drop(links.recv().await);
    conn.write_all(b"x").await.unwrap_err();
    assert_eq!(conn.stats().breaks.reset, 1, "a broken pipe");
}

#[tokio::test]
async fn name_is_in_errors_and_debug_and_must_not_be_empty() {
    let server = Server::start().await;
    let builder = server.client().name("billing-db");
    let label = format!("billing-db ({})", server.address);
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let mut conn = conn.unwrap();
    assert!(format!("{conn:?}").contains(&label), "{conn:?}");
    reset(peer);
    let error = in_time("the break", conn.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.to_string(), format!("read on link 1 to {label} failed"));

    let error = quick(Conn::builder("127.0.0.1:1")).name("").build().unwrap_err();
    assert_eq!(error.to_string(), "invalid configuration: name \"\": expected at least one character");
}
