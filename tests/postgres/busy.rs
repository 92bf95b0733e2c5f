//! Connections with more to do than their reader, or with long statements: what counts as silence, and what waits.
//!
//! Next: `silence`, for servers that do not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use perconn::postgres::{Error, ListenerBuilder, Message};

use crate::helpers::{connected, next, on_one_and_two_threads, payload, quick, until};
use crate::scripted_server::{ScriptedServer, notification};
use crate::server::{Plain, Postgres};
use crate::support::in_time;

#[test]
fn busy_listener_is_not_ended_by_the_idle_session_timeout() {
    let Some(server) = Postgres::start("busy_listener_is_not_ended_by_the_idle_session_timeout") else { return };
    on_one_and_two_threads(async || {
        let timeout = Duration::from_secs(1);
        let mut config = server.config();
        config.options("-c idle_session_timeout=1000");
        let client = server.client().await;
        // A machine that stands still for half of the timeout proves nothing: then it begins again.
        in_time("a round without a standstill", async {
            while is_ended_after_a_standstill(&client, quick(config.clone()), timeout).await {}
        })
        .await;
    });
}

/// Something arrives all the time, for much longer than the timeout. True if the session has ended, and this side or the server
/// had no time to run for half of the timeout.
async fn is_ended_after_a_standstill(client: &Plain, builder: ListenerBuilder, timeout: Duration) -> bool {
    let mut listener = connected(builder.heartbeat(timeout / 5)).await;
    in_time("listen", listener.listen("busy")).await.unwrap();
    let mut longest = Duration::ZERO;
    let (begin, mut last) = (Instant::now(), Instant::now());
    for number in 0.. {
        if begin.elapsed() > timeout * 5 / 2 {
            break;
        }
        client.notify("busy", &number.to_string()).await.unwrap();
        let message = next(&mut listener).await;
        longest = longest.max(last.elapsed());
        last = Instant::now();
        match message {
            Message::Notification(heard) => assert_eq!(heard.payload(), number.to_string()),
            lost => {
                assert!(longest > timeout / 2, "no standstill was longer than {longest:?}: {lost:?}");
                return true;
            }
        }
        tokio::time::sleep(timeout / 50).await;
    }
    assert_eq!(listener.generation(), 1);
    false
}

#[test]
fn statement_may_take_longer_than_the_limits_of_silence() {
    let Some(server) = Postgres::start("statement_may_take_longer_than_the_limits_of_silence") else { return };
    on_one_and_two_threads(async || {
        let limit = Duration::from_millis(200);
        drop(server.client().await);
        let builder = quick(server.config()).heartbeat(limit).ping_timeout(limit);
        let conn = in_time("connect", builder.connect_once()).await.unwrap();
        let statement = in_time("the statement", conn.simple_query("SELECT pg_sleep(1)"));
        let ping = async {
            tokio::time::sleep(limit).await;
            conn.ping().await
        };
        // A ping behind it ends in time, and does not cost the connection.
        let (rows, ping) = tokio::join!(statement, ping);
        assert!(matches!(ping, Err(Error::PingTimeout { .. })), "{ping:?}");
        assert!(!rows.unwrap().is_empty());
        assert!(conn.error().is_none());
        in_time("ping", conn.ping()).await.unwrap();
    });
}

#[test]
fn statement_behind_an_unanswered_ping_does_not_hide_the_silence() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let limit = Duration::from_millis(200);
        let builder = quick(scripted.config()).heartbeat(None).ping_timeout(limit);
        let (conn, _peer) = tokio::join!(builder.connect_once(), scripted.accept_login());
        let conn = conn.unwrap();
        let (ping, statement) = tokio::join!(conn.ping(), in_time("the statement", conn.simple_query("SELECT 1")));
        assert!(ping.is_err());
        assert!(matches!(statement, Err(Error::Silent { .. })), "{statement:?}");
    });
}

#[test]
fn calls_say_backlog_in_bounded_time_when_the_reader_takes_less_than_arrives() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let limit = Duration::from_millis(300);
        let mut listener = quick(scripted.config()).queue(10).heartbeat(None).ping_timeout(limit).build().unwrap();
        let peer = scripted.accept_login().await;
        let handle = listener.handle();
        until("connected", async || handle.is_connected()).await;
        // As much as the socket takes, for ever.
        let sending = tokio::spawn(async move {
            let mut stream = peer.0;
            let some: Vec<u8> = (0..100).flat_map(|_| notification("a", &"y".repeat(200))).collect();
            while tokio::io::AsyncWriteExt::write_all(&mut stream, &some).await.is_ok() {}
        });
        // The reader goes on taking, and is never done.
        let is_reading = Arc::new(AtomicBool::new(true));
        let reading = Arc::clone(&is_reading);
        let reader = tokio::spawn(async move {
            while reading.load(Ordering::SeqCst) {
                let Message::Notification(_) = next(&mut listener).await else { panic!("expected a notification") };
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            listener
        });
        let begin = Instant::now();
        let calls = async { tokio::join!(handle.listen("b"), handle.ping()) };
        let (listened, pinged) = in_time("the calls", calls).await;
        let took = begin.elapsed();
        assert!(matches!(listened, Err(Error::Backlog { .. })), "{listened:?}");
        assert!(matches!(pinged, Err(Error::Backlog { .. })), "{pinged:?}");
        assert!(took < 10 * limit, "{took:?}");
        is_reading.store(false, Ordering::SeqCst);
        drop(reader.await.unwrap());
        in_time("the end", sending).await.unwrap();
    });
}

#[test]
fn calls_succeed_as_soon_as_the_reader_has_caught_up() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let mut listener = quick(scripted.config()).queue(10).build().unwrap();
        let mut peer = scripted.accept_login().await;
        let some: Vec<u8> = (0..1_000).flat_map(|number| notification("a", &number.to_string())).collect();
        peer.send(&some).await;
        let handle = listener.handle();
        let pinging = tokio::spawn(async move {
            while let Err(error) = handle.ping().await {
                assert!(matches!(error, Error::Down), "{error:?}");
                tokio::task::yield_now().await;
            }
        });
        let answering = tokio::spawn(async move {
            peer.answer_query().await;
            peer
        });
        for number in 0..1_000 {
            assert_eq!(payload(&mut listener).await, number.to_string());
        }
        in_time("the ping", pinging).await.unwrap();
        drop(answering.await.unwrap());
    });
}
