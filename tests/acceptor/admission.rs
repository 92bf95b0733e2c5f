//! Who is let in: the filter, the limit for each address, and the rate of accepts.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use perconn::acceptor::{Acceptor, Error, Event, RejectReason};
use tokio::net::TcpStream;

use crate::common::{LONG, client, echo, event, exchange, figures, local, recorder, rest, served};
use crate::support::in_time;

/// A client from an address of its own: on Linux, all of 127.0.0.0/8 is this machine.
#[cfg(target_os = "linux")]
async fn client_from(address: [u8; 4], acceptor: &Acceptor) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    in_time("connect", socket.connect(acceptor.local_addr().unwrap())).await.unwrap()
}

/// Asserts that the server closes the connection without an answer.
async fn expect_rejected(mut stream: TcpStream) {
    match rest(&mut stream).await {
        Ok(text) => assert_eq!(text, ""),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

#[tokio::test]
async fn filter_decides_who_is_let_in() {
    static IS_OPEN: AtomicBool = AtomicBool::new(false);
    let (hook, mut events) = recorder();
    let acceptor = local()
        .accept_if(|peer| {
            peer.addr().is_some_and(|address| address.ip().is_loopback()) && IS_OPEN.load(Ordering::SeqCst)
        })
        .on_event(hook)
        .handler(echo)
        .build()
        .unwrap();
    expect_rejected(client(&acceptor).await).await;
    let reason = event(&mut events, |event| match event {
        Event::Rejected { reason, .. } => Some(*reason),
        Event::Accepted { .. } => panic!("{event}"),
        _ => None,
    });
    assert_eq!(reason.await, RejectReason::Filter);
    IS_OPEN.store(true, Ordering::SeqCst);
    served(&acceptor).await;
    let stats = acceptor.stats();
    assert_eq!((stats.rejected, stats.accepted, stats.refused), (1, 1, 0));
}

#[tokio::test]
async fn filter_that_panics_lets_nobody_in_and_is_logged() {
    let (sender, mut logged) = tokio::sync::mpsc::unbounded_channel();
    let calls = Mutex::new(0);
    let acceptor = Acceptor::builder("127.0.0.1:0")
        .logger(move |error| sender.send(error.to_string()).unwrap())
        .accept_if(move |_| {
            let mut calls = calls.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            *calls += 1;
            assert!(*calls != 1, "on purpose");
            true
        })
        .handler(echo)
        .build()
        .unwrap();
    expect_rejected(client(&acceptor).await).await;
    assert_eq!(in_time("the log", logged.recv()).await.unwrap(), "the accept_if hook panicked: on purpose");
    served(&acceptor).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn each_address_has_a_limit_of_connections() {
    let (hook, mut events) = recorder();
    let acceptor = local().max_per_peer(2).on_event(hook).handler(echo).build().unwrap();
    let mut first = client_from([127, 0, 0, 2], &acceptor).await;
    let mut second = client_from([127, 0, 0, 2], &acceptor).await;
    for stream in [&mut first, &mut second] {
        exchange(stream).await.unwrap();
    }
    expect_rejected(client_from([127, 0, 0, 2], &acceptor).await).await;
    let text = event(&mut events, |event| match event {
        Event::Rejected { reason: RejectReason::MaxPerPeer, .. } => Some(event.to_string()),
        _ => None,
    });
    assert!(text.await.ends_with(": its address has too many connections"));
    let mut other = client_from([127, 0, 0, 3], &acceptor).await;
    exchange(&mut other).await.unwrap();
    drop(first);
    figures(&acceptor, "the place is free", |stats| stats.busy == 2).await;
    let mut third = client_from([127, 0, 0, 2], &acceptor).await;
    exchange(&mut third).await.unwrap();
    assert_eq!(acceptor.stats().rejected, 1);
    drop((second, third, other));
    in_time("stop", acceptor.stop(LONG)).await;
}

/// A connection has its place until its stream is dropped, also by another task.
#[tokio::test]
async fn place_is_free_when_the_stream_is_gone() {
    let (sender, mut streams) = tokio::sync::mpsc::unbounded_channel();
    let acceptor = local()
        .max_per_peer(1)
        .handler(move |stream, _| {
            sender.send(stream).unwrap();
            std::future::ready(Ok(()))
        })
        .build()
        .unwrap();
    let _first = client(&acceptor).await;
    let kept = in_time("the stream", streams.recv()).await.unwrap();
    expect_rejected(client(&acceptor).await).await;
    drop(kept);
    figures(&acceptor, "the place is free", |stats| stats.busy == 0).await;
    let _second = client(&acceptor).await;
    in_time("the stream", streams.recv()).await.unwrap();
}

#[tokio::test]
async fn rush_is_accepted_at_the_rate_and_nobody_is_lost() {
    let acceptor = local().accept_rate(20).handler(echo).build().unwrap();
    let begin = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    let address = acceptor.local_addr().unwrap();
    for _ in 0..30 {
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            exchange(&mut stream).await.unwrap();
        });
    }
    in_time("all are served", clients.join_all()).await;
    // 20 at once, and 10 more at 20 a second.
    assert!(begin.elapsed() >= Duration::from_millis(500), "{:?}", begin.elapsed());
    assert_eq!((acceptor.stats().accepted, acceptor.stats().rejected), (30, 0));
}

#[tokio::test]
async fn stop_does_not_wait_for_the_rate() {
    let acceptor = local().accept_rate(1).handler(echo).build().unwrap();
    served(&acceptor).await;
    // In the kernel's queue.
    let _waiting = client(&acceptor).await;
    let begin = Instant::now();
    in_time("stop", acceptor.stop(LONG)).await;
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn limits_of_zero_are_named() {
    for (builder, expected) in [
        (local().max_per_peer(0), "max_per_peer 0: expected at least 1, or None for no limit"),
        (local().accept_rate(0), "accept_rate 0: expected at least 1 connection a second, or None for no limit"),
    ] {
        match builder.handler(echo).build() {
            Err(Error::InvalidConfig(text)) => assert_eq!(text, expected),
            other => panic!("{other:?}"),
        }
    }
}
