//! Packets are dropped in one direction only.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::calls::{BreakReport, echo};
use crate::in_a_lab::in_a_lab;
use crate::net::{LATE, Net, PORT, T, limits_since};
use crate::server::Mode;
use crate::server_process::Server;
use crate::support::in_time;

#[test]
fn lost_answers_break_the_link_though_the_server_receives_everything() {
    in_a_lab(async |net: &Net| {
        let mut server = Server::start(net, Mode::Silent).await;
        let mut reading = net.client().idle_timeout(T).connect().await.unwrap();
        reading.write_all(b"reading:").await.unwrap();
        server.began(1).await;
        let mut writing = net.client().user_timeout(T).connect().await.unwrap();
        writing.write_all(b"writing:").await.unwrap();
        server.began(2).await;
        net.drop_to_client();
        let cut = Instant::now();
        reading.write_all(&[b'.'; 100]).await.unwrap();
        writing.write_all(&[b'.'; 200]).await.unwrap();
        let reports = tokio::join!(BreakReport::reading(&mut reading), BreakReport::reading(&mut writing));
        for (limit, report) in [("idle_timeout", &reports.0), ("user_timeout", &reports.1)] {
            report.assert_timeout();
            let after = (report.at - cut).as_secs_f64() / T.as_secs_f64();
            net.print(format_args!("{limit}: reported after {after:.2} T"));
            assert!(0.9 < after && after < LATE, "{limit}: {after}");
        }
        // The unacknowledged bytes arrived nevertheless.
        assert_eq!((reports.0.unacknowledged, reports.1.unacknowledged), (Some(100), Some(200)));
        net.heal_to_client();
        server.poke().await;
        assert_eq!((server.ended(1).await.received, server.ended(2).await.received), (108, 208));
    });
}

#[test]
fn incoming_bytes_satisfy_idle_timeout_but_not_user_timeout() {
    in_a_lab(async |net: &Net| {
        let _server = Server::start(net, Mode::Ticker).await;
        let (mut reader, mut writer) = net.client().idle_timeout(T).connect().await.unwrap().into_split();
        let mut limited = net.client().user_timeout(T).connect().await.unwrap();
        // Acknowledgements are small and pass, so the peer's bytes keep arriving.
        net.drop_large_to_server();
        let cut = Instant::now();
        let call = vec![b'.'; 30_000];
        writer.write_all(&call).await.unwrap();
        limited.write_all(&call).await.unwrap();
        let mut byte = [0];
        let error = loop {
            match in_time("user_timeout", limited.read(&mut byte)).await {
                Ok(n) => assert_eq!(n, 1),
                Err(error) => break error,
            }
        };
        let report = BreakReport::by(error);
        let after = limits_since(cut);
        report.assert_timeout();
        net.print(format_args!(
            "user_timeout: reported after {after:.2} T, {:?} unacknowledged",
            report.unacknowledged
        ));
        assert!(0.9 < after && after < LATE, "{after}");
        let mut received = 0;
        while limits_since(cut) < 3.0 {
            received += in_time("a byte", reader.read(&mut [0; 64])).await.unwrap();
        }
        net.print(format_args!("idle_timeout: no break for 3 T, {received} bytes received"));
        assert_eq!(reader.generation(), 1);
    });
}

/// A peer that gets no acknowledgements sends what its congestion window allows, and then nothing.
#[test]
fn idle_timeout_ends_a_read_when_the_peer_gets_no_acknowledgements() {
    in_a_lab(async |net: &Net| {
        let _ticker = Server::start(net, Mode::Ticker).await;
        let _echo = Server::start_at(net, Mode::Echo, PORT + 1).await;
        let mut reading = net.client().idle_timeout(T).connect().await.unwrap();
        in_time("a byte", reading.read(&mut [0])).await.unwrap();
        let mut writing = net.client_of(PORT + 1).user_timeout(T).connect().await.unwrap();
        echo(&mut writing).await;
        net.drop_to_server();
        let cut = Instant::now();
        writing.write_all(b"lost").await.unwrap();
        let read_until_break = async {
            let mut last = (cut, 0);
            loop {
                match in_time("idle_timeout", reading.read(&mut [0; 64])).await {
                    Ok(n) => last = (Instant::now(), last.1 + n),
                    Err(error) => return (BreakReport::by(error), last),
                }
            }
        };
        let ((reader, (last, received)), writer) = tokio::join!(read_until_break, BreakReport::reading(&mut writing));
        reader.assert_timeout();
        writer.assert_timeout();
        assert_eq!(writer.unacknowledged, Some(4));
        let silence = (reader.at - last).as_secs_f64() / T.as_secs_f64();
        let after = (writer.at - cut).as_secs_f64() / T.as_secs_f64();
        net.print(format_args!("idle_timeout: reported {silence:.2} T after the last of {received} bytes"));
        net.print(format_args!("user_timeout: reported after {after:.2} T"));
        assert!(0.9 < silence && silence < LATE, "{silence}");
        assert!(0.9 < after && after < LATE, "{after}");
    });
}

#[test]
fn packet_loss_shorter_than_the_limits_breaks_nothing() {
    in_a_lab(async |net: &Net| {
        let _server = Server::start(net, Mode::Echo).await;
        let mut conn = net.client().user_timeout(4 * T).idle_timeout(4 * T).keepalive(4 * T).connect().await.unwrap();
        for _ in 0..2 {
            net.partition();
            conn.write_all(b"ping").await.unwrap();
            let mut answer = [0; 4];
            assert!(timeout(T / 2, conn.read_exact(&mut answer)).await.is_err(), "a packet passed the cut");
            net.heal();
            let healed = Instant::now();
            in_time("the answer", conn.read_exact(&mut answer)).await.unwrap();
            net.print(format_args!("the answer arrives {:.2} T after the loss", limits_since(healed)));
        }
        assert_eq!(conn.generation(), 1);
    });
}
