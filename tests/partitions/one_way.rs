//! Packets vanish in one direction only.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::calls::{Told, echo};
use crate::in_a_lab::in_a_lab;
use crate::net::{LATE, Net, PORT, T, limits_since};
use crate::remote::Server;
use crate::server::Mode;
use crate::support::soon;

#[test]
fn lost_answers_are_noticed_though_the_server_hears_everything() {
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
        let told = tokio::join!(Told::reading(&mut reading), Told::reading(&mut writing));
        for (limit, told) in [("idle_timeout", &told.0), ("user_timeout", &told.1)] {
            told.is_timeout();
            let after = (told.at - cut).as_secs_f64() / T.as_secs_f64();
            net.say(format_args!("{limit}: told after {after:.2} T"));
            assert!(0.9 < after && after < LATE, "{limit}: {after}");
        }
        // What was not acknowledged has arrived nevertheless.
        assert_eq!((told.0.unacknowledged, told.1.unacknowledged), (Some(100), Some(200)));
        net.heal_to_client();
        server.poke().await;
        assert_eq!((server.ended(1).await.received, server.ended(2).await.received), (108, 208));
    });
}

#[test]
fn bytes_of_the_peer_keep_a_reader_content_but_not_user_timeout_while_ours_vanish() {
    in_a_lab(async |net: &Net| {
        let _server = Server::start(net, Mode::Ticker).await;
        let (mut reader, mut writer) = net.client().idle_timeout(T).connect().await.unwrap().into_split();
        let mut limited = net.client().user_timeout(T).connect().await.unwrap();
        // Acknowledgements are small and pass, and so the peer's bytes go on coming.
        net.drop_large_to_server();
        let cut = Instant::now();
        let call = vec![b'.'; 30_000];
        writer.write_all(&call).await.unwrap();
        limited.write_all(&call).await.unwrap();
        let mut byte = [0];
        let error = loop {
            match soon("user_timeout", limited.read(&mut byte)).await {
                Ok(n) => assert_eq!(n, 1),
                Err(error) => break error,
            }
        };
        let told = Told::by(error);
        let after = limits_since(cut);
        told.is_timeout();
        net.say(format_args!("user_timeout: told after {after:.2} T, {:?} unacknowledged", told.unacknowledged));
        assert!(0.9 < after && after < LATE, "{after}");
        let mut heard = 0;
        while limits_since(cut) < 3.0 {
            heard += soon("a byte", reader.read(&mut [0; 64])).await.unwrap();
        }
        net.say(format_args!("idle_timeout: content for 3 T, {heard} bytes heard"));
        assert_eq!(reader.generation(), 1);
    });
}

/// A peer whose acknowledgements are lost sends what its congestion window holds, and no more.
#[test]
fn reader_of_a_peer_that_hears_nothing_is_told_as_that_peer_soon_falls_silent() {
    in_a_lab(async |net: &Net| {
        let _ticker = Server::start(net, Mode::Ticker).await;
        let _echo = Server::start_at(net, Mode::Echo, PORT + 1).await;
        let mut reading = net.client().idle_timeout(T).connect().await.unwrap();
        soon("a byte", reading.read(&mut [0])).await.unwrap();
        let mut writing = net.client_of(PORT + 1).user_timeout(T).connect().await.unwrap();
        echo(&mut writing).await;
        net.drop_to_server();
        let cut = Instant::now();
        writing.write_all(b"lost").await.unwrap();
        let told_reader = async {
            let mut last = (cut, 0);
            loop {
                match soon("idle_timeout", reading.read(&mut [0; 64])).await {
                    Ok(n) => last = (Instant::now(), last.1 + n),
                    Err(error) => return (Told::by(error), last),
                }
            }
        };
        let ((reader, (last, heard)), writer) = tokio::join!(told_reader, Told::reading(&mut writing));
        reader.is_timeout();
        writer.is_timeout();
        assert_eq!(writer.unacknowledged, Some(4));
        let silence = (reader.at - last).as_secs_f64() / T.as_secs_f64();
        let after = (writer.at - cut).as_secs_f64() / T.as_secs_f64();
        net.say(format_args!("idle_timeout: told {silence:.2} T after the last of {heard} bytes"));
        net.say(format_args!("user_timeout: told after {after:.2} T"));
        assert!(0.9 < silence && silence < LATE, "{silence}");
        assert!(0.9 < after && after < LATE, "{after}");
    });
}

#[test]
fn loss_that_ends_in_time_is_not_noticed() {
    in_a_lab(async |net: &Net| {
        let _server = Server::start(net, Mode::Echo).await;
        let mut conn = net.client().user_timeout(4 * T).idle_timeout(4 * T).keepalive(4 * T).connect().await.unwrap();
        for _ in 0..2 {
            net.partition();
            conn.write_all(b"ping").await.unwrap();
            let mut answer = [0; 4];
            assert!(timeout(T / 2, conn.read_exact(&mut answer)).await.is_err(), "the lab leaks");
            net.heal();
            let healed = Instant::now();
            soon("the answer", conn.read_exact(&mut answer)).await.unwrap();
            net.say(format_args!("the answer comes {:.2} T after the loss", limits_since(healed)));
        }
        assert_eq!(conn.generation(), 1);
    });
}
