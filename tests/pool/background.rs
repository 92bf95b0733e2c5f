//! What the pool closes in the background, without being asked for it.

use std::io;
use std::sync::mpsc as blocking_mpsc;
use std::time::Duration;

use perconn::pool::{CloseReason, Event, Pool, PoolBuilder, Resource};
use perconn::testing::{Cut, FaultProxy};
use perconn::{Dial, TcpDialer};
use tokio::io::BufStream;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_test::task::spawn;

use crate::fixtures::{EchoServer, assert_all_given_back, echo};
use crate::support::{HANG_LIMIT, in_time};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// Reports the time and the reason of each close.
fn watched(builder: PoolBuilder) -> (Pool, mpsc::UnboundedReceiver<(Instant, String, CloseReason)>) {
    let (sender, closed) = mpsc::unbounded_channel();
    let hook = move |event: &Event| {
        if let Event::Closed { name, reason, .. } = event {
            sender.send((Instant::now(), name.to_string(), *reason)).unwrap();
        }
    };
    (builder.on_event(hook).build().unwrap(), closed)
}

fn number(pool: &Pool, name: &str) -> Resource<u8> {
    pool.resource_fn(name, || std::future::ready(Ok(1)))
}

/// Opens many connections at this moment. Returns when the pool closes them.
async fn ages_of_a_crowd(max_age: Duration, count: usize) -> Vec<Duration> {
    let (pool, mut closed) = watched(Pool::builder(count).max_age(max_age));
    let resources: Vec<_> = (0..count).map(|_| number(&pool, "one of many")).collect();
    let began = Instant::now();
    for resource in &resources {
        drop(resource.get().await.unwrap());
    }
    let mut ages = Vec::new();
    while ages.len() < count {
        let (time, _, reason) = closed.recv().await.unwrap();
        assert_eq!(reason, CloseReason::Aged);
        ages.push(time - began);
    }
    assert_eq!(pool.stats().idle, 0);
    ages
}

#[tokio::test(start_paused = true)]
async fn connections_that_were_opened_together_do_not_expire_together() {
    let ages = ages_of_a_crowd(1_000 * S, 400).await;
    // The limit is up to a tenth lower, and they are closed at most half a percent later.
    let mut bins = [0; 11];
    for age in ages {
        assert!(age >= 900 * S && age <= 1_006 * S, "{age:?}");
        bins[((age - 900 * S).as_secs() / 10) as usize] += 1;
    }
    assert!(bins[..10].iter().all(|&count| (10..90).contains(&count)), "{bins:?}");
}

#[tokio::test(start_paused = true)]
async fn age_limit_is_never_above_the_setting_nor_more_than_a_tenth_below() {
    for age in [20 * MS, 10 * S, 3_600 * S] {
        let ages = ages_of_a_crowd(age, 20).await;
        let (first, last) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());
        // The clock of a paused runtime has ticks of a millisecond.
        assert!(*first >= age * 9 / 10 && *last <= age + age / 200 + 3 * MS, "{age:?}: {first:?} to {last:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn connection_that_becomes_too_old_in_use_is_closed_when_it_comes_back() {
    let (pool, mut closed) = watched(Pool::builder(2).max_age(100 * S));
    let (used, idle) = (number(&pool, "used"), number(&pool, "idle"));
    let conn = used.get().await.unwrap();
    drop(idle.get().await.unwrap());
    sleep(200 * S).await;
    assert_eq!(closed.try_recv().unwrap().1, "idle");
    assert!(closed.try_recv().is_err());
    drop(conn);
    let (_, name, reason) = closed.try_recv().unwrap();
    assert_eq!((name.as_str(), reason), ("used", CloseReason::Aged));
}

#[tokio::test]
async fn connection_whose_peer_has_gone_is_closed_without_being_asked_for() {
    let server = EchoServer::start().await;
    let proxy = FaultProxy::start(server.address).await.unwrap();
    let (pool, mut closed) = watched(Pool::builder(4).check_idle_every(5 * MS));
    let plain = pool.resource(proxy.addr()).unwrap();
    let dialer = TcpDialer::new(proxy.addr()).and_then(|stream: TcpStream| async { Ok(BufStream::new(stream)) });
    let layered = pool.resource_with("layered", dialer).unwrap();
    let kept = pool.resource(server.address).unwrap();
    echo(&mut in_time("get", plain.get()).await.unwrap()).await;
    echo(&mut in_time("get", kept.get()).await.unwrap()).await;
    drop(in_time("get", layered.get()).await.unwrap());
    proxy.cut(Cut::Close);
    for _ in 0..2 {
        let (_, name, reason) = in_time("the close", closed.recv()).await.unwrap();
        assert_eq!(reason, CloseReason::Dead);
        assert!(name == "layered" || name == proxy.addr().to_string(), "{name}");
    }
    assert_eq!((pool.stats().idle, pool.stats().found_dead), (1, 2));
    assert!(in_time("get", kept.get()).await.unwrap().is_reused());
    assert_all_given_back(&pool);
}

#[tokio::test(start_paused = true)]
async fn checks_change_neither_the_order_nor_the_idle_times_of_the_connections() {
    let (pool, mut closed) = watched(Pool::builder(5).check_idle_every(S).idle_timeout(100 * S));
    let names = ["a", "b", "c", "d", "e"];
    let resources = names.map(|name| number(&pool, name));
    for resource in &resources {
        drop(resource.get().await.unwrap());
        sleep(10 * S).await;
    }
    let slots = [(); 2].map(|()| pool.try_slot().unwrap());
    for name in ["a", "b"] {
        let (_, evicted, reason) = closed.try_recv().unwrap();
        assert_eq!((evicted.as_str(), reason), (name, CloseReason::Evicted));
    }
    let began = Instant::now() - 50 * S;
    for (index, name) in ["c", "d", "e"].into_iter().enumerate() {
        let (time, idle, reason) = closed.recv().await.unwrap();
        assert_eq!((idle.as_str(), reason), (name, CloseReason::Idle));
        let expected = (120 + 10 * index as u32) * S;
        assert!(time - began >= expected && time - began <= expected + S, "{name}: {:?}", time - began);
    }
    drop(slots);
    assert_all_given_back(&pool);
}

/// Reads and writes a stream of a test through the stream inside.
macro_rules! delegate_io {
    ($type:ty, $field:tt) => {
        impl tokio::io::AsyncRead for $type {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::pin::Pin::new(&mut self.$field).poll_read(cx, buf)
            }
        }

        impl tokio::io::AsyncWrite for $type {
            fn poll_write(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bytes: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                std::pin::Pin::new(&mut self.$field).poll_write(cx, bytes)
            }

            fn poll_flush(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::pin::Pin::new(&mut self.$field).poll_flush(cx)
            }

            fn poll_shutdown(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::pin::Pin::new(&mut self.$field).poll_shutdown(cx)
            }
        }
    };
}

