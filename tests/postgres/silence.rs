//! Silence: a server that does not answer, and one that only seems silent.
//!
//! Next: `partition`, for networks that drop packets.

use std::time::{Duration, Instant};

use perconn::postgres::Error;

use crate::helpers::{EventLog, connected, on_one_and_two_threads, outage, payload, quick};
use crate::scripted_server::{ScriptedServer, command_complete, notification};
use crate::server::Postgres;
use crate::support::in_time;

const BEAT: Duration = Duration::from_millis(400);
const LIMIT: Duration = Duration::from_millis(600);

#[test]
fn frozen_server_is_found_and_is_back_when_it_continues() {
    let Some(server) = Postgres::start("frozen_server_is_found_and_is_back_when_it_continues") else { return };
    on_one_and_two_threads(async || {
        let mut listener = connected(quick(server.config()).heartbeat(BEAT).ping_timeout(LIMIT)).await;
        in_time("listen", listener.listen("a")).await.unwrap();
        server.freeze();
        let begin = Instant::now();
        // Bytes that this side sends are no sign of life.
        let handle = listener.handle();
        let sending = tokio::spawn(async move {
            while handle.is_connected() {
                let _ = tokio::time::timeout(Duration::from_millis(50), handle.listen("b")).await;
            }
        });
        in_time("the loss", sending).await.unwrap();
        let took = begin.elapsed();
        println!("found after {took:?}, the limit is {LIMIT:?}");
        assert!(took >= LIMIT, "{took:?}");
        server.thaw();
        let cause = outage(&mut listener).await;
        assert!(matches!(*cause, Error::Silent { .. }), "{cause:?}");
        server.client().await.notify("a", "back").await.unwrap();
        assert_eq!(payload(&mut listener).await, "back");
    });
}

#[test]
fn unanswered_ping_returns_in_time_and_the_connection_is_dropped() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let mut listener = quick(scripted.config()).heartbeat(None).ping_timeout(LIMIT).build().unwrap();
        let mut peer = scripted.accept_login().await;
        let begin = Instant::now();
        let handle = listener.handle();
        while matches!(handle.ping().await, Err(Error::Down)) {
            tokio::task::yield_now().await;
        }
        assert!(begin.elapsed() >= LIMIT);
        peer.read_query().await.unwrap();
        let _peer = scripted.accept_login().await;
        assert!(matches!(*outage(&mut listener).await, Error::Silent { .. }));
    });
}

#[test]
fn ping_without_a_connection_fails_at_once() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let listener = quick(scripted.config()).build().unwrap();
        assert!(matches!(in_time("ping", listener.ping()).await, Err(Error::Down)));
    });
}

#[test]
fn anything_that_arrives_is_a_sign_of_life() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let event_log = EventLog::default();
        let builder = quick(scripted.config()).heartbeat(BEAT).ping_timeout(LIMIT);
        let mut listener = builder.on_event(event_log.hook()).build().unwrap();
        let mut peer = scripted.accept_login().await;
        let (listened, _) = tokio::join!(listener.listen("a"), peer.answer_query());
        listened.unwrap();
        // The heartbeat is never answered, but a notification arrives byte by byte.
        let message = notification("a", "slowly but surely");
        let begin = Instant::now();
        for byte in message.chunks(1) {
            peer.send(byte).await;
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        assert!(begin.elapsed() > 2 * (BEAT + LIMIT));
        assert_eq!(payload(&mut listener).await, "slowly but surely");
        assert_eq!(event_log.kinds(), ["connected"]);
    });
}

#[test]
fn suspended_program_does_not_drop_the_connection() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let event_log = EventLog::default();
        let builder = quick(scripted.config()).heartbeat(BEAT).ping_timeout(LIMIT);
        let mut listener = builder.on_event(event_log.hook()).build().unwrap();
        let mut peer = scripted.accept_login().await;
        let (listened, _) = tokio::join!(listener.listen("a"), peer.answer_query());
        listened.unwrap();
        // The server answers from its own thread. The runtime is blocked when the heartbeat is about to be sent.
        let stream = peer.0.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        let server = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let mut message = [0; 6];
            let mut stream = stream;
            while stream.read_exact(&mut message).is_ok() && stream.write_all(&command_complete("")).is_ok() {}
            stream.write_all(&[])
        });
        for _ in 0..3 {
            tokio::time::sleep(BEAT - Duration::from_millis(20)).await;
            // All threads of the runtime, as on a suspended machine.
            let blocked: Vec<_> = (0..2)
                .map(|_| tokio::spawn(async { std::thread::sleep(BEAT + LIMIT + Duration::from_millis(200)) }))
                .collect();
            for blocked in blocked {
                in_time("it runs again", blocked).await.unwrap();
            }
        }
        assert_eq!(event_log.kinds(), ["connected"]);
        in_time("close", listener.close()).await;
        assert!(listener.recv().await.is_err());
        let _ = server.join().unwrap();
    });
}
