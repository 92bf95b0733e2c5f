//! Verdicts on failures: final errors, `retry_if`, and the delays of a schedule of the program.

use std::io::{self, ErrorKind};
use std::iter::repeat;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use perconn::{Conn, Dial, Error, Event, Retry, Status, TcpDialer, dial_fn, fatal};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::support::{Recorder, Server, in_time, perconn_error, quick, refused_address, reset};

const S: Duration = Duration::from_secs(1);

/// The next event that `pick` picks. The limit is virtual where the clock is paused: it is longer than any delay.
async fn next<T>(events: &mut UnboundedReceiver<Event>, pick: impl Fn(&Event) -> Option<T>) -> T {
    loop {
        let event = tokio::time::timeout(3600 * S, events.recv()).await.expect("an event");
        if let Some(picked) = pick(&event.expect("the hook is gone")) {
            return picked;
        }
    }
}

/// The delay that follows the next failure.
async fn next_delay(events: &mut UnboundedReceiver<Event>) -> Option<Duration> {
    next(events, |event| match event {
        Event::DialFailed { retry_in, .. } | Event::Disconnected { retry_in, .. } => Some(*retry_in),
        _ => None,
    })
    .await
}

/// The failure with which the connection gave up.
async fn gave_up(events: &mut UnboundedReceiver<Event>) -> (u32, Arc<Error>) {
    next(events, |event| match event {
        Event::GaveUp { attempts, cause, .. } => Some((*attempts, Arc::clone(cause))),
        _ => None,
    })
    .await
}

/// A dialer that is always refused.
fn refused() -> impl Dial<Stream = TcpStream> {
    dial_fn(|| std::future::ready(Err::<TcpStream, _>(ErrorKind::ConnectionRefused.into())))
}

