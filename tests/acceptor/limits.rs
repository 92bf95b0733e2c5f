//! Clients that are silent, or slow on purpose. The limits are short, and are compared with much longer times only.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use perconn::acceptor::{Acceptor, AcceptorBuilder, EndReason, Event, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, sleep};

use crate::common::{client, echo, event, exchange, figures, local, recorder, rest};
use crate::support::in_time;

const LIMIT: Duration = Duration::from_millis(200);
/// A limit that clients must not reach, even on a machine that stalls for a moment.
const AMPLE: Duration = Duration::from_secs(1);
/// No test waits for so long, unless a limit does not work.
const FAR: Duration = Duration::from_secs(10);

/// Reads everything and answers nothing.
fn sink(builder: AcceptorBuilder) -> Acceptor {
    let handler = async |mut stream: perconn::acceptor::Stream, _| {
        let mut buffer = [0; 100];
        while stream.read(&mut buffer).await? > 0 {}
        Ok(())
    };
    builder.handler(handler).build().unwrap()
}

/// Sends a byte now and then until the server closes. Returns how long that took.
async fn send_slowly(stream: &mut TcpStream, pause: Duration) -> Duration {
    let start = Instant::now();
    let mut ticks = interval(pause);
    let (mut reader, mut writer) = stream.split();
    let mut byte = [0];
    in_time("the server closes", async {
        loop {
            tokio::select! {
                end = reader.read(&mut byte) => if !matches!(end, Ok(1..)) { return },
                _ = ticks.tick() => drop(writer.write_all(b"x").await),
            }
        }
    })
    .await;
    start.elapsed()
}

