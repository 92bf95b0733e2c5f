//! The end: close, drop, a connection that gives up, a runtime that shuts down. Nothing hangs, and everything has a fate.

use std::time::Duration;

use perconn::outbox::{Answer, Answers, Fate, Outbox, Resend, SendError, Tally};
use perconn::{Conn, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::codec::LinesCodec;

use crate::support::{Server, in_time, look, quick, refused_address};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn close_delivers_what_waits_and_then_everything_fails() {
    let server = Server::start().await;
    let outbox = Outbox::builder(server.client()).start().unwrap();
    for _ in 0..1_000 {
        outbox.send("0123456789").await.unwrap();
    }
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        server.accept().await.read_to_end(&mut all).await.map(|_| all.len())
    });
    let other = outbox.clone();
    let (one, two) = in_time("both", async { tokio::join!(outbox.close(LIMIT), other.close(LIMIT)) }).await;
    assert_eq!((one, one.written), (two, 1_000));
    assert_eq!(in_time("the server", reader).await.unwrap().unwrap(), 10_000, "and then a clean end");
    let error = other.send("late").await.unwrap_err();
    assert_eq!(error.to_string(), "the outbox takes no more messages");
    assert!(matches!(&error, SendError::Ended { cause, .. } if matches!(**cause, Error::ClosedConnection)));
    assert!(outbox.try_send("late").unwrap_err().is_final());
    assert!(outbox.send_and_wait("late").await.is_err());
    in_time("flush", outbox.flush()).await;
    assert_eq!(in_time("close again", outbox.close(LIMIT)).await, one);
    assert!(outbox.end_cause().is_some());
}

#[tokio::test]
async fn close_is_no_break_of_the_connection() {
    let server = Server::start().await;
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let conn = server.client().on_event(move |event| drop(sender.send(event.clone())));
    let outbox = Outbox::builder(conn).start().unwrap();
    outbox.send("one").await.unwrap();
    let mut peer = server.accept().await;
    assert_eq!(in_time("close", outbox.close(LIMIT)).await.written, 1);
    let mut all = Vec::new();
    in_time("the server", peer.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"one");
    assert!(matches!(in_time("an event", events.recv()).await, Some(perconn::Event::Connected { .. })));
    let last = in_time("an event", events.recv()).await;
    assert!(matches!(last, Some(perconn::Event::Closed)), "{last:?}");
}

#[tokio::test]
async fn close_without_a_peer_ends_at_its_limit_and_says_what_is_unsent() {
    let outbox = Outbox::builder(quick(Conn::builder(refused_address().await))).capacity(2).start().unwrap();
    let mut fate = Box::pin(outbox.send_and_wait("a"));
    assert!(look(&mut fate).await.is_pending());
    outbox.send("b").await.unwrap();
    let mut waits_for_room = Box::pin(outbox.send("c"));
    assert!(look(&mut waits_for_room).await.is_pending());
    let mut flush = Box::pin(outbox.flush());
    assert!(look(&mut flush).await.is_pending());
    let close = outbox.close(Duration::from_millis(100));
    let (tally, refused) = in_time("close", async { tokio::join!(close, waits_for_room) }).await;
    assert_eq!(tally.to_string(), "2 accepted: 2 unsent");
    assert!(refused.unwrap_err().is_final());
    assert_eq!(in_time("the fate", fate).await.unwrap(), Fate::Unsent);
    in_time("flush", flush).await;
}

#[tokio::test]
async fn unanswered_messages_are_in_doubt_after_a_close() {
    let server = Server::start().await;
    let answers = Answers::new(LinesCodec::new, |_| Answer::Next);
    let outbox = Outbox::builder(server.client()).resend(Resend::Unanswered(answers)).window(2).start().unwrap();
    for line in ["1\n", "2\n", "3\n", "4\n"] {
        outbox.send(line).await.unwrap();
    }
    let mut peer = server.accept().await;
    let mut two = [0; 4];
    in_time("two lines", peer.read_exact(&mut two)).await.unwrap();
    peer.write_all(b"ok\n").await.unwrap();
    let mut third = [0; 2];
    in_time("a third line", peer.read_exact(&mut third)).await.unwrap();
    let tally = in_time("close", outbox.close(Duration::from_millis(50))).await;
    assert_eq!(tally.to_string(), "4 accepted: 1 answered, 2 in doubt, 1 unsent");
}

#[tokio::test]
async fn dropping_the_last_handle_sends_on_in_the_background() {
    let server = Server::start().await;
    let outbox = Outbox::builder(server.client()).start().unwrap();
    let clone = outbox.clone();
    outbox.send("first ").await.unwrap();
    drop(outbox);
    clone.send("second").await.unwrap();
    drop(clone);
    let mut all = String::new();
    in_time("the end", server.accept().await.read_to_string(&mut all)).await.unwrap();
    assert_eq!(all, "first second");
}

#[tokio::test]
async fn dropped_outbox_without_a_peer_dials_no_longer_than_its_close_timeout() {
    let mut server = Server::start().await;
    server.stop();
    let outbox = Outbox::builder(server.client()).close_timeout(Duration::from_millis(50)).start().unwrap();
    outbox.send("lost").await.unwrap();
    let mut status = outbox.watch_status();
    drop(outbox);
    in_time("the end", status.wait_for(|status| status.is_final())).await.unwrap();
}

#[tokio::test]
async fn connection_that_gives_up_gives_all_messages_their_fate_and_sends_its_cause() {
    let conn = quick(Conn::builder(refused_address().await)).max_retries(2);
    let outbox = Outbox::builder(conn).start().unwrap();
    assert_eq!(in_time("the fate", outbox.send_and_wait("x")).await.unwrap(), Fate::Unsent);
    let error = in_time("send", outbox.send("y")).await.unwrap_err();
    let SendError::Ended { cause, .. } = error else { panic!("{error:?}") };
    assert!(matches!(*cause, Error::GaveUp { .. }), "{cause:?}");
    assert_eq!(in_time("close", outbox.close(LIMIT)).await.to_string(), "1 accepted: 1 unsent");
}

#[test]
fn shutdown_of_the_runtime_ends_everything_at_any_moment() {
    for has_peer in [false, true] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let outbox = runtime.block_on(async {
            let server = Server::start().await;
            let address = if has_peer { server.address } else { refused_address().await };
            let outbox = Outbox::builder(quick(Conn::builder(address))).start().unwrap();
            outbox.send("x").await.unwrap();
            if has_peer {
                server.accept().await;
            }
            outbox
        });
        drop(runtime);
        assert_ended_with_the_runtime(&outbox);
    }
}

#[test]
fn shutdown_of_the_runtime_before_the_first_poll_ends_everything_too() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outbox = {
        let _context = runtime.enter();
        Outbox::builder(quick(Conn::builder("127.0.0.1:1"))).start().unwrap()
    };
    outbox.try_send("x").unwrap();
    drop(runtime);
    assert_ended_with_the_runtime(&outbox);
}

/// Of an outbox with one message.
fn assert_ended_with_the_runtime(outbox: &Outbox) {
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(async {
        in_time("flush", outbox.flush()).await;
        let error = in_time("send", outbox.send("y")).await.unwrap_err();
        assert!(matches!(&error, SendError::Ended { cause, .. } if matches!(**cause, Error::RuntimeShutdown)));
        let tally: Tally = in_time("close", outbox.close(LIMIT)).await;
        assert_eq!((tally.accepted, tally.waiting), (1, 0), "{tally}");
    });
}
