//! What holds for all links: slow, stalled, black holes.

use std::time::{Duration, Instant};

use perconn::testing::{Cut, Direction, FaultProxy, Link, LinkEnd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::in_time;
use crate::{dial, exchange, link, proxy, proxy_and_listener};

const MS: Duration = Duration::from_millis(1);

/// Asserts that nothing can be read for a while.
async fn assert_silent(stream: &mut TcpStream) {
    let read = timeout(100 * MS, stream.read_u8()).await;
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test]
async fn latency_delays_each_direction_and_keeps_the_order() {
    let proxy = proxy().await;
    proxy.latency(30 * MS, 20 * MS);
    let mut client = dial(&proxy).await;
    let began = Instant::now();
    for number in 0..50 {
        client.write_all(&[number]).await.unwrap();
    }
    let mut all = [0; 50];
    in_time("the echo", client.read_exact(&mut all)).await.unwrap();
    assert!(began.elapsed() >= 60 * MS, "{:?}", began.elapsed());
    assert!(all.iter().copied().eq(0..50));
    // What is under way is not held back any longer.
    proxy.latency(Duration::MAX, Duration::ZERO);
    client.write_all(b"x").await.unwrap();
    proxy.heal();
    assert_eq!(in_time("the echo", client.read_u8()).await.unwrap(), b'x');
}

#[tokio::test]
async fn bandwidth_limits_each_direction() {
    let (proxy, listener) = proxy_and_listener().await;
    proxy.bandwidth(100_000);
    let (mut client, mut server) = link(&proxy, &listener).await;
    let began = Instant::now();
    client.write_all(&[0; 20_000]).await.unwrap();
    in_time("the bytes", server.read_exact(&mut [0; 20_000])).await.unwrap();
    assert!(began.elapsed() >= 150 * MS, "{:?}", began.elapsed());
    // A limit that is lifted does not go on, even if one byte takes a second.
    proxy.bandwidth(1);
    client.write_all(&[0; 20_000]).await.unwrap();
    in_time("a byte", server.read_u8()).await.unwrap();
    proxy.heal();
    in_time("the bytes", server.read_exact(&mut [0; 19_999])).await.unwrap();
}

#[tokio::test]
async fn high_bandwidth_is_reached_although_timers_are_late() {
    const BYTES: usize = 2_000_000;
    let (proxy, listener) = proxy_and_listener().await;
    proxy.bandwidth(10_000_000);
    let (mut client, mut server) = link(&proxy, &listener).await;
    let began = Instant::now();
    let sent = vec![0; BYTES];
    let (written, read) = tokio::join!(client.write_all(&sent), async {
        let mut received = vec![0; BYTES];
        in_time("the bytes", server.read_exact(&mut received)).await.map(|_| began.elapsed())
    });
    written.unwrap();
    // At least most of the 0.2 s, and not the 0.4 s of a millisecond lost for each piece, but for a busy machine.
    let took = read.unwrap();
    assert!((150 * MS..5_000 * MS).contains(&took), "{took:?}");
}

#[tokio::test]
async fn link_may_have_limits_of_its_own() {
    let proxy = proxy().await;
    proxy.script([Link::pass().latency(40 * MS, Duration::ZERO).bandwidth(1 << 30), Link::pass()]);
    let (mut slow, mut quick) = (dial(&proxy).await, dial(&proxy).await);
    let began = Instant::now();
    let first = async {
        slow.write_all(b"x").await.unwrap();
        in_time("the echo", slow.read_u8()).await.unwrap();
        began.elapsed()
    };
    let second = async {
        quick.write_all(b"x").await.unwrap();
        in_time("the echo", quick.read_u8()).await.unwrap();
        began.elapsed()
    };
    let (slow, quick) = tokio::join!(first, second);
    assert!(slow >= 80 * MS && quick < slow, "{slow:?} {quick:?}");
}

#[test]
#[should_panic(expected = "bandwidth(0): expected at least 1 byte a second")]
fn bandwidth_of_zero_is_refused() {
    FaultProxy::start_blocking("127.0.0.1:1").unwrap().bandwidth(0);
}

#[tokio::test]
async fn stall_holds_bytes_and_dials_and_loses_nothing() {
    let (proxy, listener) = proxy_and_listener().await;
    let (mut client, mut server) = link(&proxy, &listener).await;
    exchange(&mut client, &mut server).await;
    proxy.stall();
    client.write_all(b"a").await.unwrap();
    server.write_all(b"b").await.unwrap();
    let mut late = dial(&proxy).await;
    assert_silent(&mut client).await;
    assert!(timeout(50 * MS, listener.accept()).await.is_err());
    proxy.heal();
    assert_eq!(in_time("held", client.read_u8()).await.unwrap(), b'b');
    assert_eq!(in_time("held", server.read_u8()).await.unwrap(), b'a');
    let (mut late_server, _) = in_time("the late link", listener.accept()).await.unwrap();
    exchange(&mut late, &mut late_server).await;
}

#[tokio::test]
async fn black_hole_swallows_one_direction_until_the_weather_is_fair() {
    for direction in [Direction::ToServer, Direction::ToClient] {
        let (proxy, listener) = proxy_and_listener().await;
        let (mut client, mut server) = link(&proxy, &listener).await;
        exchange(&mut client, &mut server).await;
        proxy.black_hole(direction);
        let (from, to) = match direction {
            Direction::ToServer => (&mut client, &mut server),
            Direction::ToClient => (&mut server, &mut client),
        };
        from.write_all(b"lost for now").await.unwrap();
        assert_silent(to).await;
        to.write_all(b"!").await.unwrap();
        assert_eq!(in_time("the other direction", from.read_u8()).await.unwrap(), b'!');
        proxy.heal();
        in_time("what was held", to.read_exact(&mut [0; 12])).await.unwrap();
        exchange(&mut client, &mut server).await;
    }
}

#[tokio::test]
async fn black_hole_is_what_the_docs_say_of_this_platform() {
    let (proxy, listener) = proxy_and_listener().await;
    let (mut client, mut server) = link(&proxy, &listener).await;
    exchange(&mut client, &mut server).await;
    proxy.black_hole(Direction::ToServer);
    assert_eq!(FaultProxy::IS_BLACK_HOLE_REAL, cfg!(all(target_os = "linux", not(perconn_portable))));
    let late = timeout(100 * MS, TcpStream::connect(proxy.addr())).await;
    assert_eq!(late.is_err(), FaultProxy::IS_BLACK_HOLE_REAL, "{late:?}");
    // What was swallowed is no obstacle for a cut.
    client.write_all(b"lost").await.unwrap();
    proxy.cut(Cut::Reset);
    assert!(matches!(proxy.ledger()[0].end, Some(LinkEnd::Cut(Cut::Reset))));
}

/// The kernel of a client behind a black hole finds out by itself, as on a network that is cut.
#[cfg(all(target_os = "linux", not(perconn_portable)))]
#[tokio::test]
async fn user_timeout_ends_a_connection_behind_a_black_hole() {
    let (proxy, listener) = proxy_and_listener().await;
    let (mut client, mut server) = link(&proxy, &listener).await;
    exchange(&mut client, &mut server).await;
    socket2::SockRef::from(&client).set_tcp_user_timeout(Some(300 * MS)).unwrap();
    proxy.black_hole(Direction::ToServer);
    client.write_all(b"nobody acknowledges this").await.unwrap();
    let error = in_time("the kernel gives up", client.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn longest_latency_is_a_day_and_ends_at_once_with_fair_weather() {
    let (proxy, listener) = proxy_and_listener().await;
    let (mut client, mut server) = link(&proxy, &listener).await;
    proxy.latency(Duration::MAX, Duration::MAX);
    client.write_all(b"x").await.unwrap();
    assert_silent(&mut server).await;
    proxy.heal();
    assert_eq!(in_time("read", server.read_u8()).await.unwrap(), b'x');
}
