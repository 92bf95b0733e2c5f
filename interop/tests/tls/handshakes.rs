//! TLS handshakes, which take no acceptor slot.

use std::io;
use std::time::{Duration, Instant};

use perconn::acceptor::{Event, Limits, Overflow};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{interval, sleep, timeout};

use crate::authority::{Authority, exchange, with};
use crate::common::{LONG, client, event, figures, recorder, rest};
use crate::support::in_time;

#[tokio::test]
async fn hundred_silent_clients_take_no_slot_and_are_closed_at_the_deadline() {
    let authority = Authority::new();
    let limit = Duration::from_secs(2);
    let acceptor = with(authority.server()).acceptors(1).handshake_timeout(limit).build().unwrap();
    let start = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(client(&acceptor).await);
    }
    figures(&acceptor, "all are handshaking", |stats| stats.handshaking == 100).await;
    let mut session = authority.session(&acceptor).await.unwrap();
    exchange(&mut session).await;
    assert!(start.elapsed() < limit, "{:?}", start.elapsed());
    for mut stream in silent {
        assert_eq!(rest(&mut stream).await.unwrap(), "");
    }
    exchange(&mut session).await;
    let stats = acceptor.stats();
    assert_eq!((stats.handshakes_failed, stats.handshaking, stats.busy, stats.accepted), (100, 0, 1, 1));
}

#[tokio::test]
async fn handshakes_beyond_their_limit_wait_until_one_ends() {
    let authority = Authority::new();
    let acceptor =
        with(authority.server()).max_handshakes(3).handshake_timeout(Duration::from_millis(300)).build().unwrap();
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(client(&acceptor).await);
    }
    figures(&acceptor, "the limit is reached", |stats| stats.handshaking == 3).await;
    // It waits behind the others in the kernel's queue.
    exchange(&mut authority.session(&acceptor).await.unwrap()).await;
    assert!(acceptor.stats().handshakes_failed >= 3);
}

#[tokio::test]
async fn limits_given_at_once_hold_for_handshakes() {
    let authority = Authority::new();
    let mut limits = Limits::internet();
    limits.handshake_timeout = Some(Duration::from_millis(200));
    let acceptor = with(authority.server()).handshake_timeout(LONG).limits(limits).build().unwrap();
    assert_eq!(rest(&mut client(&acceptor).await).await.unwrap(), "");
    figures(&acceptor, "it is counted", |stats| stats.handshakes_failed == 1).await;
}

#[tokio::test]
async fn silent_clients_are_evicted_for_later_clients() {
    let authority = Authority::new();
    let acceptor = with(authority.server()).max_handshakes(4).handshake_timeout(LONG).build().unwrap();
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(client(&acceptor).await);
    }
    figures(&acceptor, "the limit is reached", |stats| stats.handshaking == 4).await;
    for _ in 0..3 {
        exchange(&mut authority.session(&acceptor).await.unwrap()).await;
    }
    // Evicted clients are closed, the oldest first.
    assert_eq!(rest(&mut silent[0]).await.unwrap(), "");
    let stats = acceptor.stats();
    assert!((1..=4).contains(&stats.handshakes_failed), "{stats:?}");
}

#[tokio::test]
async fn client_evicts_one_old_handshake_and_not_all() {
    let authority = Authority::new();
    let acceptor = with(authority.server()).max_handshakes(4).handshake_timeout(LONG).build().unwrap();
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(client(&acceptor).await);
    }
    // The next client finds a free permit.
    assert_eq!(rest(&mut silent[0]).await.unwrap(), "");
    // By now, the others are as old as the first was.
    sleep(Duration::from_millis(500)).await;
    exchange(&mut authority.session(&acceptor).await.unwrap()).await;
    let failed = acceptor.stats().handshakes_failed;
    assert!((1..=2).contains(&failed), "{failed}");
}

#[tokio::test]
async fn byte_now_and_then_does_not_extend_a_handshake() {
    let authority = Authority::new();
    let acceptor = with(authority.server()).handshake_timeout(Duration::from_millis(300)).build().unwrap();
    let (mut reader, mut writer) = client(&acceptor).await.into_split();
    // The beginning of a long record.
    writer.write_all(&[22, 3, 1, 60, 0, 1, 0, 59, 252, 3, 3]).await.unwrap();
    let mut ticks = interval(Duration::from_millis(20));
    let mut byte = [0];
    in_time("its end", async {
        loop {
            tokio::select! {
                end = reader.read(&mut byte) => if !matches!(end, Ok(1..)) { return },
                _ = ticks.tick() => drop(writer.write_all(&[7]).await),
            }
        }
    })
    .await;
    figures(&acceptor, "it is counted", |stats| stats.handshakes_failed == 1 && stats.handshaking == 0).await;
}

#[tokio::test]
async fn client_that_does_not_speak_tls_is_reported_and_does_no_harm() {
    let authority = Authority::new();
    let (hook, mut events) = recorder();
    let acceptor = with(authority.server()).on_event(hook).build().unwrap();
    let mut session = authority.session(&acceptor).await.unwrap();
    let mut stranger = client(&acceptor).await;
    stranger.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let address = stranger.local_addr().unwrap();
    let _ = in_time("its end", stranger.read_to_end(&mut Vec::new())).await;
    let reported = event(&mut events, |event| match event {
        Event::HandshakeFailed { peer, cause, .. } => Some((peer.addr(), cause.kind())),
        _ => None,
    });
    assert_eq!(reported.await, (Some(address), io::ErrorKind::InvalidData));
    exchange(&mut session).await;
}

#[tokio::test]
async fn sessions_wait_for_a_slot_and_all_get_one() {
    let authority = Authority::new();
    let acceptor = with(authority.server()).acceptors(2).overflow(Overflow::Wait).build().unwrap();
    let first = [authority.session(&acceptor).await.unwrap(), authority.session(&acceptor).await.unwrap()];
    figures(&acceptor, "they are served", |stats| stats.busy == 2).await;
    let mut waiting = Vec::new();
    for _ in 0..6 {
        waiting.push(authority.session(&acceptor).await.unwrap());
    }
    assert!(timeout(Duration::from_millis(50), waiting[0].read_u8()).await.is_err());
    assert_eq!((acceptor.stats().busy, acceptor.stats().handshaking), (2, 6));
    // Both end at once, and each has to wake one waiter.
    drop(first);
    let mut sessions = tokio::task::JoinSet::new();
    for mut session in waiting {
        sessions.spawn(async move {
            exchange(&mut session).await;
        });
    }
    in_time("all are served", sessions.join_all()).await;
    figures(&acceptor, "all are gone", |stats| stats.busy == 0 && stats.accepted == 8).await;
}

#[tokio::test]
async fn stop_ends_handshakes_at_once() {
    let authority = Authority::new();
    let acceptor = with(authority.server()).build().unwrap();
    let mut silent = client(&acceptor).await;
    figures(&acceptor, "it is handshaking", |stats| stats.handshaking == 1).await;
    assert_eq!(in_time("stop", acceptor.stop(LONG)).await, Default::default());
    assert_eq!(rest(&mut silent).await.unwrap(), "");
    figures(&acceptor, "it is gone", |stats| stats.handshaking == 0).await;
}
