//! A session lives and dies with one link, and the connection outlives it.

mod support;

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use perconn::{Error, Session, Sessions, Status, WhenDown};
use support::{Server, in_time, pipes, refused_address, reported_generation, reset};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// The sessions of a connection whose first link is up, and the first session.
async fn lend(server: &Server) -> (Sessions, Session, TcpStream) {
    let (conn, peer) = server.pair().await;
    let mut sessions = Sessions::new(conn);
    let session = in_time("the first session", sessions.next()).await.unwrap();
    (sessions, session, peer)
}

async fn exchange(session: &mut Session, peer: &mut TcpStream) {
    let mut byte = [0];
    in_time("write", session.write_all(b"?")).await.unwrap();
    in_time("the peer's read", peer.read_exact(&mut byte)).await.unwrap();
    in_time("the peer's write", peer.write_all(b"!")).await.unwrap();
    in_time("read", session.read_exact(&mut byte)).await.unwrap();
    assert_eq!(&byte, b"!");
}

#[tokio::test]
async fn link_that_is_up_serves_the_first_session_and_a_fresh_one_the_next() {
    let server = Server::start().await;
    let (mut sessions, mut session, mut peer) = lend(&server).await;
    exchange(&mut session, &mut peer).await;
    assert_eq!(session.generation(), 1);
    drop(peer);
    assert_eq!(in_time("the end", session.read(&mut [0; 4])).await.unwrap(), 0);
    let mut session = in_time("the next session", sessions.next()).await.unwrap();
    exchange(&mut session, &mut server.accept().await).await;
    assert_eq!(session.generation(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_that_was_told_touches_no_other_link() {
    let server = Server::start().await;
    let (mut sessions, mut session, peer) = lend(&server).await;
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
    let (_sessions, mut session, mut peer) = lend(&server).await;
    peer.write_all(b"last words").await.unwrap();
    drop(peer);
    let mut words = String::new();
    in_time("read", session.read_to_string(&mut words)).await.unwrap();
    assert_eq!(words, "last words");
    let _peer = server.accept().await;
    for _ in 0..3 {
        assert_eq!(in_time("read", session.read(&mut [0; 4])).await.unwrap(), 0);
        assert_eq!(in_time("write", session.write(b"old")).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}

#[tokio::test]
async fn what_had_arrived_is_read_though_a_write_was_told_first() {
    for is_reset in [false, true] {
        let server = Server::start().await;
        let (mut sessions, mut session, mut peer) = lend(&server).await;
        exchange(&mut session, &mut peer).await;
        peer.write_all(b"go away").await.unwrap();
        if is_reset {
            reset(peer);
        } else {
            drop(peer);
        }
        let mut peer = server.accept().await; // so it was noticed
        let told = in_time("write", session.write(b"old")).await.unwrap_err();
        assert_eq!(reported_generation(&told), 1);
        for _ in 0..3 {
            assert_eq!(in_time("write", session.write(b"old")).await.unwrap_err().kind(), told.kind());
            assert!(in_time("shutdown", session.shutdown()).await.is_ok());
        }
        let mut words = Vec::new();
        let outcome = in_time("read", session.read_to_end(&mut words)).await;
        assert_eq!(words, b"go away");
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
async fn what_had_arrived_is_read_though_the_next_links_have_come_and_gone() {
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
        let mut words = String::new();
        in_time("read", session.read_to_string(&mut words)).await.unwrap();
        assert_eq!(words, "go away");
    }
}

#[tokio::test]
async fn next_says_nothing_on_the_link() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    // Until no more goes in: then even an empty write would wait.
    let much = vec![0; 64 << 20];
    assert!(tokio::time::timeout(Duration::from_millis(300), conn.write_all(&much)).await.is_err());
    let mut sessions = Sessions::new(conn);
    let mut session = in_time("the first session", sessions.next()).await.unwrap();
    peer.write_all(b"!").await.unwrap();
    assert_eq!(in_time("read", session.read_u8()).await.unwrap(), b'!');
}

#[tokio::test]
async fn shutdown_shuts_a_stream_that_is_no_socket_down() {
    let (conn, mut peers) = pipes().await;
    let mut sessions = Sessions::new(conn);
    for is_read in [true, false, false] {
        let mut session = in_time("the next session", sessions.next()).await.unwrap();
        let mut peer = in_time("the peer", peers.recv()).await.unwrap();
        if is_read {
            peer.write_all(b"!").await.unwrap();
            assert_eq!(in_time("read", session.read_u8()).await.unwrap(), b'!');
        }
        session.write_all(b"bye").await.unwrap();
        in_time("shutdown", session.shutdown()).await.unwrap();
        let mut received = String::new();
        in_time("the peer sees the end", peer.read_to_string(&mut received)).await.unwrap();
        assert_eq!(received, "bye");
        assert_eq!(in_time("write", session.write(b"more")).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}

#[tokio::test]
async fn close_lets_go_of_a_stream_that_is_no_socket() {
    let (conn, mut peers) = pipes().await;
    let mut sessions = Sessions::new(conn);
    let _session = in_time("the first session", sessions.next()).await.unwrap();
    let mut peer = in_time("the peer", peers.recv()).await.unwrap();
    in_time("close", sessions.close()).await;
    assert_eq!(in_time("the peer sees the end", peer.read(&mut [0; 4])).await.unwrap(), 0);
}

#[tokio::test]
async fn close_closes_from_its_first_poll_on_and_keeps_nothing_alive_before() {
    let (conn, mut peers) = pipes().await;
    let mut sessions = Sessions::new(conn);
    let session = in_time("the first session", sessions.next()).await.unwrap();
    let mut peer = in_time("the peer", peers.recv()).await.unwrap();
    let _ = futures_util::FutureExt::now_or_never(sessions.close());
    assert_eq!(in_time("the peer sees the end", peer.read(&mut [0; 4])).await.unwrap(), 0);
    drop(session);

    let (conn, mut peers) = pipes().await;
    let sessions = Sessions::new(conn);
    let mut peer = in_time("the peer", peers.recv()).await.unwrap();
    let close = sessions.close();
    drop(sessions);
    assert_eq!(in_time("the peer sees the end", peer.read(&mut [0; 4])).await.unwrap(), 0);
    in_time("close", close).await;
}

#[tokio::test]
async fn read_of_the_session_before_that_waits_for_last_words_is_woken_by_the_next() {
    let (sender, mut peers) = mpsc::unbounded_channel();
    let dialer = perconn::dial_fn(move || {
        let (near, far) = tokio::io::duplex(64);
        sender.send(far).unwrap();
        std::future::ready(Ok(Unwritable(near)))
    });
    let builder = support::quick(perconn::Conn::builder("memory").dialer(dialer));
    let mut sessions = Sessions::new(in_time("connect", builder.connect()).await.unwrap());
    let mut readers = Vec::new();
    for _ in 0..2 {
        let mut session = in_time("the next session", sessions.next()).await.unwrap();
        let _peer = in_time("the peer", peers.recv()).await.unwrap();
        assert!(in_time("write", session.write(b"?")).await.is_err());
        readers.push((_peer, tokio::spawn(async move { session.read(&mut [0; 4]).await })));
        tokio::task::yield_now().await;
    }
    let _next = in_time("the next session", sessions.next()).await.unwrap();
    for (_peer, reader) in readers {
        in_time("the read", reader).await.unwrap().unwrap_err();
    }
}

/// The kernel's number for a broken pipe, on Unix.
const EPIPE: i32 = 32;

/// Its writes fail with an error of the kernel's; its reads wait.
struct Unwritable(DuplexStream);

impl AsyncRead for Unwritable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Unwritable {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::Error::from_raw_os_error(EPIPE)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn what_a_session_left_unread_is_not_read_by_the_next() {
    let server = Server::start().await;
    let (mut sessions, mut session, mut peer) = lend(&server).await;
    for generation in 1..=4 {
        assert_eq!(session.generation(), generation);
        exchange(&mut session, &mut peer).await;
        peer.write_all(b"unread").await.unwrap();
        match generation {
            1 => drop(peer),
            2 => reset(peer),
            // The session is dropped first.
            3 => drop(session),
            _ => {
                assert!(in_time("the words", session.read(&mut [0])).await.is_ok());
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
        let (_sessions, mut session, peer) = lend(&server).await;
        in_time("write", session.write_all(b"a word")).await.unwrap();
        if is_flushed {
            in_time("flush", session.flush()).await.unwrap();
        }
        reset(peer);
        in_time("read", session.read(&mut [0; 4])).await.unwrap_err();
        assert_eq!(in_time("flush", session.flush()).await.is_ok(), is_flushed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn break_between_two_sessions_is_told_to_neither() {
    let server = Server::start().await;
    let (mut sessions, session, peer) = lend(&server).await;
    drop(session);
    reset(peer);
    let mut session = in_time("the next session", sessions.next()).await.unwrap();
    exchange(&mut session, &mut server.accept().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_session_takes_its_link_along() {
    let server = Server::start().await;
    let (mut sessions, mut session, mut peer) = lend(&server).await;
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
    let (mut sessions, mut session, mut peer) = lend(&server).await;
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
async fn next_session_ends_the_one_before_it_and_wakes_who_waits_on_it() {
    let server = Server::start().await;
    let (mut sessions, mut session, peer) = lend(&server).await;
    let waits = tokio::spawn(async move { (session.read(&mut [0; 4]).await, session.write(b"old").await) });
    tokio::task::yield_now().await;
    let mut next = in_time("the next session", sessions.next()).await.unwrap();
    let (read, write) = in_time("the session before", waits).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(write.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    drop(peer);
    exchange(&mut next, &mut server.accept().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_operations_of_a_session_are_not_told_to_the_next() {
    let server = Server::start().await;
    let (mut sessions, mut session, peer) = lend(&server).await;
    // A read that waits, and a write of which a part is written.
    let much = vec![0; 32 << 20];
    let cancelled = async {
        let mut byte = [0];
        let (mut read, mut write) = tokio::io::split(&mut session);
        tokio::join!(biased; read.read(&mut byte), write.write_all(&much)).0
    };
    assert!(tokio::time::timeout(Duration::from_millis(50), cancelled).await.is_err());
    drop(session);
    drop(peer);
    let mut next = in_time("the next session", sessions.next()).await.unwrap();
    exchange(&mut next, &mut server.accept().await).await;
}

#[tokio::test]
async fn outage_is_waited_for_as_when_down_says() {
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
    let (mut sessions, mut session, _peer) = lend(&server).await;
    in_time("close", sessions.close()).await;
    let error = in_time("read", session.read(&mut [0; 4])).await.unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::ClosedConnection)), "{error:?}");
    let error = in_time("next", sessions.next()).await.unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::ClosedConnection)), "{error:?}");
}

#[tokio::test]
async fn next_that_was_dropped_loses_nothing() {
    let mut server = Server::start().await;
    let (mut sessions, mut session, peer) = lend(&server).await;
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
async fn streams_that_are_no_sockets_are_lent_as_well() {
    let (conn, mut peers) = pipes().await;
    let mut sessions = Sessions::new(conn);
    for generation in 1..=5 {
        let mut session = in_time("the next session", sessions.next()).await.unwrap();
        let mut peer = in_time("the peer", peers.recv()).await.unwrap();
        assert_eq!(session.generation(), generation);
        session.write_all(b"?").await.unwrap();
        assert_eq!(in_time("the peer's read", peer.read_u8()).await.unwrap(), b'?');
        drop(peer);
        assert_eq!(in_time("the end", session.read(&mut [0; 4])).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn session_that_is_dropped_drops_a_stream_that_is_no_socket() {
    let (conn, mut peers) = pipes().await;
    let mut sessions = Sessions::new(conn);
    for _ in 0..3 {
        let session = in_time("the next session", sessions.next()).await.unwrap();
        let mut peer = in_time("the peer", peers.recv()).await.unwrap();
        drop(session);
        assert_eq!(in_time("the peer sees the end", peer.read(&mut [0; 4])).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn what_had_arrived_is_read_from_streams_that_are_no_sockets_as_well() {
    let (conn, mut peers) = pipes().await;
    let mut sessions = Sessions::new(conn);
    for is_read in [true, false, true] {
        let mut session = in_time("the next session", sessions.next()).await.unwrap();
        let mut peer = in_time("the peer", peers.recv()).await.unwrap();
        peer.write_all(b"go away").await.unwrap();
        drop(peer);
        let error = in_time("write", session.write(b"?")).await.unwrap_err();
        assert_eq!(reported_generation(&error), session.generation());
        if is_read {
            let mut words = Vec::new();
            // (A stream that is no socket may tell its end as an end, or not.)
            let _ = in_time("read", session.read_to_end(&mut words)).await;
            assert_eq!(words, b"go away");
        }
    }
}

#[tokio::test]
async fn last_handle_that_is_dropped_closes() {
    let server = Server::start().await;
    let (sessions, session, mut peer) = lend(&server).await;
    drop(sessions);
    drop(session);
    assert_eq!(in_time("the peer sees the end", peer.read(&mut [0; 4])).await.unwrap(), 0);
    server.expect_no_dial(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn break_that_was_noticed_while_nobody_looked_is_told_to_the_session() {
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
async fn loop_over_an_ended_session_leaves_time_to_others() {
    let server = Server::start().await;
    let (_sessions, mut session, peer) = lend(&server).await;
    drop(peer);
    let looping = tokio::spawn(async move {
        loop {
            let _ = session.read(&mut [0; 4]).await;
            let _ = session.write(b"x").await;
            let _ = session.flush().await;
        }
    });
    // On the only thread there is.
    tokio::time::sleep(Duration::from_millis(5)).await;
    looping.abort();
    assert!(looping.await.unwrap_err().is_cancelled());
}
