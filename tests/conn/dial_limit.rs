//! A limit of dials that connections share.
//!
//! What waits is seen in `waiting` and `dialing` of the limit. Tests of the rate have their time paused.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Recorder, Server, in_time, next_event, quick, wait_for_generation};
use perconn::{Conn, Dial, DialLimit, Error, Event, Status, dial_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const S: Duration = Duration::from_secs(1);

/// Counts the dials that are under way, the most that ever were, and all that have begun.
#[derive(Clone, Default)]
struct UnderWay(Arc<[AtomicUsize; 3]>);

impl UnderWay {
    fn begin(&self) -> impl Drop + use<> {
        struct End(UnderWay);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.0[0].fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.0[2].fetch_add(1, Ordering::SeqCst);
        self.0[1].fetch_max(self.0[0].fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        End(self.clone())
    }

    fn most(&self) -> usize {
        self.0[1].load(Ordering::SeqCst)
    }

    fn begun(&self) -> usize {
        self.0[2].load(Ordering::SeqCst)
    }
}

/// Dials that wait for the test, and the names of those that have begun.
#[derive(Clone)]
struct Held {
    begun: Arc<Mutex<Vec<usize>>>,
    ends: Arc<Semaphore>,
}

impl Held {
    fn new() -> Self {
        Self { begun: Arc::default(), ends: Arc::new(Semaphore::new(0)) }
    }

    /// A dialer whose dials succeed when the test lets them.
    fn dialer(&self, name: usize) -> impl Dial<Stream = DuplexStream> + use<> {
        let held = self.clone();
        dial_fn(move || {
            let held = held.clone();
            async move {
                held.begun.lock().unwrap().push(name);
                held.ends.acquire().await.unwrap().forget();
                Ok(tokio::io::duplex(8).0)
            }
        })
    }

    fn begun(&self) -> Vec<usize> {
        self.begun.lock().unwrap().clone()
    }
}

/// Waits until this is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    in_time(what, async {
        while !is_so() {
            sleep(Duration::from_micros(100)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crowd_that_redials_a_restarted_server_dials_at_most_at_once() {
    const CONNS: usize = 100;
    const AT_ONCE: usize = 7;
    let mut server = Server::start().await;
    let address = server.address;
    let limit = DialLimit::new(AT_ONCE, 10_000).unwrap();
    let under_way = UnderWay::default();
    let conns: Vec<_> = (0..CONNS)
        .map(|_| {
            let under_way = under_way.clone();
            // The set-up is a part of the dial.
            let dialer = dial_fn(move || {
                let guard = under_way.begin();
                async move {
                    let _guard = guard;
                    let mut stream = TcpStream::connect(address).await?;
                    stream.read_u8().await?;
                    Ok(stream)
                }
            });
            quick(Conn::builder(address)).dialer(dialer).dial_limit(&limit).build().unwrap()
        })
        .collect();
    for generation in [1, 2, 3] {
        let mut greeted = Vec::new();
        while greeted.len() < CONNS {
            let mut stream = server.accept().await;
            stream.write_u8(1).await.unwrap();
            greeted.push(stream);
        }
        for conn in &conns {
            wait_for_generation(conn, generation).await;
        }
        server.stop();
        drop(greeted);
        for conn in &conns {
            crate::support::wait_for_break(conn).await;
        }
        let begun = under_way.begun();
        until("many dials are refused", || under_way.begun() >= begun + 2 * CONNS).await;
        server.restart().await;
    }
    drop(conns);
    until("all have left", || limit.waiting() + limit.dialing() == 0).await;
    let most = under_way.most();
    assert!((2..=AT_ONCE).contains(&most), "{most} dials at once");
}

#[tokio::test(start_paused = true)]
async fn dials_of_a_crowd_begin_at_the_rate() {
    for (conns, per_second) in [(100, 7), (300, 50), (3_000, 1_000)] {
        let limit = DialLimit::new(1_000, per_second).unwrap();
        let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let all: Vec<_> = (0..conns)
            .map(|_| {
                let times = Arc::clone(&times);
                let dialer = dial_fn(move || {
                    times.lock().unwrap().push(Instant::now());
                    std::future::ready(Ok(tokio::io::duplex(8).0))
                });
                Conn::builder("memory").dialer(dialer).dial_limit(&limit).build().unwrap()
            })
            .collect();
        for conn in &all {
            conn.connected().await.unwrap();
        }
        let times = times.lock().unwrap();
        let share = per_second as usize;
        for (index, from) in times.iter().enumerate() {
            let count = times[index..].iter().take_while(|time| **time - *from < S).count();
            assert!(count <= share, "{count} dials within a second from {:?}", *from - times[0]);
        }
        let (took, expected) = ((times[conns - 1] - times[0]).as_secs_f64(), (conns - 1) as f64 / share as f64);
        assert!((expected * 0.95..expected * 1.05).contains(&took), "{took} s for {conns} dials, {share} a second");
    }
}

#[tokio::test]
async fn waiting_connections_dial_in_the_order_in_which_they_came() {
    let limit = DialLimit::new(1, 10_000).unwrap();
    let held = Held::new();
    let mut conns = Vec::new();
    for name in 0..100 {
        conns.push(Conn::builder("held").dialer(held.dialer(name)).dial_limit(&limit).build().unwrap());
        until("it waits", || limit.waiting() == name && held.begun().len() == 1).await;
    }
    for count in 1..=100 {
        until("the next dial begins", || held.begun().len() == count).await;
        held.ends.add_permits(1);
    }
    for conn in &conns {
        in_time("it connects", conn.connected()).await.unwrap();
    }
    assert_eq!(held.begun(), (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn close_or_drop_while_waiting_ends_the_wait_and_gives_the_place_up() {
    let limit = DialLimit::new(1, 10_000).unwrap();
    let held = Held::new();
    let mut conns = Vec::new();
    for name in 0..5 {
        conns.push(Conn::builder("held").dialer(held.dialer(name)).dial_limit(&limit).build().unwrap());
        until("it waits", || limit.waiting() == name && held.begun().len() == 1).await;
    }
    assert_eq!((conns[1].status(), limit.dialing()), (Status::Connecting, 1));
    in_time("a close", conns[1].close()).await;
    assert_eq!(limit.waiting(), 3);
    drop(conns.remove(2));
    until("the drop", || limit.waiting() == 2).await;
    let connecting = Conn::builder("held").dialer(held.dialer(5)).dial_limit(&limit).connect();
    assert!(tokio::time::timeout(S / 20, connecting).await.is_err());
    until("the dropped connect", || limit.waiting() == 2).await;
    held.ends.add_permits(5);
    in_time("it connects", conns.pop().unwrap().connected()).await.unwrap();
    assert_eq!(held.begun(), [0, 3, 4]);
}

#[tokio::test]
async fn close_during_a_dial_gives_its_turn_to_the_next() {
    let limit = DialLimit::new(1, 10_000).unwrap();
    let held = Held::new();
    let conns = [0, 1].map(|name| Conn::builder("held").dialer(held.dialer(name)).dial_limit(&limit).build().unwrap());
    until("one waits", || limit.waiting() == 1 && held.begun().len() == 1).await;
    in_time("a close", conns[held.begun()[0]].close()).await;
    until("the other dials", || limit.waiting() == 0 && held.begun().len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn wait_is_no_attempt_and_takes_nothing_of_the_dial_timeout() {
    let limit = DialLimit::new(1, 10_000).unwrap();
    let long = dial_fn(|| async {
        sleep(600 * S).await;
        Ok(tokio::io::duplex(8).0)
    });
    let (recorder, mut events) = Recorder::new();
    let first = Conn::builder("takes ten minutes").dialer(long).dial_timeout(None).dial_limit(&limit).build().unwrap();
    until("it dials", || limit.dialing() == 1).await;
    let short = dial_fn(|| async {
        sleep(4 * S).await;
        Ok(tokio::io::duplex(8).0)
    });
    let second = Conn::builder("takes four seconds").dialer(short).max_retries(0).dial_timeout(5 * S);
    let second = second.dial_limit(&limit).on_event(recorder.hook()).build().unwrap();
    first.connected().await.unwrap();
    second.connected().await.unwrap();
    assert!(matches!(recorder.events()[..], [Event::Connected { attempt: 1, .. }]), "{:?}", recorder.events());
    let _ = events.recv().await;
}

#[tokio::test(start_paused = true)]
async fn dial_now_passes_nobody_and_what_is_called_while_waiting_shortens_no_delay() {
    let limit = DialLimit::new(1, 10_000).unwrap();
    let held = Held::new();
    let (recorder, mut events) = Recorder::new();
    let refusing = dial_fn(|| std::future::ready(Err::<DuplexStream, _>(io::ErrorKind::ConnectionRefused.into())));
    let first = Conn::builder("held").dialer(held.dialer(0)).dial_timeout(None).dial_limit(&limit).build().unwrap();
    until("it dials", || limit.dialing() == 1).await;
    let second = Conn::builder("held").dialer(held.dialer(1)).dial_timeout(None).dial_limit(&limit).build().unwrap();
    until("it waits", || limit.waiting() == 1).await;
    let third = Conn::builder("refuses").dialer(refusing).retry_min(60 * S).retry_max(3600 * S).logger(|_| {});
    let third = third.dial_limit(&limit).jitter_seed(1).on_event(recorder.hook()).build().unwrap();
    until("it waits", || limit.waiting() == 2).await;
    for _ in 0..100 {
        third.dial_now();
        tokio::task::yield_now().await;
    }
    assert_eq!((held.begun(), limit.waiting()), (vec![0], 2));
    held.ends.add_permits(2);
    first.connected().await.unwrap();
    second.connected().await.unwrap();
    let retry_in = next_event(&mut events, |event| match event {
        Event::DialFailed { retry_in, attempt: 1, .. } => Some(*retry_in),
        _ => None,
    });
    // Cut short, it would be `retry_min`.
    assert!(retry_in.await.unwrap() > 60 * S);
}

#[tokio::test]
async fn dial_that_fails_or_panics_or_takes_too_long_ends_its_turn() {
    let limit = DialLimit::new(1, 10_000).unwrap();
    let kinds: [fn() -> io::Result<DuplexStream>; 2] =
        [|| Err(io::ErrorKind::ConnectionRefused.into()), || panic!("on purpose")];
    for fail in kinds {
        let dialer = dial_fn(move || async move { fail() });
        let failed = Conn::builder("fails").logger(|_| {}).dialer(dialer).dial_limit(&limit).connect();
        in_time("it fails", failed).await.unwrap_err();
        until("its turn ends", || limit.dialing() == 0).await;
    }
    let hangs = Conn::builder("hangs").logger(|_| {}).dialer(Held::new().dialer(0)).dial_timeout(S / 100);
    in_time("it fails", hangs.dial_limit(&limit).connect()).await.unwrap_err();
    until("its turn ends", || limit.dialing() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crowd_that_comes_and_goes_leaves_nothing_behind() {
    let server = Server::start().await;
    let limit = DialLimit::new(5, 20_000).unwrap();
    let address = server.address;
    let accepting = tokio::spawn(async move {
        loop {
            drop(server.accept_for_ever().await);
        }
    });
    let mut tasks = JoinSet::new();
    for number in 0..200_u64 {
        let limit = limit.clone();
        tasks.spawn(async move {
            let conn = quick(Conn::builder(address)).dial_limit(&limit).build().unwrap();
            if number % 3 == 0 {
                conn.connected().await.unwrap();
            }
            for _ in 0..number % 7 {
                tokio::task::yield_now().await;
            }
            if number % 2 == 0 {
                conn.close().await;
            }
        });
    }
    in_time("the crowd", tasks.join_all()).await;
    until("all have left", || limit.waiting() + limit.dialing() == 0).await;
    accepting.abort();
}

#[test]
fn runtime_without_time_is_an_error() {
    let limit = DialLimit::new(1, 1).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let dialer = dial_fn(|| std::future::ready(Ok(tokio::io::duplex(8).0)));
    let connecting = async {
        Conn::builder("memory").dialer(dialer).dial_timeout(None).dial_limit(&limit).logger(|_| {}).connect().await
    };
    let error = runtime.block_on(connecting).unwrap_err();
    assert!(matches!(error, Error::RuntimeShutdown), "{error:?}");
    assert_eq!((limit.waiting(), limit.dialing()), (0, 0));
}

#[tokio::test]
async fn outage_of_a_connection_that_waits_looks_like_any_other() {
    let limit = DialLimit::new(1, 10_000).unwrap();
    let held = Held::new();
    let first = Conn::builder("held").dialer(held.dialer(0)).dial_limit(&limit).build().unwrap();
    until("it dials", || limit.dialing() == 1).await;
    let builder = Conn::builder("held").dialer(held.dialer(1)).dial_limit(&limit);
    let text = format!("{builder:?}");
    assert!(text.contains("DialLimit { at_once: 1, per_second: 10000, dialing: 1, waiting: 0 }"), "{text}");
    let waits = builder.build().unwrap();
    until("it waits", || limit.waiting() == 1).await;
    assert_eq!(waits.status(), Status::Connecting);
    drop(first);
}
