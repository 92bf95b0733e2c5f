//! Names whose addresses change, whose first address does not serve, or which the resolver does not answer.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use perconn::{Conn, Event};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::calls::echo;
use crate::in_a_lab::in_a_lab;
use crate::lab::{SERVER, SERVER_NAME};
use crate::net::{Net, PORT, T};
use crate::server::Mode;
use crate::server_process::Server;
use crate::support::{Recorder, in_time, next_event, quick};

#[test]
fn name_is_resolved_at_each_dial() {
    in_a_lab(async |net: &Net| {
        let _server = Server::start(net, Mode::Echo).await;
        // At first the name points to this machine.
        net.name_points_to(&["127.0.0.1"]);
        let old = TcpListener::bind(("127.0.0.1", PORT)).await.unwrap();
        let (recorder, mut events) = Recorder::new();
        let builder = quick(Conn::builder((SERVER_NAME, PORT))).on_event(recorder.hook());
        let mut conn = builder.connect().await.unwrap();
        let (peer, _) = old.accept().await.unwrap();
        assert!(conn.peer_addr().unwrap().ip().is_loopback());
        // That server ends, and the name still points to it.
        drop((old, peer));
        assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
        let refused = |event: &Event| match event {
            Event::DialFailed { cause, .. } => Some(cause.kind()),
            _ => None,
        };
        assert_eq!(next_event(&mut events, refused).await, io::ErrorKind::ConnectionRefused);
        net.name_points_to(&[&SERVER.to_string()]);
        echo(&mut conn).await;
        assert_eq!(conn.peer_addr().unwrap(), net.address(PORT));
        net.print(format_args!("followed from 127.0.0.1 to {SERVER}"));
    });
}

/// 127.0.0.1 accepts connections and never completes a set-up; 127.0.0.2 serves.
async fn with_a_useless_first_address(net: &Net, hangs: bool) {
    net.name_points_to(&["127.0.0.1", "127.0.0.2"]);
    let useless = TcpListener::bind(("127.0.0.1", PORT)).await.unwrap();
    let serving = TcpListener::bind(("127.0.0.2", PORT)).await.unwrap();
    let set_up = move |stream: TcpStream| async move {
        match stream.peer_addr()?.ip() {
            IpAddr::V4(Ipv4Addr::LOCALHOST) if hangs => std::future::pending().await,
            IpAddr::V4(Ipv4Addr::LOCALHOST) => Err(io::Error::other("a standby server")),
            _ => Ok(stream),
        }
    };
    let builder = quick(Conn::builder((SERVER_NAME, PORT))).dial_timeout(T / 10).and_then(set_up);
    let mut conn = builder.build().unwrap();
    in_time("a link to the serving address", conn.connected()).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap().ip(), Ipv4Addr::new(127, 0, 0, 2));
    // It stays the first choice of the next dial.
    drop(serving.accept().await.unwrap());
    assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
    in_time("a link to the serving address", conn.connected()).await.unwrap();
    let mut dials = 0;
    while timeout(T / 100, useless.accept()).await.is_ok() {
        dials += 1;
    }
    assert_eq!(dials, 1);
    net.print(format_args!("up after one dial to the useless address"));
}

#[test]
fn address_whose_set_up_times_out_is_tried_last() {
    in_a_lab(async |net: &Net| with_a_useless_first_address(net, true).await);
}

#[test]
fn address_whose_set_up_fails_is_tried_last() {
    in_a_lab(async |net: &Net| with_a_useless_first_address(net, false).await);
}

#[test]
fn resolver_that_does_not_answer_holds_one_thread() {
    in_a_lab(async |net: &Net| {
        net.partition();
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let before = threads();
        let (recorder, mut events) = Recorder::new();
        let builder = quick(Conn::builder("unknown.test:80")).dial_timeout(T / 50).on_event(recorder.hook());
        let conn = builder.build().unwrap();
        for _ in 0..20 {
            let failed = |event: &Event| match event {
                Event::DialFailed { cause, .. } => Some(cause.kind()),
                _ => None,
            };
            assert_eq!(next_event(&mut events, failed).await, io::ErrorKind::TimedOut);
        }
        let more = threads() - before;
        net.print(format_args!("{more} threads more after 20 dials"));
        assert_eq!(more, 1);
        drop(conn);
        // The look-up goes on for some seconds, and the runtime would wait for it.
        std::process::exit(0);
    });
}
