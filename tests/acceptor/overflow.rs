//! More clients than acceptors.

use std::time::Duration;

use perconn::acceptor::{Event, Overflow};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::in_time;
use crate::world::{LONG, client, echo, event, exchange, figures, local, recorder, rest, served};

#[tokio::test]
async fn refused_client_reads_why_and_then_the_end_of_the_stream() {
    let (hook, mut events) = recorder();
    let acceptor =
        local().acceptors(1).overflow(Overflow::Refuse).refusal("busy\n").on_event(hook).handler(echo).build().unwrap();
    let mut first = served(&acceptor).await;
    for _ in 0..3 {
        let mut refused = client(&acceptor).await;
        assert_eq!(rest(&mut refused).await.unwrap(), "busy\n");
        let address = refused.local_addr().unwrap();
        let told = event(&mut events, |event| match event {
            Event::Refused { peer, .. } => Some(peer.addr()),
            _ => None,
        });
        assert_eq!(told.await, Some(address));
    }
    exchange(&mut first).await.unwrap();
    drop(first);
    figures(&acceptor, "the acceptor is free", |stats| stats.busy == 0).await;
    served(&acceptor).await;
    assert_eq!(acceptor.stats().refused, 3);
}

#[tokio::test]
async fn refusal_is_not_eaten_by_a_reset_when_the_client_has_sent_something() {
    let acceptor = local().acceptors(1).overflow(Overflow::Refuse).refusal("busy\n").handler(echo).build().unwrap();
    let _first = served(&acceptor).await;
    for round in 0..20 {
        let mut refused = client(&acceptor).await;
        // It speaks first, at length, and looks at the answer later.
        refused.write_all(&[b'x'; 100_000]).await.unwrap();
        if round % 2 == 0 {
            refused.shutdown().await.unwrap();
        }
        assert_eq!(rest(&mut refused).await.unwrap(), "busy\n");
    }
}

#[tokio::test]
async fn clients_that_do_not_go_when_refused_are_closed_and_harm_nobody() {
    let acceptor = local().acceptors(1).overflow(Overflow::Refuse).refusal("busy\n").handler(echo).build().unwrap();
    let first = served(&acceptor).await;
    let mut stubborn = Vec::new();
    for _ in 0..300 {
        let mut stream = client(&acceptor).await;
        stream.write_all(b"x").await.unwrap();
        stubborn.push(stream);
    }
    figures(&acceptor, "all are refused", |stats| stats.refused == 300).await;
    drop(first);
    figures(&acceptor, "the acceptor is free", |stats| stats.busy == 0).await;
    served(&acceptor).await;
    // They do not close, so the acceptor does.
    for mut stream in stubborn {
        in_time("its end", async { while !matches!(stream.read(&mut [0; 9]).await, Ok(0) | Err(_)) {} }).await;
    }
}

#[tokio::test]
async fn waiting_clients_are_served_one_after_the_other() {
    let acceptor = local().acceptors(2).overflow(Overflow::Wait).handler(echo).build().unwrap();
    let mut served_now = vec![served(&acceptor).await, served(&acceptor).await];
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(client(&acceptor).await);
    }
    let mut third = waiting.remove(0);
    third.write_all(b"ping").await.unwrap();
    let silence = timeout(Duration::from_millis(50), third.read_u8()).await;
    assert!(silence.is_err(), "it is served, or refused: {silence:?}");
    assert_eq!((acceptor.stats().accepted, acceptor.stats().busy), (2, 2));
    served_now.remove(0);
    let mut answer = [0; 4];
    in_time("its turn", third.read_exact(&mut answer)).await.unwrap();
    for mut next in waiting {
        served_now.remove(0);
        exchange(&mut next).await.unwrap();
        served_now.push(next);
    }
    assert_eq!(acceptor.stats().refused, 0);
}

#[tokio::test]
async fn grown_acceptors_serve_up_to_the_maximum_and_go_again() {
    let (hook, mut events) = recorder();
    let acceptor = local()
        .acceptors(2)
        .overflow(Overflow::Grow { by: 2, max: 5 })
        .refusal("busy\n")
        .on_event(hook)
        .handler(echo)
        .build()
        .unwrap();
    let mut streams = Vec::new();
    for expected in [2, 2, 4, 4, 5] {
        streams.push(served(&acceptor).await);
        assert_eq!(acceptor.stats().acceptors, expected);
    }
    assert_eq!(rest(&mut client(&acceptor).await).await.unwrap(), "busy\n");
    drop(streams);
    let stats = figures(&acceptor, "all are gone", |stats| stats.busy == 0).await;
    assert_eq!((stats.acceptors, stats.refused), (2, 1));
    let mut sizes = Vec::new();
    while sizes.last() != Some(&2) {
        let size = event(&mut events, |event| match event {
            Event::Grown { acceptors, .. } | Event::Shrunk { acceptors, .. } => Some(*acceptors),
            _ => None,
        });
        sizes.push(size.await);
    }
    assert_eq!(sizes, [4, 5, 4, 2]);
}

#[tokio::test]
async fn stop_works_while_all_acceptors_are_busy_and_clients_wait() {
    for overflow in [Overflow::Refuse, Overflow::Wait, Overflow::Grow { by: 1, max: 2 }] {
        let acceptor = local().acceptors(1).overflow(overflow).handler(echo).build().unwrap();
        let mut first = served(&acceptor).await;
        let _others = [client(&acceptor).await, client(&acceptor).await];
        let stopped = in_time("stop", acceptor.stop(LONG)).await;
        assert_eq!(stopped.cut, 0);
        assert_eq!(rest(&mut first).await.unwrap(), "");
    }
}
