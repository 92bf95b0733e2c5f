//! The end of a session and the start of the next: `next`, `close`, `shutdown` and drops.

use std::io::ErrorKind;
use std::time::Duration;

use perconn::{Error, Sessions, WhenDown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{self, Server, in_time, refused_address};
use super::{exchange, start};

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn next_writes_nothing_on_the_link() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    // Fills the buffers: then even an empty write would wait.
    let large = vec![0; 64 << 20];
    assert!(tokio::time::timeout(Duration::from_millis(300), conn.write_all(&large)).await.is_err());
    let mut sessions = Sessions::new(conn);
    let mut session = in_time("the first session", sessions.next()).await.unwrap();
    peer.write_all(b"!").await.unwrap();
    assert_eq!(in_time("read", session.read_u8()).await.unwrap(), b'!');
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_session_ends_its_link() {
    let server = Server::start().await;
    let (mut sessions, mut session, mut peer) = start(&server).await;
    session.write_all(b"half a mes").await.unwrap();
    drop(session);
    let mut received = String::new();
    in_time("the peer sees the end", peer.read_to_string(&mut received)).await.unwrap();
    assert_eq!(received, "half a mes");
    let mut session = in_time("the next session", sessions.next()).await.unwrap();
    exchange(&mut session, &mut server.accept().await).await;
}

#[tokio::test]
async fn shutdown_ends_the_session_and_not_the_connection() {
    let server = Server::start().await;
    let (mut sessions, mut session, mut peer) = start(&server).await;
    session.write_all(b"bye").await.unwrap();
    in_time("shutdown", session.shutdown()).await.unwrap();
    let mut received = String::new();
    in_time("the peer sees the end", peer.read_to_string(&mut received)).await.unwrap();
    assert_eq!(received, "bye");
    assert_eq!(in_time("write", session.write(b"more")).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(in_time("read", session.read(&mut [0; 4])).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    let mut next = in_time("the next session", sessions.next()).await.unwrap();
    exchange(&mut next, &mut server.accept().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn next_session_ends_the_previous_one_and_wakes_its_operations() {
    let server = Server::start().await;
    let (mut sessions, mut session, peer) = start(&server).await;
    let waits = tokio::spawn(async move { (session.read(&mut [0; 4]).await, session.write(b"old").await) });
    tokio::task::yield_now().await;
    let mut next = in_time("the next session", sessions.next()).await.unwrap();
    let (read, write) = in_time("the previous session", waits).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(write.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    drop(peer);
    exchange(&mut next, &mut server.accept().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn break_of_cancelled_operations_is_not_reported_by_the_next_session() {
    let server = Server::start().await;
    let (mut sessions, mut session, peer) = start(&server).await;
    // A waiting read, and a write of which a part is written.
    let large = vec![0; 32 << 20];
    let cancelled = async {
        let mut byte = [0];
        let (mut read, mut write) = tokio::io::split(&mut session);
        tokio::join!(biased; read.read(&mut byte), write.write_all(&large)).0
    };
    assert!(tokio::time::timeout(Duration::from_millis(50), cancelled).await.is_err());
    drop(session);
    drop(peer);
    let mut next = in_time("the next session", sessions.next()).await.unwrap();
    exchange(&mut next, &mut server.accept().await).await;
}

#[tokio::test]
async fn next_waits_for_a_link_as_when_down_says() {
    for (policy, expected) in [(WhenDown::Fail, "down"), (WhenDown::WaitFor(Duration::from_millis(20)), "timeout")] {
        let address = refused_address().await;
        let conn = support::quick(perconn::Conn::builder(address)).when_down(policy).build().unwrap();
        let error = in_time("next", Sessions::new(conn).next()).await.unwrap_err();
        let what = match Error::of(&error) {
            Some(Error::Down { .. }) => "down",
            Some(Error::WaitTimeout { .. }) => "timeout",
            other => panic!("{other:?}"),
        };
        assert_eq!(what, expected);
    }
}

#[tokio::test]
async fn close_ends_the_session_and_there_is_no_next() {
    let server = Server::start().await;
    let (mut sessions, mut session, _peer) = start(&server).await;
    in_time("close", sessions.close()).await;
    let error = in_time("read", session.read(&mut [0; 4])).await.unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::ClosedConnection)), "{error:?}");
    let error = in_time("next", sessions.next()).await.unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::ClosedConnection)), "{error:?}");
}

#[tokio::test]
async fn dropped_future_of_next_loses_nothing() {
    let mut server = Server::start().await;
    let (mut sessions, mut session, peer) = start(&server).await;
    server.stop();
    drop(peer);
    assert_eq!(in_time("the end", session.read(&mut [0; 4])).await.unwrap(), 0);
    for _ in 0..10 {
        assert!(tokio::time::timeout(Duration::from_millis(5), sessions.next()).await.is_err());
    }
    server.restart().await;
    let mut session = in_time("the next session", sessions.next()).await.unwrap();
    exchange(&mut session, &mut server.accept().await).await;
}

#[tokio::test]
async fn last_handle_that_is_dropped_closes() {
    let server = Server::start().await;
    let (sessions, session, mut peer) = start(&server).await;
    drop(sessions);
    drop(session);
    assert_eq!(in_time("the peer sees the end", peer.read(&mut [0; 4])).await.unwrap(), 0);
    server.expect_no_dial(Duration::from_millis(100)).await;
}
