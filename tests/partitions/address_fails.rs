//! Dials to an address that is unreachable, drops every packet, or belongs to a server that does not accept.

use std::io;
use std::time::{Duration, Instant};

use perconn::{Conn, Error, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::calls::{BreakReport, echo};
use crate::in_a_lab::in_a_lab;
use crate::lab::{SERVER_NAME, SERVER_V6};
use crate::net::{LATE, Net, PORT, T, limits_since};
use crate::server::Mode;
use crate::server_process::Server;
use crate::support::{HANG_LIMIT, Recorder, in_time, next_event, quick};

/// The number and the kind of a failed dial.
fn failed_dial(event: &Event) -> Option<(u32, io::ErrorKind)> {
    match event {
        Event::DialFailed { attempt, cause, .. } => Some((*attempt, cause.kind())),
        _ => None,
    }
}

#[test]
fn dial_to_an_unreachable_address_fails_at_once() {
    in_a_lab(async |net: &Net| {
        net.refuse_to_server();
        let dialed = Instant::now();
        let error = in_time("connect", net.client().dial_timeout(None).connect()).await.unwrap_err();
        net.print(format_args!("failed after {:.3} T", limits_since(dialed)));
        assert!(matches!(error, Error::DialFailure { attempt: 1, .. }), "{error:?}");
        assert_eq!(error.kind(), io::ErrorKind::HostUnreachable);
    });
}

#[test]
fn live_link_survives_an_unreachable_address_until_user_timeout() {
    in_a_lab(async |net: &Net| {
        let _server = Server::start(net, Mode::Echo).await;
        let mut unlimited = net.client().connect().await.unwrap();
        let mut limited = net.client().user_timeout(T).connect().await.unwrap();
        echo(&mut unlimited).await;
        echo(&mut limited).await;
        net.refuse_to_server();
        let cut = Instant::now();
        limited.write_all(b"ping").await.unwrap();
        // The answer to this write arrives when the address is back.
        let (report, ()) = tokio::join!(BreakReport::reading(&mut limited), async {
            let waiting = timeout(2 * T, echo(&mut unlimited)).await;
            assert!(waiting.is_err(), "a packet passed the cut");
        });
        let after = (report.at - cut).as_secs_f64() / T.as_secs_f64();
        net.print(format_args!("user_timeout: {:?} after {after:.2} T", report.kind));
        assert_eq!((report.generation, report.unacknowledged), (1, Some(4)));
        assert!(0.9 < after && after < LATE, "{after}");
        net.heal_to_server();
        let mut answer = [0; 4];
        in_time("the answer", unlimited.read_exact(&mut answer)).await.unwrap();
        assert_eq!((&answer, unlimited.generation()), (b"ping", 1));
    });
}

#[test]
fn dial_to_a_full_backlog_times_out_and_a_later_one_succeeds() {
    in_a_lab(async |net: &Net| {
        let mut server = Server::start(net, Mode::Gate).await;
        let mut queue = Vec::new();
        while let Ok(queued) = timeout(T, TcpStream::connect(net.address(PORT))).await {
            queue.push(queued.unwrap());
        }
        let dialed = Instant::now();
        let error = in_time("connect", net.client().dial_timeout(T).connect()).await.unwrap_err();
        let after = limits_since(dialed);
        net.print(format_args!("failed after {after:.2} T, {} in the queue", queue.len()));
        assert!(matches!(error, Error::DialFailure { attempt: 1, .. }), "{error:?}");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(0.9 < after && after < LATE, "{after}");
        let (recorder, mut events) = Recorder::new();
        let mut conn = net.client().on_event(recorder.hook()).build().unwrap();
        assert_eq!(next_event(&mut events, failed_dial).await, (1, io::ErrorKind::TimedOut));
        server.open().await;
        let opened = Instant::now();
        echo(&mut conn).await;
        net.print(format_args!("up {:.2} T after the server accepts", limits_since(opened)));
    });
}

/// The server's name has an IPv6 address and an IPv4 address, in this order. The first one becomes a black hole.
async fn with_a_black_hole_at_the_first_address(net: &Net, dial_timeout: Duration) -> (u32, Duration) {
    let _server = Server::start(net, Mode::Echo).await;
    let addresses: Vec<_> = tokio::net::lookup_host((SERVER_NAME, PORT)).await.unwrap().collect();
    assert!(addresses.len() == 2 && addresses[0].is_ipv6(), "{addresses:?}");
    net.wait_for_way_to(SERVER_V6);
    let (recorder, mut events) = Recorder::new();
    let mut conn = quick(Conn::builder((SERVER_NAME, PORT))).connect().await.unwrap();
    assert!(conn.peer_addr().unwrap().is_ipv6());
    echo(&mut conn).await;
    net.drop_v6_to_server();
    let dialed = Instant::now();
    let builder = quick(Conn::builder((SERVER_NAME, PORT))).dial_timeout(dial_timeout).on_event(recorder.hook());
    let mut conn = builder.build().unwrap();
    let connected = |event: &Event| match event {
        Event::Connected { attempt, .. } => Some(*attempt),
        _ => None,
    };
    let attempt = next_event(&mut events, connected).await;
    let after = dialed.elapsed();
    echo(&mut conn).await;
    assert!(conn.peer_addr().unwrap().is_ipv4());
    (attempt, after)
}

#[test]
fn black_hole_at_the_first_address_delays_the_dial_by_its_head_start() {
    in_a_lab(async |net: &Net| {
        let (attempt, after) = with_a_black_hole_at_the_first_address(net, HANG_LIMIT).await;
        net.print(format_args!("up after {after:?}, in dial {attempt}"));
        assert_eq!(attempt, 1);
        assert!(Duration::from_millis(250) <= after, "{after:?}");
    });
}

#[test]
fn black_hole_at_the_first_address_fails_one_dial_shorter_than_its_head_start() {
    in_a_lab(async |net: &Net| {
        let (attempt, after) = with_a_black_hole_at_the_first_address(net, Duration::from_millis(150)).await;
        net.print(format_args!("up after {after:?}, in dial {attempt}"));
        assert_eq!(attempt, 2);
    });
}