/// Says that it waits in a check, and then waits for the answer.
type Gate = (blocking_mpsc::Sender<()>, blocking_mpsc::Receiver<bool>);

/// A stream whose check the test answers.
struct Gated(std::sync::Mutex<Option<Gate>>, tokio::io::DuplexStream);

delegate_io!(Gated, 1);

struct GatedDialer(Option<Gate>);

impl Dial for GatedDialer {
    type Stream = Gated;

    async fn dial(&mut self) -> io::Result<Gated> {
        let (stream, peer) = tokio::io::duplex(8);
        std::mem::forget(peer);
        Ok(Gated(std::sync::Mutex::new(self.0.take()), stream))
    }

    fn is_closed(stream: &Gated) -> bool {
        // Only the first check.
        let gate = stream.0.lock().unwrap().take();
        gate.is_some_and(|(begins, answer)| {
            begins.send(()).unwrap();
            answer.recv().unwrap()
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caller_that_asks_during_a_check_waits_for_it() {
    for is_closed in [false, true] {
        let (begins, has_begun) = blocking_mpsc::channel();
        let (answer, answers) = blocking_mpsc::channel();
        let (pool, mut closed) = watched(Pool::builder(1).check_idle_every(MS));
        let resource = pool.resource_with("gated", GatedDialer(Some((begins, answers)))).unwrap();
        drop(in_time("a dial", resource.get()).await.unwrap());
        tokio::task::block_in_place(|| has_begun.recv_timeout(HANG_LIMIT)).expect("the check begins");
        let mut waits = spawn(resource.get());
        assert!(waits.poll().is_pending());
        answer.send(is_closed).unwrap();
        let conn = in_time("the caller", waits).await.unwrap();
        assert_eq!(conn.is_reused(), !is_closed);
        if is_closed {
            assert_eq!(in_time("the event", closed.recv()).await.unwrap().2, CloseReason::Dead);
        }
        drop(conn);
        assert_all_given_back(&pool);
    }
}

#[test]
fn connections_of_a_runtime_that_is_gone_are_closed_by_the_next() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (pool, mut closed) = watched(Pool::builder(2).check_idle_every(5 * MS));
    let (tcp, other) = (pool.resource(listener.local_addr().unwrap()).unwrap(), number(&pool, "other"));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime().block_on(async { drop(tcp.get().await.unwrap()) });
    let second = runtime();
    second.block_on(async { drop(other.get().await.unwrap()) });
    let (_, name, reason) = second.block_on(in_time("the close", closed.recv())).unwrap();
    assert_eq!((name.as_str(), reason), (tcp.name(), CloseReason::Dead));
    assert_eq!(pool.stats().idle, 1);
}
