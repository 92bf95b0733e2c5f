//! The queue: room, drops, expiry, pace, and who is next.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use perconn::outbox::{Answer, Answers, Event, Fate, Outbox, Resend, TrySendError, WhenFull};
use perconn::testing::{ScriptedDialer, ScriptedStream};
use perconn::{Builder, Conn, SocketOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};
use tokio_util::codec::LinesCodec;

use crate::support::{Server, in_time, look, quick, refused_address};

const LIMIT: Duration = Duration::from_secs(5);

/// A connection without a peer.
async fn down() -> Builder {
    quick(Conn::builder(refused_address().await))
}

#[tokio::test]
async fn full_outbox_makes_senders_wait_in_order_and_a_sender_that_leaves_gives_its_place_on() {
    let server = Server::start().await;
    let outbox = Outbox::builder(server.client()).capacity_bytes(4).max_message(4).start().unwrap();
    // Nothing is taken before the first await.
    assert_eq!(outbox.try_send("1234").unwrap(), 1);
    assert!(matches!(outbox.try_send("5").unwrap_err(), TrySendError::Full));
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut senders = tokio::task::JoinSet::new();
    for name in ["aaaa", "b", "cccc"] {
        let (outbox, order) = (outbox.clone(), Arc::clone(&order));
        senders.spawn(async move {
            let number = outbox.send(name).await.unwrap();
            order.lock().unwrap().push((number, name));
        });
    }
    let mut leaving = Box::pin(outbox.send("leaves"));
    assert!(matches!(look(&mut leaving).await, std::task::Poll::Ready(Err(_))), "it is too long");
    let mut peer = server.accept().await;
    let mut all = [0; 13];
    in_time("all arrive", peer.read_exact(&mut all)).await.unwrap();
    assert_eq!(&all, b"1234aaaabcccc");
    while let Some(sent) = in_time("the senders", senders.join_next()).await {
        sent.unwrap();
    }
    let mut order = order.lock().unwrap().clone();
    order.sort_unstable();
    assert_eq!(order, [(2, "aaaa"), (3, "b"), (4, "cccc")]);
}

#[tokio::test]
async fn sender_that_is_dropped_while_it_waits_has_sent_nothing() {
    let outbox = Outbox::builder(down().await).capacity(1).start().unwrap();
    outbox.send("first").await.unwrap();
    let mut waits: Vec<_> = ["a", "b", "c"].map(|name| Box::pin(outbox.send(name))).into();
    for wait in &mut waits {
        assert!(look(&mut *wait).await.is_pending());
    }
    drop(waits);
    assert!(matches!(outbox.try_send("later"), Err(TrySendError::Full)));
    let tally = in_time("close", outbox.close(Duration::ZERO)).await;
    assert_eq!(tally.to_string(), "1 accepted: 1 unsent");
}

#[tokio::test]
async fn oldest_or_newest_is_dropped_and_counted() {
    for (policy, kept) in [(WhenFull::DropOldest, "789"), (WhenFull::DropNewest, "123")] {
        let server = Server::start().await;
        let events = Arc::new(Mutex::new(Vec::new()));
        let hook = Arc::clone(&events);
        let outbox = Outbox::builder(server.client())
            .capacity(3)
            .when_full(policy)
            .on_event(move |event| hook.lock().unwrap().push(event.clone()))
            .start()
            .unwrap();
        let fate = outbox.send_and_wait("1");
        let mut fate = Box::pin(fate);
        assert!(look(&mut fate).await.is_pending());
        for number in 2..=9 {
            assert_eq!(outbox.try_send(number.to_string()).unwrap(), number);
        }
        let expected = if policy == WhenFull::DropOldest { Fate::Dropped } else { Fate::Written };
        let mut peer = server.accept().await;
        let mut all = [0; 3];
        in_time("three arrive", peer.read_exact(&mut all)).await.unwrap();
        assert_eq!(all, kept.as_bytes());
        assert_eq!(in_time("the fate", fate).await.unwrap(), expected);
        let tally = in_time("close", outbox.close(LIMIT)).await;
        assert_eq!(tally.to_string(), "9 accepted: 3 written, 6 dropped");
        let dropped: u64 = events.lock().unwrap().iter().map(lost).sum();
        assert_eq!(dropped, 6);
    }
}