#[tokio::test]
async fn silent_client_is_closed_by_the_first_byte_deadline() {
    let (hook, mut events) = recorder();
    let acceptor = sink(local().first_byte_timeout(LIMIT).idle_timeout(FAR).on_event(hook));
    let start = Instant::now();
    assert_eq!(rest(&mut client(&acceptor).await).await.unwrap(), "");
    assert!((LIMIT..FAR).contains(&start.elapsed()), "{:?}", start.elapsed());
    let reason = event(&mut events, |event| match event {
        Event::Closed { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(matches!(reason.await, EndReason::TimedOut));
    assert_eq!(figures(&acceptor, "it is gone", |stats| stats.busy == 0).await.timed_out, 1);
}

/// Limits with these times. The others are those for the internet.
fn limits(first_byte: Duration, idle: Duration) -> Limits {
    let mut limits = Limits::internet();
    (limits.first_byte_timeout, limits.idle_timeout) = (Some(first_byte), Some(idle));
    limits
}

#[tokio::test]
async fn limits_given_at_once_are_those_of_the_single_setters() {
    // No first byte, and then no second one.
    let acceptor = sink(local().limits(limits(LIMIT, FAR)));
    assert_eq!(rest(&mut client(&acceptor).await).await.unwrap(), "");
    let acceptor = local().limits(limits(FAR, LIMIT)).handler(echo).build().unwrap();
    let mut stream = client(&acceptor).await;
    exchange(&mut stream).await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), "");
    assert_eq!(figures(&acceptor, "it is gone", |stats| stats.busy == 0).await.timed_out, 1);
    // 20 bytes a second are too few, and would be enough for the default rate.
    let acceptor = sink(local().limits(limits(FAR, AMPLE)));
    let took = send_slowly(&mut client(&acceptor).await, Duration::from_millis(50)).await;
    assert!((AMPLE..FAR).contains(&took), "{took:?}");
    // A longer line than 8192 bytes.
    let acceptor = local().max_line_length(1 << 20).limits(Limits::internet());
    let acceptor = acceptor.line_handler(async |_, conn| conn.send("fits").await).build().unwrap();
    for (length, answer) in [(8192, "fits\n"), (8193, "")] {
        let mut stream = client(&acceptor).await;
        let line = "x".repeat(length) + "\n";
        stream.write_all(line.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(rest(&mut stream).await.unwrap(), answer, "{length}");
    }
}

#[tokio::test]
async fn setter_after_the_limits_changes_one_limit() {
    let acceptor = sink(local().limits(limits(LIMIT, FAR)).first_byte_timeout(None).idle_timeout(LIMIT * 2));
    let start = Instant::now();
    assert_eq!(rest(&mut client(&acceptor).await).await.unwrap(), "");
    assert!((LIMIT * 2..FAR).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn byte_now_and_then_defeats_neither_limit() {
    // Like a byte a second against a rate of ten bytes a second, with everything twenty times as fast.
    let acceptor = sink(local().first_byte_timeout(LIMIT).idle_timeout(LIMIT * 2).min_rate(200));
    let took = send_slowly(&mut client(&acceptor).await, Duration::from_millis(50)).await;
    assert!((LIMIT * 2..FAR).contains(&took), "{took:?}");
    assert_eq!(figures(&acceptor, "it is gone", |stats| stats.busy == 0).await.timed_out, 1);
}

#[tokio::test]
async fn client_that_sends_fast_enough_is_served_for_longer_than_the_limit() {
    let acceptor = sink(local().idle_timeout(AMPLE).min_rate(100));
    let mut stream = client(&acceptor).await;
    let start = Instant::now();
    while start.elapsed() < AMPLE * 2 {
        stream.write_all(&[7; 100]).await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    let stats = acceptor.stats();
    assert_eq!((stats.busy, stats.timed_out), (1, 0));
    assert_eq!(rest(&mut stream).await.unwrap(), "");
}

#[tokio::test]
async fn answered_client_has_the_whole_limit_again() {
    let acceptor = local().first_byte_timeout(AMPLE).idle_timeout(AMPLE).min_rate(1_000_000).handler(echo);
    let acceptor = acceptor.build().unwrap();
    let mut stream = client(&acceptor).await;
    for _ in 0..6 {
        exchange(&mut stream).await.unwrap();
        sleep(AMPLE / 3).await;
    }
    assert_eq!(acceptor.stats().timed_out, 0);
    assert_eq!(rest(&mut stream).await.unwrap(), "");
    assert_eq!(figures(&acceptor, "it is gone", |stats| stats.busy == 0).await.timed_out, 1);
}

#[tokio::test]
async fn client_that_takes_nothing_is_closed() {
    let acceptor = local()
        .idle_timeout(LIMIT)
        .handler(async |mut stream, _| {
            loop {
                stream.write_all(&[7; 100_000]).await?;
            }
        })
        .build()
        .unwrap();
    let _stream = client(&acceptor).await;
    figures(&acceptor, "it is gone", |stats| stats.timed_out == 1).await;
}

#[tokio::test]
async fn handler_can_answer_a_silent_client() {
    let acceptor = local()
        .idle_timeout(LIMIT)
        .handler(async |mut stream, _| match stream.read_u8().await {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => stream.write_all(b"too slow\n").await,
            _ => Ok(()),
        })
        .build()
        .unwrap();
    assert_eq!(rest(&mut client(&acceptor).await).await.unwrap(), "too slow\n");
}

#[tokio::test]
async fn silent_client_counts_as_timed_out_although_the_handler_answered() {
    let acceptor = local()
        .idle_timeout(LIMIT)
        .handler(async |mut stream, _| {
            let Err(error) = stream.read_u8().await else { return Ok(()) };
            stream.write_all(b"too slow\n").await?;
            Err(error)
        })
        .build()
        .unwrap();
    assert_eq!(rest(&mut client(&acceptor).await).await.unwrap(), "too slow\n");
    assert_eq!(figures(&acceptor, "it is gone", |stats| stats.busy == 0).await.timed_out, 1);
}

#[tokio::test]
async fn timeout_that_a_connection_survives_is_not_its_end_reason() {
    let acceptor = local()
        .idle_timeout(LIMIT)
        .handler(async |mut stream, _| {
            assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            stream.write_all(b"anybody there?").await?;
            stream.read_u8().await?;
            Err(io::Error::other("on purpose"))
        })
        .build()
        .unwrap();
    let mut stream = client(&acceptor).await;
    in_time("the message", stream.read_exact(&mut [0; 14])).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let stats = figures(&acceptor, "it is gone", |stats| stats.busy == 0).await;
    assert_eq!((stats.failed, stats.timed_out), (1, 0));
}

#[tokio::test]
async fn time_that_the_handler_takes_does_not_count() {
    let acceptor = local()
        .idle_timeout(LIMIT)
        .handler(async |mut stream, _| {
            stream.read_u8().await?;
            sleep(LIMIT * 3).await;
            stream.read_u8().await?;
            stream.write_all(b"fine").await
        })
        .build()
        .unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(b"xx").await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), "fine");
}

#[tokio::test]
async fn writes_keep_a_waiting_read_alive() {
    let acceptor = local()
        .idle_timeout(AMPLE)
        .handler(async |stream, _| {
            let (mut reader, mut writer) = tokio::io::split(stream);
            let writes = async {
                for _ in 0..20 {
                    writer.write_all(b"news\n").await?;
                    sleep(AMPLE / 10).await;
                }
                writer.write_all(b"end\n").await
            };
            tokio::select! {
                outcome = writes => outcome,
                outcome = reader.read_u8() => outcome.map(|_| ()),
            }
        })
        .build()
        .unwrap();
    assert!(rest(&mut client(&acceptor).await).await.unwrap().ends_with("end\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundred_silent_clients_do_not_delay_others() {
    let acceptor = Arc::new(local().idle_timeout(LIMIT).handler(echo).build().unwrap());
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(client(&acceptor).await);
    }
    let done = AtomicUsize::new(0);
    for _ in 0..50 {
        exchange(&mut client(&acceptor).await).await.unwrap();
        done.fetch_add(1, Ordering::SeqCst);
    }
    for mut stream in silent {
        assert_eq!(rest(&mut stream).await.unwrap(), "");
    }
    assert_eq!(done.load(Ordering::SeqCst), 50);
    figures(&acceptor, "the silent are gone", |stats| stats.timed_out == 100 && stats.busy == 0).await;
}
