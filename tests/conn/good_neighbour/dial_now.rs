//! `dial_now` cuts a delay short, and no number of calls makes the dials follow each other more closely than `retry_min`.

use std::io;
use std::time::Duration;

use super::{Dials, S, TICK, closing, conn, refusing};
use crate::support::{Recorder, next_event};
use perconn::{Conn, Event, Status, dial_fn};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn calls_after_every_error_and_all_the_time_dial_at_most_once_in_retry_min() {
    let dials = Dials::default();
    // All settings at their defaults: `retry_min` is a second, and a link is stable after ten.
    let dialer = closing(&dials, |_| Duration::ZERO);
    let conn = Conn::builder("accepts and closes").logger(|_| {}).dialer(dialer).build().unwrap();
    let (mut read, write) = conn.into_split();
    let insistent = tokio::spawn(async move {
        loop {
            write.dial_now();
            sleep(S / 100).await;
        }
    });
    let _ = tokio::time::timeout(60 * S, async {
        loop {
            let _ = read.read(&mut [0; 4]).await;
            read.dial_now();
        }
    })
    .await;
    insistent.abort();
    let delays = dials.delays();
    // The first redial comes after a random part of `retry_min`, as always. The backoff alone would dial about 7 times.
    assert!(delays[1..].iter().all(|delay| *delay >= S), "{delays:?}");
    assert!((50..=62).contains(&dials.count()), "{} dials in 60 s", dials.count());
}

#[tokio::test(start_paused = true)]
async fn long_delay_is_cut_to_retry_min_after_the_last_dial() {
    let dials = Dials::default();
    let conn = Conn::builder("refuses").logger(|_| {}).retry_max(3600 * S).dialer(refusing(&dials)).build().unwrap();
    while dials.count() < 12 {
        sleep(S).await;
    }
    // Delays are hours by now. The hint comes at once after the dial, or long after it.
    for wait in [Duration::ZERO, S / 2, 100 * S] {
        let (before, last) = (dials.count(), *dials.0.lock().unwrap().last().unwrap());
        sleep(wait.saturating_sub(last.elapsed())).await;
        let hint = Instant::now();
        conn.dial_now();
        while dials.count() == before {
            sleep(S / 1000).await;
        }
        let (delay, waited) = (last.elapsed(), hint.elapsed());
        assert!(delay >= S && waited <= S + 2 * TICK, "hint after {wait:?}: dialed {delay:?} after the last dial");
        if wait > S {
            assert!(waited <= 2 * TICK, "nothing was dialed for long: {waited:?}");
        }
    }
    conn.close().await;
    conn.dial_now();
}

#[tokio::test(start_paused = true)]
async fn dial_now_cuts_the_delay_short_to_retry_min_after_the_last_dial() {
    let (recorder, mut events) = Recorder::new();
    let dials = Dials::default();
    let conn = conn(refusing(&dials)).retry_max(3600 * S).jitter_seed(7).on_event(recorder.hook()).build().unwrap();
    let mut longest = Duration::ZERO;
    for attempt in 1..=12 {
        let retry_in = next_event(&mut events, |event| match event {
            Event::DialFailed { attempt: n, retry_in, .. } if *n == attempt => Some(*retry_in),
            _ => None,
        });
        longest = longest.max(retry_in.await.unwrap());
        // Any number of calls does what one does.
        for _ in 0..100 {
            conn.dial_now();
        }
    }
    let delays = dials.delays();
    assert!(delays.iter().all(|delay| S <= *delay && *delay <= S + 2 * TICK), "{delays:?}");
    assert!(longest > 60 * S, "the delays do not grow any more: at most {longest:?}");
}

#[tokio::test(start_paused = true)]
async fn no_loop_over_dial_now_dials_more_than_once_in_retry_min() {
    let dials = Dials::default();
    let conn = conn(refusing(&dials)).retry_max(3600 * S).build().unwrap();
    for _ in 0..20_000 {
        conn.dial_now();
        sleep(Duration::from_millis(7)).await;
    }
    let delays = dials.delays();
    assert!(delays.iter().all(|delay| *delay >= S), "{delays:?}");
    assert!(delays.len() > 100, "{} dials in 140 seconds", delays.len());
}

#[tokio::test(start_paused = true)]
async fn dial_now_dials_at_once_after_a_link_that_was_up_for_retry_min() {
    let dials = Dials::default();
    let conn = conn(closing(&dials, |_| 4000 * S)).retry_min(3600 * S).retry_max(3600 * S).jitter_seed(3);
    let conn = conn.build().unwrap();
    let mut status = conn.watch_status();
    let dial = conn.connected();
    let reader = tokio::spawn(read_until_error_and_dial_now(conn));
    dial.await.unwrap();
    status.wait_for(|status| matches!(status, Status::Connected { generation: 2, .. })).await.unwrap();
    let delays = dials.delays();
    assert!(4000 * S <= delays[0] && delays[0] <= 4000 * S + 3 * TICK, "{delays:?}");
    reader.abort();
}

/// Notices the break of each link, and asks for the next one.
async fn read_until_error_and_dial_now(mut conn: Conn<DuplexStream>) {
    while conn.read(&mut [0; 64]).await.is_ok() {
        conn.dial_now();
    }
}

#[tokio::test(start_paused = true)]
async fn dial_now_counts_for_the_delay_after_a_dial_under_way_and_does_nothing_while_a_link_is_up() {
    let (recorder, mut events) = Recorder::new();
    let dials = Dials::default();
    let recorded = dials.clone();
    let conn = conn(dial_fn(move || {
        let is_first = recorded.record() == 1;
        async move {
            sleep(5 * S).await;
            if is_first { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(tokio::io::duplex(64).0) }
        }
    }));
    let conn = conn.on_event(recorder.hook()).build().unwrap();
    sleep(2 * S).await;
    conn.dial_now();
    let retry_in = next_event(&mut events, |event| match event {
        Event::DialFailed { retry_in, .. } => *retry_in,
        _ => None,
    });
    let retry_in = retry_in.await;
    // The second dial.
    sleep(retry_in + 2 * S).await;
    conn.dial_now();
    conn.connected().await.unwrap();
    conn.dial_now();
    sleep(100 * S).await;
    conn.dial_now();
    sleep(100 * S).await;
    assert_eq!((dials.count(), conn.generation()), (2, 1));
    // Asking during the dial shortens the delay after it, and not beyond `retry_min`.
    assert_eq!(retry_in, S);
    let (delay, expected) = (dials.delays()[0], 5 * S + retry_in);
    assert!(expected <= delay && delay <= expected + 2 * TICK, "{delay:?} instead of {expected:?}");
}