fn lost(event: &Event) -> u64 {
    match event {
        Event::Lost { dropped, expired, in_doubt, .. } => dropped + expired + in_doubt,
        _ => 0,
    }
}

#[tokio::test(start_paused = true)]
async fn messages_expire_during_an_outage_without_any_call() {
    let dialer = ScriptedDialer::new();
    let outbox =
        Outbox::builder(Conn::builder("nobody").dialer(dialer)).expire_after(Duration::from_secs(10)).start().unwrap();
    let began = Instant::now();
    let mut old = Box::pin(outbox.send_and_wait("old"));
    assert!(look(&mut old).await.is_pending());
    sleep(Duration::from_secs(6)).await;
    outbox.send("young").await.unwrap();
    assert_eq!(in_time("the fate", old).await.unwrap(), Fate::Expired);
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(10) && waited < Duration::from_millis(10_100), "{waited:?}");
    assert_eq!(outbox.tally().to_string(), "2 accepted: 1 expired, 1 waiting");
    in_time("flush", outbox.flush()).await;
    assert_eq!(outbox.tally().to_string(), "2 accepted: 2 expired");
}

#[tokio::test(start_paused = true)]
async fn backlog_goes_out_at_its_rate_and_live_messages_on_top() {
    let dialer = ScriptedDialer::new()
        .waits(Duration::from_secs(5))
        .connects(ScriptedStream::new().expects_anything())
        .waits(Duration::from_secs(1));
    let outbox = Outbox::builder(Conn::builder("returning").dialer(dialer)).catch_up_rate(100).start().unwrap();
    for _ in 0..1_000 {
        outbox.send("x").await.unwrap();
    }
    let mut status = outbox.watch_status();
    in_time("the link", status.wait_for(|status| status.is_connected())).await.unwrap();
    let began = Instant::now();
    while outbox.tally().waiting > 500 {
        sleep(Duration::from_millis(10)).await;
    }
    let half = began.elapsed();
    assert!(half > Duration::from_millis(4_800) && half < Duration::from_millis(5_200), "{half:?}");
    // As many as the backlog, at once: it takes the rate's time all the same, as they go out on top.
    for _ in 0..500 {
        outbox.send("y").await.unwrap();
    }
    in_time("flush", outbox.flush()).await;
    let all = began.elapsed();
    assert!(all > Duration::from_millis(9_500) && all < Duration::from_millis(10_500), "{all:?}");
    // It has caught up: nothing is limited.
    let began = Instant::now();
    for _ in 0..1_000 {
        outbox.send("z").await.unwrap();
    }
    in_time("flush", outbox.flush()).await;
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_the_peer_sends_unasked_is_read_and_dropped_and_its_close_is_noticed() {
    let server = Server::start().await;
    let outbox = Outbox::builder(server.client()).start().unwrap();
    let mut peer = server.accept().await;
    peer.write_all(&vec![0; 1_000_000]).await.unwrap();
    drop(peer);
    // The outbox had nothing to write, and dials again.
    let mut peer = server.accept().await;
    assert_eq!(in_time("the fate", outbox.send_and_wait("x")).await.unwrap(), Fate::Written);
    assert_eq!(peer.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn numbers_begin_where_the_program_says() {
    let outbox = Outbox::builder(down().await).first_number(1_000).start().unwrap();
    assert_eq!(outbox.send("x").await.unwrap(), 1_000);
    assert_eq!(outbox.try_send("y").unwrap(), 1_001);
}

#[tokio::test]
async fn large_and_small_messages_share_batches_in_order_over_any_stream() {
    use perconn::dial_fn;
    use tokio::sync::mpsc;

    let (sender, mut peers) = mpsc::unbounded_channel();
    let dialer = dial_fn(move || {
        let (near, far) = tokio::io::duplex(1_000);
        sender.send(far).unwrap();
        std::future::ready(Ok(near))
    });
    let outbox = Outbox::builder(quick(Conn::builder("pipe").dialer(dialer))).start().unwrap();
    let mut expected = Vec::new();
    for number in 0..200_usize {
        let message = vec![number as u8; if number % 50 == 0 { 200_000 } else { 1 + number * 7 }];
        expected.extend_from_slice(&message);
        outbox.send(message).await.unwrap();
    }
    let mut peer = in_time("the link", peers.recv()).await.unwrap();
    let mut all = vec![0; expected.len()];
    in_time("all arrive", peer.read_exact(&mut all)).await.unwrap();
    assert!(all == expected);
    assert_eq!(in_time("close", outbox.close(LIMIT)).await.to_string(), "200 accepted: 200 written");
}

#[tokio::test]
async fn sockets_send_a_small_batch_at_once_unless_the_builder_says_otherwise() {
    use tokio::sync::mpsc;

    for (set, expected) in [(None, true), (Some(false), false)] {
        let server = Server::start().await;
        let (sender, mut links) = mpsc::unbounded_channel();
        let mut conn = server.client();
        if let Some(nodelay) = set {
            conn = conn.nodelay(nodelay);
        }
        let conn = conn.and_then(move |stream: tokio::net::TcpStream| {
            sender.send(stream.nodelay().unwrap()).unwrap();
            std::future::ready(Ok(stream))
        });
        let _outbox = Outbox::builder(conn).start().unwrap();
        assert_eq!(in_time("a link", links.recv()).await, Some(expected));
    }
}

#[cfg(all(target_os = "linux", not(perconn_portable)))]
#[tokio::test]
async fn kernel_takes_little_that_it_cannot_send_unless_answers_or_the_builder_say_otherwise() {
    use tokio::sync::mpsc;

    let answers = || Resend::Unanswered(Answers::new(LinesCodec::new, |_ok| Answer::Next));
    let none = SocketOptions::new();
    for (set, resend, expected) in [
        (none, Resend::Never, 64 * 1024),
        (none, Resend::Interrupted, 64 * 1024),
        (none, Resend::Unacknowledged, 64 * 1024),
        (none, answers(), 0), // The default of Linux, which has no limit.
        (none.notsent_lowat(1_000), Resend::Interrupted, 1_000),
        (none.notsent_lowat(1_000), answers(), 1_000),
        (none.send_buffer_size(100_000), Resend::Interrupted, 0),
    ] {
        let server = Server::start().await;
        let (sender, mut links) = mpsc::unbounded_channel();
        let conn = server.client().socket_options(set).and_then(move |stream: tokio::net::TcpStream| {
            sender.send(socket2::SockRef::from(&stream).tcp_notsent_lowat().unwrap()).unwrap();
            std::future::ready(Ok(stream))
        });
        let case = format!("{set:?}, {resend:?}");
        let _outbox = Outbox::builder(conn).resend(resend).start().unwrap();
        assert_eq!(in_time("a link", links.recv()).await, Some(expected), "{case}");
    }
}

#[tokio::test]
async fn message_that_makes_room_for_another_ends_a_flush_that_waits_for_it() {
    let outbox = Outbox::builder(down().await).capacity(1).when_full(WhenFull::DropOldest).start().unwrap();
    outbox.send("a").await.unwrap();
    let mut flush = Box::pin({
        let outbox = outbox.clone();
        async move { outbox.flush().await }
    });
    assert!(look(&mut flush).await.is_pending());
    // It is polled again only when it is woken.
    let flush = tokio::spawn(flush);
    tokio::task::yield_now().await;
    outbox.send("b").await.unwrap();
    in_time("flush", flush).await.unwrap();
    assert_eq!(outbox.tally().to_string(), "2 accepted: 1 dropped, 1 waiting");
}
