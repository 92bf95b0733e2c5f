//! The server's process or machine dies in the middle of a call.

use std::time::Instant;

use perconn::Conn;

use crate::calls::{BreakReport, call_for_ever, call_once, call_until_break, head};
use crate::in_a_lab::in_a_lab;
use crate::net::{LATE, Net, T};
use crate::server::Mode;
use crate::server_process::Server;

/// Writes calls until one reports a break.
fn stream(mut conn: Conn) -> tokio::task::JoinHandle<(Conn, u32, BreakReport)> {
    tokio::spawn(async move {
        let mut next = 1;
        let report = call_until_break(&mut conn, &mut next).await;
        (conn, next, report)
    })
}

#[test]
fn vanished_machine_ends_a_write_by_user_timeout_and_the_next_link_begins_with_a_whole_call() {
    in_a_lab(async |net: &Net| {
        let mut server = Server::start(net, Mode::Slow).await;
        let conn = net.client().user_timeout(T).connect().await.unwrap();
        let streaming = stream(conn);
        assert_eq!(server.began(1).await, head(1));
        net.partition();
        let cut = Instant::now();
        // Its FIN or reset is lost, too.
        server.kill().await;
        let (mut conn, mut next, report) = streaming.await.unwrap();
        report.assert_timeout();
        let after = (report.at - cut).as_secs_f64() / T.as_secs_f64();
        net.print(format_args!("reported after {after:.2} T, {:?} bytes unacknowledged", report.unacknowledged));
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
fn killed_server_ends_a_write_at_once_and_the_next_link_begins_with_a_whole_call() {
    in_a_lab(async |net: &Net| {
        for _ in 0..5 {
            let mut server = Server::start(net, Mode::Slow).await;
            let conn = net.client().connect().await.unwrap();
            let streaming = stream(conn);
            assert_eq!(server.began(1).await, head(1));
            let killed = Instant::now();
            server.kill().await;
            let (mut conn, mut next, report) = streaming.await.unwrap();
            assert_eq!(report.generation, 1);
            let after = (report.at - killed).as_secs_f64() / T.as_secs_f64();
            net.print(format_args!("reported {:?} after {after:.3} T", report.kind));
            assert!(after < LATE, "{after}");
            let mut server = Server::start(net, Mode::Silent).await;
            let first = next;
            // A process that is killed closes its links before its listener, so that the kernel may accept links meanwhile, and
            // reset them: calls go on until one has arrived.
            let began = tokio::select! {
                began = server.began(1) => began,
                never = call_for_ever(&mut conn, &mut next) => match never {},
            };
            assert!(
                (head(first)..head(next)).contains(&began),
                "the link began with {began:#x}, expected {first} to {next}"
            );
            assert!(conn.generation() >= 2);
            server.kill().await;
        }
    });
}
