//! `dial_now` cuts a delay short, and no number of calls makes the dials follow each other more closely than `retry_min`.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::in_time;
use perconn::{Conn, Dial, dial_fn};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::time::{Instant, sleep};

const S: Duration = Duration::from_secs(1);
/// The runtime's timers are exact to a millisecond.
const TICK: Duration = Duration::from_millis(2);

/// When each dial began.
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

/// The far end of a link, which the test closes by dropping it.
type Far = Arc<Mutex<Option<DuplexStream>>>;

/// A dialer whose links live until the test drops their far end. The links from `lives` on are closed at once.
fn pipes(dials: &Dials, far: &Far, lives: usize) -> impl Dial<Stream = DuplexStream> + use<> {
    let (dials, far) = (dials.clone(), Arc::clone(far));
    dial_fn(move || {
        let (near, other) = tokio::io::duplex(64);
        *far.lock().unwrap() = (dials.record() <= lives).then_some(other);
        std::future::ready(io::Result::Ok(near))
    })
}

#[tokio::test(start_paused = true)]
async fn calls_after_every_error_and_all_the_time_dial_at_most_once_in_retry_min() {
    let (dials, far) = (Dials::default(), Far::default());
    // All settings at their defaults: `retry_min` is a second, and a link is stable after ten.
    let conn = Conn::builder("accepts and closes").logger(|_| {}).dialer(pipes(&dials, &far, 0)).build().unwrap();
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
    let recorded = dials.clone();
    let refusing = dial_fn(move || {
        recorded.record();
        std::future::ready(io::Result::<DuplexStream>::Err(io::ErrorKind::ConnectionRefused.into()))
    });
    let conn = Conn::builder("refuses").logger(|_| {}).retry_max(3600 * S).dialer(refusing).build().unwrap();
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
        assert!(delay >= S && waited <= S + TICK, "hint after {wait:?}: dialed {delay:?} after the last dial");
        if wait > S {
            assert!(waited <= TICK, "nothing was dialed for long: {waited:?}");
        }
    }
    conn.close().await;
    conn.dial_now();
}

#[tokio::test(start_paused = true)]
async fn break_of_an_old_link_is_dialed_at_once() {
    let (dials, far) = (Dials::default(), Far::default());
    let conn = Conn::builder("stable").logger(|_| {}).retry_min(600 * S).retry_max(600 * S);
    let mut conn = conn.dialer(pipes(&dials, &far, 9)).connect().await.unwrap();
    sleep(1000 * S).await;
    far.lock().unwrap().take();
    assert_eq!(in_time("the close", conn.read(&mut [0; 4])).await.unwrap(), 0);
    let broken = Instant::now();
    conn.dial_now();
    conn.connected().await.unwrap();
    assert!(broken.elapsed() <= TICK, "{:?}", broken.elapsed());
}

#[tokio::test(start_paused = true)]
async fn dial_under_way_goes_on_and_a_live_link_is_left_alone() {
    let dials = Dials::default();
    let recorded = dials.clone();
    let slow = dial_fn(move || {
        recorded.record();
        async {
            sleep(5 * S).await;
            Ok(tokio::io::duplex(64).0)
        }
    });
    let conn = Conn::builder("slow").logger(|_| {}).dialer(slow).build().unwrap();
    sleep(S).await;
    conn.dial_now();
    sleep(S).await;
    conn.dial_now();
    conn.connected().await.unwrap();
    conn.dial_now();
    sleep(100 * S).await;
    assert_eq!((dials.count(), conn.generation(), conn.is_connected()), (1, 1, true));
}