#[tokio::test]
async fn final_error_of_a_set_up_ends_every_handle_at_once() {
    let server = Server::start().await;
    let (recorder, mut events) = Recorder::new();
    let builder = server.client().on_event(recorder.hook()).and_then(|mut stream: TcpStream| async move {
        match stream.read_u8().await? {
            0 => Ok(stream),
            _ => Err(fatal(io::Error::new(ErrorKind::PermissionDenied, "wrong password"))),
        }
    });
    let (mut read, mut write) = builder.build().unwrap().into_split();
    let reader = tokio::spawn(async move { read.read(&mut [0]).await.unwrap_err() });
    server.accept().await.write_all(&[1]).await.unwrap();
    let errors = [
        in_time("the waiting read", reader).await.unwrap(),
        in_time("the write", write.write(b"x")).await.unwrap_err(),
        in_time("the flush", write.flush()).await.unwrap_err(),
    ];
    for error in &errors {
        let error = perconn_error(error);
        assert!(matches!(error, Error::GaveUp { attempts: 1, .. }) && error.is_final(), "{error:?}");
        let text = error.with_causes().to_string();
        assert!(
            text.ends_with("dial 1 to 127.0.0.1:".to_owned().as_str()) || text.contains("wrong password"),
            "{text}"
        );
    }
    let (attempts, cause) = gave_up(&mut events).await;
    assert_eq!((attempts, cause.kind()), (1, ErrorKind::PermissionDenied));
    assert_eq!(write.status(), Status::GaveUp);
    write.dial_now();
    server.expect_no_dial(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn final_error_fails_a_connect_without_a_dial_to_the_other_addresses() {
    let dials = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&dials);
    let first = Server::start().await;
    let dialer = TcpDialer::with_addresses([first.address, refused_address().await, refused_address().await]);
    let dialer = dialer.and_then(move |stream| {
        counter.fetch_add(1, Ordering::SeqCst);
        drop(stream);
        std::future::ready(Err::<TcpStream, _>(fatal("not this version")))
    });
    let error = in_time("connect", quick(Conn::builder("several").dialer(dialer)).connect()).await.unwrap_err();
    let text = error.with_causes().to_string();
    assert!(text.contains(&first.address.to_string()) && text.ends_with("not this version"), "{text}");
    assert!(matches!(error, Error::DialFailure { attempt: 1, .. }), "{error:?}");
    assert_eq!(dials.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn program_stops_the_dials_of_a_server_that_breaks_the_link() {
    let server = Server::start().await;
    let (recorder, mut events) = Recorder::new();
    let verdict = |error: &Error, attempt: u32| {
        assert_eq!(attempt, 1);
        if error.generation() == Some(1) { Retry::Stop } else { Retry::Backoff }
    };
    let builder = server.client().on_event(recorder.hook()).retry_if(verdict);
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let (mut read, mut write) = conn.unwrap().into_split();
    reset(peer);
    assert_eq!(next_delay(&mut events).await, None);
    let (_, cause) = gave_up(&mut events).await;
    assert!(matches!(*cause, Error::IoError { generation: 1, .. }), "{cause:?}");
    // Each handle reports the break once, and then the end.
    assert!(matches!(perconn_error(&read.read(&mut [0]).await.unwrap_err()), Error::IoError { generation: 1, .. }));
    assert!(matches!(perconn_error(&write.write(b"x").await.unwrap_err()), Error::IoError { generation: 1, .. }));
    for _ in 0..2 {
        assert!(matches!(perconn_error(&read.read(&mut [0]).await.unwrap_err()), Error::GaveUp { attempts: 1, .. }));
        assert!(matches!(perconn_error(&write.write(b"x").await.unwrap_err()), Error::GaveUp { attempts: 1, .. }));
    }
    server.expect_no_dial(Duration::from_millis(100)).await;
}

#[tokio::test(start_paused = true)]
async fn program_sees_every_failed_dial_with_its_number_and_stops() {
    let (recorder, mut events) = Recorder::new();
    let verdict = |error: &Error, attempt: u32| {
        assert!(matches!(error, Error::DialFailure { attempt: of_error, .. } if *of_error == attempt), "{error:?}");
        if attempt < 20 { Retry::Backoff } else { Retry::Stop }
    };
    let conn = Conn::builder("refused").dialer(refused()).on_event(recorder.hook()).retry_if(verdict).build().unwrap();
    let error = conn.connected().await.unwrap_err();
    assert!(matches!(error, Error::GaveUp { attempts: 20, .. }), "{error:?}");
    assert_eq!(gave_up(&mut events).await.0, 20);
}

#[tokio::test(start_paused = true)]
async fn delay_that_the_program_asks_for_may_be_longer_than_the_longest_of_the_backoff() {
    let (recorder, mut events) = Recorder::new();
    let verdict = |_: &Error, attempt: u32| match attempt {
        1 | 3 => Retry::After(300 * S),
        4 => Retry::After(Duration::ZERO),
        _ => Retry::Backoff,
    };
    let builder = Conn::builder("busy").dialer(refused()).on_event(recorder.hook());
    let conn = builder.max_retries(4).retry_if(verdict).build().unwrap();
    let mut delays = Vec::new();
    while let Some(delay) = next_delay(&mut events).await {
        delays.push(delay);
    }
    let windows = [300 * S..=375 * S, S..=2 * S, 300 * S..=375 * S, S..=2 * S];
    assert_eq!(delays.len(), windows.len(), "each counts as a retry: {delays:?}");
    assert!(delays.iter().zip(&windows).all(|(delay, window)| window.contains(delay)), "{delays:?}");
    drop(conn);
}

#[tokio::test(start_paused = true)]
async fn first_dials_of_a_connect_have_no_delay_and_stop_at_once() {
    for (verdict, dials) in [(Retry::After(300 * S), 3), (Retry::Stop, 1)] {
        let (recorder, _events) = Recorder::new();
        let addresses = ["127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"];
        let builder = Conn::builder("several").addresses(addresses).on_event(recorder.hook());
        let error = builder.retry_if(move |_, _| verdict).connect().await.unwrap_err();
        assert!(matches!(error, Error::DialFailure { attempt, .. } if attempt == dials), "{error:?}");
        assert_eq!(error.with_causes().to_string().matches("refused").count(), dials as usize, "{error:?}");
    }
}

#[tokio::test]
async fn program_is_not_asked_after_a_shutdown_or_a_close() {
    let server = Server::start().await;
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let builder = server.client().retry_if(move |_, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        Retry::Backoff
    });
    let (conn, mut peer) = tokio::join!(builder.connect(), server.accept());
    let mut conn = conn.unwrap();
    conn.shutdown().await.unwrap();
    assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
    reset(peer);
    assert!(conn.read(&mut [0]).await.is_err());
    in_time("close", conn.close()).await;
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn panic_of_the_verdict_is_logged_and_the_backoff_follows() {
    let (recorder, mut events) = Recorder::new();
    let (log, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let builder = Conn::builder("refused").dialer(refused()).on_event(recorder.hook());
    let builder = builder.logger(move |error| drop(log.send(error.to_string()))).retry_if(|_, _| panic!("no verdict"));
    let conn = builder.build().unwrap();
    assert!((S..=2 * S).contains(&next_delay(&mut events).await.unwrap()));
    assert!((S..=4 * S).contains(&next_delay(&mut events).await.unwrap()));
    assert_eq!(lines.recv().await.unwrap(), "the retry_if hook panicked: no verdict");
    drop(conn);
}

/// A dialer whose links the test gets.
fn duplex_links() -> (impl Dial<Stream = DuplexStream>, UnboundedReceiver<DuplexStream>) {
    let (links, next) = tokio::sync::mpsc::unbounded_channel();
    let dialer = dial_fn(move || {
        let (ours, theirs) = duplex(64);
        let outcome = links.send(theirs).map_err(|_| ErrorKind::ConnectionRefused.into()).map(|()| ours);
        std::future::ready(outcome)
    });
    (dialer, next)
}

#[tokio::test(start_paused = true)]
async fn delays_of_the_program_are_followed_and_start_over_after_a_stable_link() {
    let (recorder, mut events) = Recorder::new();
    let (dialer, mut links) = duplex_links();
    let schedule = || [7, 5, 3].map(Duration::from_secs).into_iter().chain(repeat(Duration::from_secs(900)));
    let builder = Conn::builder("scheduled").dialer(dialer).on_event(recorder.hook());
    let mut conn = builder.exact_backoff(schedule).close_as_error(true).build().unwrap();
    for (stable, delay) in [(false, 7), (false, 5), (false, 3), (false, 900), (false, 900), (true, 7), (false, 5)] {
        let link = links.recv().await.unwrap();
        conn.connected().await.unwrap();
        if stable {
            tokio::time::sleep(11 * S).await;
        }
        drop(link);
        conn.read(&mut [0]).await.unwrap_err();
        assert_eq!(next_delay(&mut events).await, Some(Duration::from_secs(delay)));
    }
}

#[tokio::test(start_paused = true)]
async fn delays_of_the_program_are_spread_and_their_end_is_the_end() {
    let mut seen = Vec::new();
    for seed in 0..100 {
        let (recorder, mut events) = Recorder::new();
        let builder = Conn::builder("refused").dialer(refused()).on_event(recorder.hook()).jitter_seed(seed);
        let conn = builder.backoff(|| [100 * S]).build().unwrap();
        seen.push(next_delay(&mut events).await.unwrap());
        assert_eq!(next_delay(&mut events).await, None);
        assert_eq!(gave_up(&mut events).await.0, 2);
        assert!(matches!(conn.connected().await, Err(Error::GaveUp { attempts: 2, .. })));
    }
    assert!(seen.iter().all(|delay| (50 * S..=100 * S).contains(delay)), "{seen:?}");
    assert!(seen.iter().any(|delay| *delay < 60 * S) && seen.iter().any(|delay| *delay > 90 * S), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn empty_schedule_gives_up_after_the_first_failure_and_a_panic_in_it_does_not() {
    let conn = Conn::builder("refused").dialer(refused()).backoff(|| []).build().unwrap();
    assert!(matches!(conn.connected().await, Err(Error::GaveUp { attempts: 1, .. })));

    let (recorder, mut events) = Recorder::new();
    let builder = Conn::builder("refused").dialer(refused()).on_event(recorder.hook()).retry_max(70 * S);
    let conn = builder.backoff(|| -> [Duration; 1] { panic!("no delay") }).build().unwrap();
    assert_eq!(next_delay(&mut events).await, Some(70 * S));
    assert_eq!(next_delay(&mut events).await, Some(70 * S));
    drop(conn);
}

#[tokio::test]
async fn bounds_of_a_schedule_are_checked_only_if_both_are_set() {
    let build = |min: Option<Duration>, max: Option<Duration>| {
        let mut builder = Conn::builder("127.0.0.1:1").backoff(|| repeat(S));
        if let Some(min) = min {
            builder = builder.retry_min(min);
        }
        if let Some(max) = max {
            builder = builder.retry_max(max);
        }
        builder.build().map(drop)
    };
    build(Some(100 * S), None).unwrap();
    build(None, Some(S / 10)).unwrap();
    let error = build(Some(2 * S), Some(S)).unwrap_err();
    assert!(matches!(&error, Error::InvalidConfig(text) if text.contains("retry_max 1s")), "{error}");
}
