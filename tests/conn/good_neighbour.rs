//! Promise 8, a good neighbour: the delays between dials.
//!
//! They are random from the first redial on, never above `retry_max`, and never below `retry_min` once a dial has failed.
//! They stay spread out at the maximum and start over only after a link has lived for `stable_after`. Most tests run under
//! paused time, so that hours pass at once and every delay is exact.

mod dial_now;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Recorder, next_event};
use perconn::{Builder, Conn, Dial, Event, dial_fn};
use tokio::io::DuplexStream;
use tokio::time::Instant;

const S: Duration = Duration::from_secs(1);

/// The resolution of timers: a delay is rounded up to the next millisecond.
const TICK: Duration = Duration::from_millis(1);

/// The times of dials.
#[derive(Clone, Default)]
struct Dials(Arc<Mutex<Vec<Instant>>>);

impl Dials {
    fn record(&self) -> usize {
        let mut dials = self.0.lock().unwrap();
        dials.push(Instant::now());
        dials.len()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The times between two dials.
    fn delays(&self) -> Vec<Duration> {
        self.0.lock().unwrap().windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

/// A dialer that fails at each dial.
fn refusing(dials: &Dials) -> impl Dial<Stream = DuplexStream> {
    let dials = dials.clone();
    dial_fn(move || {
        dials.record();
        std::future::ready(Err(io::ErrorKind::ConnectionRefused.into()))
    })
}

/// A dialer whose peer closes after the time that `life` returns for each dial.
fn closing(dials: &Dials, life: impl Fn(usize) -> Duration + Send + 'static) -> impl Dial<Stream = DuplexStream> {
    let dials = dials.clone();
    dial_fn(move || {
        let life = life(dials.record());
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

/// Reads until an error. Without a read, the break of a stream that is not a socket is not noticed.
async fn read_until_error(mut conn: Conn<DuplexStream>) {
    use tokio::io::AsyncReadExt;
    while conn.read(&mut [0; 64]).await.is_ok() {}
}

#[tokio::test(start_paused = true)]
async fn delays_of_failed_dials_stay_within_their_windows_for_days() {
    let dials = Dials::default();
    let conn = conn(refusing(&dials)).build().unwrap();
    tokio::time::sleep(Duration::from_secs(3 * 24 * 3600)).await;
    drop(conn);
    let delays = dials.delays();
    assert!(delays.len() > 5_000);
    for (n, delay) in delays.iter().enumerate() {
        let upper = S * 2_u32.pow((n + 1).min(6) as u32);
        assert!(S <= *delay && *delay <= upper.min(60 * S) + TICK, "delay {n} is {delay:?}");
    }
    // At the maximum they are spread over the whole window.
    let at_max = &delays[10..];
    for quarter in 0..4 {
        let share = at_max.iter().filter(|delay| (delay.as_secs_f64() - 1.0) * 4.0 / 59.0 >= f64::from(quarter));
        let share = share.filter(|delay| (delay.as_secs_f64() - 1.0) * 4.0 / 59.0 < f64::from(quarter + 1)).count();
        assert!(share > at_max.len() / 5, "quarter {quarter} has {share} of {}", at_max.len());
    }
}

#[tokio::test(start_paused = true)]
async fn server_that_accepts_and_closes_is_dialed_with_the_backoff() {
    let dials = Dials::default();
    let conn = conn(closing(&dials, |_| Duration::ZERO)).build().unwrap();
    let reader = tokio::spawn(read_until_error(conn));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    reader.abort();
    let delays = dials.delays();
    assert!(delays[0] <= S + 2 * TICK, "the first redial comes after a part of retry_min: {:?}", delays[0]);
    for (n, delay) in delays.iter().enumerate().skip(1) {
        assert!(S <= *delay && *delay <= 60 * S + 2 * TICK, "delay {n} is {delay:?}");
    }
    // The mean at the maximum is 30.5 s: 118 dials an hour, and a few more at the start.
    assert!((90..160).contains(&dials.count()), "{} dials in an hour", dials.count());
}

/// The same over real sockets and in real time: the time that has passed limits the number of dials.
#[tokio::test]
async fn server_that_accepts_and_closes_is_not_hammered() {
    let server = crate::support::Server::start().await;
    let min = Duration::from_millis(40);
    let start = std::time::Instant::now();
    let builder = Conn::builder(server.address).retry_min(min).retry_max(3 * min).logger(|_| {});
    let conn = builder.stable_after(S).build().unwrap();
    for _ in 0..10 {
        drop(server.accept().await);
    }
    // The first dial comes at once, the second after a part of `retry_min`, each later one after at least `retry_min`.
    let elapsed = start.elapsed();
    assert!(elapsed >= 8 * min, "10 dials in {elapsed:?}");
    drop(conn);
}

#[tokio::test(start_paused = true)]
async fn failed_set_up_is_a_failed_dial() {
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
    // Nine short links, then long ones.
    let dials = Dials::default();
    let life = |dial| if dial < 10 { 2 * S } else { 10 * S };
    let conn = conn(closing(&dials, life)).stable_after(10 * S).build().unwrap();
    let reader = tokio::spawn(read_until_error(conn));
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
async fn two_hundred_clients_redial_spread_out() {
    // All lose their server at the same moment, and it is back at once.
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
        clients.push(tokio::spawn(read_until_error(conn.build().unwrap())));
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
async fn links_broken_on_purpose_are_redialed_with_the_backoff() {
    use tokio::io::AsyncWriteExt;
    for is_abandoned in [false, true] {
        let dials = Dials::default();
        let recorded = dials.clone();
        let (keep, mut kept) = tokio::sync::mpsc::unbounded_channel();
        let conn = conn(dial_fn(move || {
            recorded.record();
            let (near, far) = tokio::io::duplex(64);
            keep.send(far).unwrap();
            std::future::ready(Ok(near))
        }));
        let mut conn = conn.build().unwrap();
        for generation in 1..=20 {
            conn.connected().await.unwrap();
            if is_abandoned {
                conn.write_all(b"request").await.unwrap();
                conn.abandon();
            } else {
                conn.break_link(generation);
            }
        }
        let delays = dials.delays();
        assert_eq!(delays.len(), 19);
        assert!(delays[1..].iter().all(|delay| *delay >= S), "{delays:?}");
        kept.close();
    }
}

#[tokio::test(start_paused = true)]
async fn failed_dials_and_short_links_count_as_retries() {
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
        let reader = tokio::spawn(read_until_error(flapping));
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
