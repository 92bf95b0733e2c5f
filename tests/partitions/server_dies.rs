//! The server's process or machine goes away in the middle of a call.

use std::time::Instant;

use perconn::Conn;

use crate::calls::{Told, call_once, call_until_told, head};
use crate::in_a_lab::in_a_lab;
use crate::net::{LATE, Net, T};
use crate::remote::Server;
use crate::server::Mode;

/// Streams calls until it is told of a break.
fn stream(mut conn: Conn) -> tokio::task::JoinHandle<(Conn, u32, Told)> {
    tokio::spawn(async move {
        let mut next = 1;
        let told = call_until_told(&mut conn, &mut next).await;
        (conn, next, told)
    })
}

#[test]
fn writer_is_told_by_user_timeout_when_the_peers_machine_vanishes_and_begins_anew_with_a_whole_call() {
    in_a_lab(async |net: &Net| {
        let mut server = Server::start(net, Mode::Slow).await;
        let conn = net.client().user_timeout(T).connect().await.unwrap();
        let streaming = stream(conn);
        assert_eq!(server.began(1).await, head(1));
        net.partition();
        let cut = Instant::now();
        // Its last words are lost, too.
        server.kill().await;
        let (mut conn, mut next, told) = streaming.await.unwrap();
        told.is_timeout();
        let after = (told.at - cut).as_secs_f64() / T.as_secs_f64();
        net.say(format_args!("told after {after:.2} T, {:?} bytes unacknowledged", told.unacknowledged));
        assert!(0.5 < after && after < LATE, "{after}");
        let mut server = Server::start(net, Mode::Silent).await;
        net.heal();
        let first = next;
        call_once(&mut conn, &mut next).await;
        assert_eq!(server.began(1).await, head(first));
        assert_eq!(conn.generation(), 2);
    });
}

#[test]
fn writer_is_told_at_once_when_the_server_is_killed_and_begins_anew_with_a_whole_call() {
    in_a_lab(async |net: &Net| {
        for _ in 0..5 {
            let mut server = Server::start(net, Mode::Slow).await;
            let conn = net.client().connect().await.unwrap();
            let streaming = stream(conn);
            assert_eq!(server.began(1).await, head(1));
            let killed = Instant::now();
            server.kill().await;
            let (mut conn, mut next, told) = streaming.await.unwrap();
            assert_eq!(told.generation, 1);
            let after = (told.at - killed).as_secs_f64() / T.as_secs_f64();
            net.say(format_args!("told of {:?} after {after:.3} T", told.kind));
            assert!(after < LATE, "{after}");
            let mut server = Server::start(net, Mode::Silent).await;
            let first = next;
            call_once(&mut conn, &mut next).await;
            assert_eq!(server.began(1).await, head(first));
            assert_eq!(conn.generation(), 2);
            server.kill().await;
        }
    });
}
