//! A session and its link: the break, what arrived before it, and what comes after it.

use std::io::ErrorKind;
use std::time::Duration;

use perconn::{Sessions, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Server, in_time, reported_generation, reset};
use super::{exchange, start};

#[tokio::test]
async fn link_that_is_up_serves_the_first_session_and_a_fresh_one_the_next() {
    let server = Server::start().await;
    let (mut sessions, mut session, mut peer) = start(&server).await;
    exchange(&mut session, &mut peer).await;
    assert_eq!(session.generation(), 1);
    drop(peer);
    assert_eq!(in_time("the end", session.read(&mut [0; 4])).await.unwrap(), 0);
    let mut session = in_time("the next session", sessions.next()).await.unwrap();
    exchange(&mut session, &mut server.accept().await).await;
    assert_eq!(session.generation(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_that_reported_its_break_touches_no_other_link() {
    let server = Server::start().await;
    let (mut sessions, mut session, peer) = start(&server).await;
    reset(peer);
    let error = in_time("read", session.read(&mut [0; 4])).await.unwrap_err();
    assert_eq!((error.kind(), reported_generation(&error)), (ErrorKind::ConnectionReset, 1));
    let mut peer = server.accept().await;
    for _ in 0..3 {
        assert_eq!(in_time("write", session.write(b"old")).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(in_time("read", session.read(&mut [0; 4])).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(in_time("shutdown", session.shutdown()).await.is_ok());
    }
    let mut next = in_time("the next session", sessions.next()).await.unwrap();
    exchange(&mut next, &mut peer).await;
    drop(session);
    exchange(&mut next, &mut peer).await;
    assert_eq!(next.generation(), 2);
}

#[tokio::test]
async fn end_of_the_stream_stays_the_end_and_writes_fail() {
    let server = Server::start().await;
    let (_sessions, mut session, mut peer) = start(&server).await;
    peer.write_all(b"last bytes").await.unwrap();
    drop(peer);
    let mut bytes = String::new();
    in_time("read", session.read_to_string(&mut bytes)).await.unwrap();
    assert_eq!(bytes, "last bytes");
    let _peer = server.accept().await;
    for _ in 0..3 {
        assert_eq!(in_time("read", session.read(&mut [0; 4])).await.unwrap(), 0);
        assert_eq!(in_time("write", session.write(b"old")).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}

#[tokio::test]
async fn close_as_error_changes_nothing_for_a_session() {
    let server = Server::start().await;
    let (conn, mut peer) = tokio::join!(server.client().close_as_error(true).connect(), server.accept());
    let mut sessions = Sessions::new(conn.unwrap());
    for _ in 0..2 {
        let mut session = in_time("the session", sessions.next()).await.unwrap();
        peer.write_all(b"last bytes").await.unwrap();
        drop(peer);
        let mut bytes = String::new();
        in_time("read", session.read_to_string(&mut bytes)).await.unwrap();
        assert_eq!(bytes, "last bytes");
        assert_eq!(in_time("read", session.read(&mut [0; 4])).await.unwrap(), 0);
        peer = server.accept().await;
    }
}

#[tokio::test]
async fn what_had_arrived_is_read_after_a_write_reported_the_break() {
    for is_reset in [false, true] {
        let server = Server::start().await;
        let (mut sessions, mut session, mut peer) = start(&server).await;
        exchange(&mut session, &mut peer).await;
        peer.write_all(b"go away").await.unwrap();
        if is_reset {
            reset(peer);
        } else {
            drop(peer);
        }
        let mut peer = server.accept().await; // So the break was noticed.
        let error = in_time("write", session.write(b"old")).await.unwrap_err();
        assert_eq!(reported_generation(&error), 1);
        for _ in 0..3 {
            assert_eq!(in_time("write", session.write(b"old")).await.unwrap_err().kind(), error.kind());
            assert!(in_time("shutdown", session.shutdown()).await.is_ok());
        }
        let mut bytes = Vec::new();
        let outcome = in_time("read", session.read_to_end(&mut bytes)).await;
        assert_eq!(bytes, b"go away");
        match is_reset {
            true => assert_eq!(reported_generation(&outcome.unwrap_err()), 1),
            false => drop(outcome.unwrap()),
        }
        assert!(in_time("write", session.write(b"old")).await.is_err());
        let mut next = in_time("the next session", sessions.next()).await.unwrap();
        exchange(&mut next, &mut peer).await;
    }
}

#[tokio::test]
async fn what_had_arrived_is_read_after_the_next_links_have_come_and_gone() {
    for first in [1, 2] {
        let server = Server::start().await;
        let (conn, mut peer) = server.pair().await;
        let mut status = conn.watch_status();
        let mut sessions = Sessions::new(conn);
        let mut session = in_time("the first session", sessions.next()).await.unwrap();
        if first == 2 {
            drop(session);
            session = in_time("the next session", sessions.next()).await.unwrap();
            peer = server.accept().await;
        }
        peer.write_all(b"go away").await.unwrap();
        drop(peer);
        for generation in [first + 1, first + 2] {
            let mut peer = server.accept().await;
            let is_up =
                |status: &Status| matches!(status, Status::Connected { generation: up, .. } if *up == generation);
            in_time("the next link", status.wait_for(is_up)).await.unwrap();
            peer.write_all(b"go away, too").await.unwrap();
        }
        let mut bytes = String::new();
        in_time("read", session.read_to_string(&mut bytes)).await.unwrap();
        assert_eq!(bytes, "go away");
    }
}

#[tokio::test]
async fn what_a_session_left_unread_is_not_read_by_the_next() {
    let server = Server::start().await;
    let (mut sessions, mut session, mut peer) = start(&server).await;
    for generation in 1..=4 {
        assert_eq!(session.generation(), generation);
        exchange(&mut session, &mut peer).await;
        peer.write_all(b"unread").await.unwrap();
        match generation {
            1 => drop(peer),
            2 => reset(peer),
            // The session is dropped before the link ends.
            3 => drop(session),
            _ => {
                assert!(in_time("the unread bytes", session.read(&mut [0])).await.is_ok());
                reset(peer);
            }
        }
        session = in_time("the next session", sessions.next()).await.unwrap();
        peer = server.accept().await;
    }
    exchange(&mut session, &mut peer).await;
}

#[tokio::test]
async fn flush_after_the_end_fails_only_if_there_is_something_to_flush() {
    let server = Server::start().await;
    for is_flushed in [false, true] {
        let (_sessions, mut session, peer) = start(&server).await;
        in_time("write", session.write_all(b"unflushed")).await.unwrap();
        if is_flushed {
            in_time("flush", session.flush()).await.unwrap();
        }
        reset(peer);
        in_time("read", session.read(&mut [0; 4])).await.unwrap_err();
        assert_eq!(in_time("flush", session.flush()).await.is_ok(), is_flushed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn break_between_two_sessions_is_reported_by_neither() {
    let server = Server::start().await;
    let (mut sessions, session, peer) = start(&server).await;
    drop(session);
    reset(peer);
    let mut session = in_time("the next session", sessions.next()).await.unwrap();
    exchange(&mut session, &mut server.accept().await).await;
}

#[tokio::test]
async fn break_noticed_between_two_operations_is_reported_by_the_session() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let mut status = conn.watch_status();
    let mut sessions = Sessions::new(conn);
    let mut session = in_time("the first session", sessions.next()).await.unwrap();
    reset(peer);
    in_time("the next link", status.wait_for(|status| matches!(status, Status::Connected { generation: 2, .. })))
        .await
        .unwrap();
    let error = in_time("write", session.write(b"old")).await.unwrap_err();
    assert_eq!(reported_generation(&error), 1);
}

#[tokio::test]
async fn loop_over_an_ended_session_yields_to_other_tasks() {
    let server = Server::start().await;
    let (_sessions, mut session, peer) = start(&server).await;
    drop(peer);
    let looping = tokio::spawn(async move {
        loop {
            let _ = session.read(&mut [0; 4]).await;
            let _ = session.write(b"x").await;
            let _ = session.flush().await;
        }
    });
    // Runs on the same thread as the loop.
    tokio::time::sleep(Duration::from_millis(5)).await;
    looping.abort();
    assert!(looping.await.unwrap_err().is_cancelled());
}
