//! Promise 8: delays between dials are random from the first redial on, never above `retry_max`, never below
//! `retry_min` once a dial has failed, still spread out at the cap; they start over only after a link has lived for
//! `stable_after`. Mostly under paused time, so that hours pass in no time and every delay is exact.

mod support;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perconn::{Builder, Conn, Dial, Event, dial_fn};
use support::{Recorder, next_event};
use tokio::io::DuplexStream;
use tokio::time::Instant;

const S: Duration = Duration::from_secs(1);

/// The timer's resolution: a delay is rounded up to the next millisecond.
const TICK: Duration = Duration::from_millis(1);

/// When dials were made.
#[derive(Clone, Default)]
struct Dials(Arc<Mutex<Vec<Instant>>>);

impl Dials {
    fn note(&self) -> usize {
        let mut dials = self.0.lock().unwrap();
        dials.push(Instant::now());
        dials.len()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn delays(&self) -> Vec<Duration> {
        self.0.lock().unwrap().windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

fn refusing(dials: &Dials) -> impl Dial<Stream = DuplexStream> {
    let dials = dials.clone();
    dial_fn(move || {
        dials.note();
        std::future::ready(Err(io::ErrorKind::ConnectionRefused.into()))
    })
}

/// Accepts, and closes after the time that `life` gives for each dial.
fn closing(dials: &Dials, life: impl Fn(usize) -> Duration + Send + 'static) -> impl Dial<Stream = DuplexStream> {
    let dials = dials.clone();
    dial_fn(move || {
        let life = life(dials.note());
        let (near, far) = tokio::io::duplex(64);
        tokio::spawn(async move {
            tokio::time::sleep(life).await;
            drop(far);
        });
        std::future::ready(Ok(near))
    })
}

fn conn<D: Dial>(dialer: D) -> Builder<D> {
    Conn::builder("simulated").dialer(dialer).retry_min(S).retry_max(60 * S).logger(|_| {})
}

/// Reads, so that breaks of a stream that is no socket are noticed.
async fn read_for_ever(mut conn: Conn<DuplexStream>) {
    use tokio::io::AsyncReadExt;
    while conn.read(&mut [0; 64]).await.is_ok() {}
}

#[tokio::test(start_paused = true)]
async fn failed_dials_follow_the_law_for_days() {
    let dials = Dials::default();
    let conn = conn(refusing(&dials)).build().unwrap();
    tokio::time::sleep(Duration::from_secs(3 * 24 * 3600)).await;
    drop(conn);
    let delays = dials.delays();
    assert!(delays.len() > 5_000);
    for (n, delay) in delays.iter().enumerate() {
        let cap = S * 2_u32.pow((n + 1).min(6) as u32);
        assert!(S <= *delay && *delay <= cap.min(60 * S) + TICK, "delay {n} is {delay:?}");
    }
    // At the cap they are spread from one end to the other.
    let at_cap = &delays[10..];
    for quarter in 0..4 {
        let share = at_cap.iter().filter(|delay| (delay.as_secs_f64() - 1.0) * 4.0 / 59.0 >= f64::from(quarter));
        let share = share.filter(|delay| (delay.as_secs_f64() - 1.0) * 4.0 / 59.0 < f64::from(quarter + 1)).count();
        assert!(share > at_cap.len() / 5, "quarter {quarter} has {share} of {}", at_cap.len());
    }
}

#[tokio::test(start_paused = true)]
async fn accept_and_close_is_dialed_at_the_pace_of_the_backoff() {
    let dials = Dials::default();
    let conn = conn(closing(&dials, |_| Duration::ZERO)).build().unwrap();
    let reader = tokio::spawn(read_for_ever(conn));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    reader.abort();
    let delays = dials.delays();
    assert!(delays[0] <= S + 2 * TICK, "the first redial is prompt: {:?}", delays[0]);
    for (n, delay) in delays.iter().enumerate().skip(1) {
        assert!(S <= *delay && *delay <= 60 * S + 2 * TICK, "delay {n} is {delay:?}");
    }
    // The mean at the cap is 30.5 s: 118 dials an hour and a few at the start.
    assert!((90..160).contains(&dials.count()), "{} dials in an hour", dials.count());
}

/// The same over real sockets and in real time: the number of dials is bounded by the time that has passed.
#[tokio::test]
async fn server_that_accepts_and_closes_is_not_hammered() {
    let server = support::Server::start().await;
    let floor = Duration::from_millis(40);
    let start = std::time::Instant::now();
    let builder = Conn::builder(server.address).retry_min(floor).retry_max(3 * floor).logger(|_| {});
    let conn = builder.stable_after(S).build().unwrap();
    for _ in 0..10 {
        drop(server.accept().await);
    }
    // The first dial at once, the second after a part of the floor, each later one no sooner than after the floor.
    let elapsed = start.elapsed();
    assert!(elapsed >= 8 * floor, "10 dials in {elapsed:?}");
    drop(conn);
}

#[tokio::test(start_paused = true)]
async fn set_up_that_fails_is_a_failed_dial() {
    let dials = Dials::default();
    let dialer = closing(&dials, |_| Duration::ZERO)
        .and_then(|_stream| async { Err::<DuplexStream, _>(io::Error::other("login refused")) });
    let conn = conn(dialer).build().unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    drop(conn);
    assert!(dials.delays().iter().all(|delay| S <= *delay && *delay <= 60 * S + TICK));
}

#[tokio::test(start_paused = true)]
async fn backoff_starts_over_only_after_a_stable_link() {
    // Nine short lives, then long ones.
    let dials = Dials::default();
    let life = |dial| if dial < 10 { 2 * S } else { 10 * S };
    let conn = conn(closing(&dials, life)).stable_after(10 * S).build().unwrap();
    let reader = tokio::spawn(read_for_ever(conn));
    while dials.count() < 40 {
        tokio::time::sleep(S).await;
    }
    reader.abort();
    let delays = dials.delays();
    for delay in &delays[1..9] {
        assert!(*delay >= 3 * S, "an unstable link does not reset the backoff: {delay:?}");
    }
    let after_stable = &delays[9..];
    for delay in after_stable {
        assert!(*delay <= 11 * S + 2 * TICK, "a random part of retry_min after a stable link: {delay:?}");
    }
    let early = after_stable.iter().filter(|delay| **delay < 10 * S + S / 2).count();
    assert!((3..after_stable.len() - 3).contains(&early), "{early} of {} are early", after_stable.len());
}

#[tokio::test(start_paused = true)]
async fn two_hundred_clients_come_back_spread_out() {
    // All lose their server at the same moment; it is back at once.
    let start = Arc::new(Mutex::new(Vec::new()));
    let mut clients = Vec::new();
    for _ in 0..200 {
        let again = Arc::clone(&start);
        let dials = Dials::default();
        let life = |dial| if dial == 1 { 100 * S } else { Duration::from_secs(1_000_000) };
        let conn = conn(closing(&dials, life)).on_event(move |event| {
            if let Event::Reconnected { .. } = event {
                again.lock().unwrap().push(Instant::now());
            }
        });
        clients.push(tokio::spawn(read_for_ever(conn.build().unwrap())));
    }
    let began = Instant::now();
    tokio::time::sleep(110 * S).await;
    let times = start.lock().unwrap();
    assert_eq!(times.len(), 200);
    let mut bins = [0; 20];
    for time in times.iter() {
        let offset = (*time - began - 100 * S).as_millis();
        bins[(offset / 50).min(19) as usize] += 1;
    }
    assert!(bins.iter().all(|&clients| clients <= 30), "in bins of 50 ms: {bins:?}");
    clients.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn reconnect_cuts_the_delay_short_and_does_nothing_during_a_dial() {
    let (recorder, mut events) = Recorder::new();
    let dials = Dials::default();
    let conn = conn(refusing(&dials)).retry_min(3600 * S).retry_max(3600 * S).on_event(recorder.hook());
    let conn = conn.build().unwrap();
    for attempt in 1..=5 {
        next_event(&mut events, |event| {
            matches!(event, Event::DialFailed { attempt: n, .. } if *n == attempt).then_some(())
        })
        .await;
        // Any number of requests is one.
        for _ in 0..100 {
            conn.reconnect();
        }
    }
    assert!(dials.delays().iter().all(|delay| *delay < S), "{:?}", dials.delays());

    let slow = Dials::default();
    let noted = slow.clone();
    let conn = Conn::builder("slow").logger(|_| {}).dialer(move || {
        noted.note();
        async {
            tokio::time::sleep(5 * S).await;
            Ok(tokio::io::duplex(64).0)
        }
    });
    let conn = conn.build().unwrap();
    tokio::time::sleep(S).await;
    conn.reconnect();
    tokio::time::sleep(S).await;
    conn.reconnect();
    conn.connected().await.unwrap();
    tokio::time::sleep(100 * S).await;
    assert_eq!((slow.count(), conn.generation()), (1, 1), "the dial under way was left alone");
}

#[tokio::test(start_paused = true)]
async fn forced_reconnects_keep_to_the_backoff() {
    let dials = Dials::default();
    let noted = dials.clone();
    let (keep, mut kept) = tokio::sync::mpsc::unbounded_channel();
    let conn = conn(dial_fn(move || {
        noted.note();
        let (near, far) = tokio::io::duplex(64);
        keep.send(far).unwrap();
        std::future::ready(Ok(near))
    }));
    let conn = conn.build().unwrap();
    for _ in 0..20 {
        conn.connected().await.unwrap();
        conn.reconnect();
    }
    let delays = dials.delays();
    assert!(delays[1..].iter().all(|delay| *delay >= S), "{delays:?}");
    kept.close();
}

#[tokio::test(start_paused = true)]
async fn retries_are_counted_over_failures_and_flaps() {
    for max in [0, 1, 5] {
        let (recorder, mut events) = Recorder::new();
        let dials = Dials::default();
        let conn = counted(refusing(&dials), max, &recorder);
        next_event(&mut events, |event| matches!(event, Event::GaveUp { .. }).then_some(())).await;
        assert_eq!(dials.count() as u32, max + 1);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(dials.count() as u32, max + 1);
        drop(conn);

        let (recorder, mut events) = Recorder::new();
        let dials = Dials::default();
        let flapping = counted(closing(&dials, |_| Duration::ZERO), max, &recorder);
        let reader = tokio::spawn(read_for_ever(flapping));
        next_event(&mut events, |event| matches!(event, Event::GaveUp { .. }).then_some(())).await;
        assert_eq!(dials.count() as u32, max + 1);
        reader.await.unwrap();
    }
}

fn counted(dialer: impl Dial<Stream = DuplexStream>, max: u32, recorder: &Recorder) -> Conn<DuplexStream> {
    conn(dialer).retry_min(S / 10).retry_max(S).max_retries(max).on_event(recorder.hook()).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn dial_timeout_covers_the_whole_dial() {
    let (recorder, mut events) = Recorder::new();
    let dialer = dial_fn(|| async {
        tokio::time::sleep(3 * S).await;
        Ok(tokio::io::duplex(64).0)
    })
    .and_then(|stream| async {
        tokio::time::sleep(3 * S).await;
        Ok(stream)
    });
    let start = Instant::now();
    let conn = conn(dialer).dial_timeout(5 * S).on_event(recorder.hook()).build().unwrap();
    let cause = next_event(&mut events, |event| match event {
        Event::DialFailed { cause, .. } => Some(Arc::clone(cause)),
        _ => None,
    });
    let cause = cause.await;
    assert_eq!(cause.kind(), io::ErrorKind::TimedOut);
    let source = std::error::Error::source(&*cause).unwrap().to_string();
    assert_eq!(source, "the dial took longer than 5s");
    assert!(start.elapsed() >= 5 * S && start.elapsed() < 6 * S);
    drop(conn);
}
