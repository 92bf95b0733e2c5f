//! A full queue: a reader that is slow or does not read.
//!
//! Next: `losses`, for the markers in the queue.

use std::time::{Duration, Instant};

use perconn::postgres::{Error, Message, WhenFull};

use crate::helpers::{EventLog, connected, next, on_one_and_two_threads, outage, payload, quick};
use crate::scripted_server::{ScriptedServer, command_complete, notification};
use crate::server::Postgres;
use crate::support::in_time;

#[test]
fn waiting_queue_loses_nothing_with_a_slow_reader() {
    let Some(server) = Postgres::start("waiting_queue_loses_nothing_with_a_slow_reader") else { return };
    on_one_and_two_threads(async || {
        for limit in [1, 7, 1024] {
            let mut listener = connected(quick(server.config()).queue(limit)).await;
            in_time("listen", listener.listen("a")).await.unwrap();
            let client = server.client().await;
            client.batch("SELECT pg_notify('a', n || repeat(' ', 500)) FROM generate_series(0, 9999) n").await.unwrap();
            for number in 0..10_000 {
                if number % 2_000 == 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                assert_eq!(payload(&mut listener).await.trim_end(), number.to_string());
            }
        }
    });
}

#[test]
fn dropped_notifications_are_counted_at_the_position_of_the_gap() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let mut listener = quick(scripted.config()).queue(10).when_full(WhenFull::Drop).build().unwrap();
        let handle = listener.handle();
        let mut peer = scripted.accept_login().await;
        let (listened, _) = tokio::join!(handle.listen("a"), peer.answer_query());
        listened.unwrap();
        for round in 0..3 {
            let all: Vec<u8> = (0..1000).flat_map(|number| notification("a", &number.to_string())).collect();
            // Nothing reads from the queue, and the server is still answered.
            let (pong, ()) = tokio::join!(handle.ping(), async {
                peer.send(&all).await;
                let sql = peer.read_query().await.unwrap();
                peer.send(&command_complete(&sql)).await;
            });
            pong.unwrap();
            for number in 0..10 {
                assert_eq!(payload(&mut listener).await, number.to_string(), "round {round}");
            }
            let (pong, ()) = tokio::join!(handle.ping(), async {
                peer.send(&notification("a", "after the gap")).await;
                let sql = peer.read_query().await.unwrap();
                peer.send(&command_complete(&sql)).await;
            });
            pong.unwrap();
            assert!(matches!(next(&mut listener).await, Message::Dropped { count: 990, .. }));
            assert_eq!(payload(&mut listener).await, "after the gap");
        }
        // A gap before a loss stands before its markers.
        let all: Vec<u8> = (0..12).flat_map(|number| notification("a", &number.to_string())).collect();
        peer.send(&all).await;
        drop(peer);
        let mut peer = scripted.accept_login().await;
        peer.answer_query().await;
        for number in 0..10 {
            assert_eq!(payload(&mut listener).await, number.to_string());
        }
        assert!(matches!(next(&mut listener).await, Message::Dropped { count: 2, .. }));
        outage(&mut listener).await;
    });
}

/// A listener whose queue of ten is full, with the rest of 1,000 notifications in its socket.
async fn full(
    limit: Duration,
) -> (ScriptedServer, crate::scripted_server::ServerConn, perconn::postgres::Listener, EventLog) {
    let scripted = ScriptedServer::start().await;
    let event_log = EventLog::default();
    let listener = quick(scripted.config())
        .queue(10)
        .heartbeat(Duration::from_millis(100))
        .ping_timeout(limit)
        .on_event(event_log.hook())
        .build()
        .unwrap();
    let handle = listener.handle();
    let mut peer = scripted.accept_login().await;
    let (listened, _) = tokio::join!(handle.listen("a"), async {
        // A heartbeat may come in between.
        while peer.answer_query().await.is_empty() {}
    });
    listened.unwrap();
    let all: Vec<u8> = (0..1000).flat_map(|number| notification("a", &number.to_string())).collect();
    peer.send(&all).await;
    (scripted, peer, listener, event_log)
}

#[test]
fn calls_report_a_backlog_and_the_pause_is_not_silence() {
    on_one_and_two_threads(async || {
        let limit = Duration::from_millis(300);
        let (_scripted, mut peer, mut listener, event_log) = full(limit).await;
        let handle = listener.handle();
        let begin = Instant::now();
        let ping = async {
            // The first ping may still be answered, or be on its way when the queue fills up.
            loop {
                match handle.ping().await {
                    Err(error) => break error,
                    Ok(()) => continue,
                }
            }
        };
        let answering = async {
            loop {
                peer.answer_query().await;
            }
        };
        let error = tokio::select! { error = ping => error, () = answering => unreachable!() };
        assert!(matches!(error, Error::Backlog { .. }), "{error:?}");
        let (listen, unlisten, all, ping) =
            tokio::join!(handle.listen("b"), handle.unlisten("a"), handle.unlisten_all(), handle.ping());
        for outcome in [listen, unlisten, all, ping] {
            assert!(matches!(outcome, Err(Error::Backlog { .. } | Error::NotListening { .. })), "{outcome:?}");
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        // Three times as long as the limit of silence: 100 ms and 300 ms.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(event_log.kinds(), ["connected"]);
        assert!(handle.is_connected());
        // Everything received before is delivered, also of a channel that was unlistened. Then the listener continues.
        assert_eq!(payload(&mut listener).await, "0");
        let reading = async { while listener.recv().await.is_ok() {} };
        let answering = async {
            loop {
                if peer.answer_query().await.contains("UNLISTEN \"a\"") {
                    break;
                }
            }
        };
        tokio::select! { () = reading => panic!("it ended"), () = answering => {} }
    });
}

#[test]
fn close_and_drop_are_prompt_with_a_full_queue() {
    on_one_and_two_threads(async || {
        for policy in [WhenFull::Wait, WhenFull::Drop] {
            for is_dropped in [false, true] {
                let scripted = ScriptedServer::start().await;
                let builder =
                    quick(scripted.config()).queue(10).when_full(policy).ping_timeout(Duration::from_secs(60));
                let mut listener = builder.build().unwrap();
                let handle = listener.handle();
                let mut peer = scripted.accept_login().await;
                let (listened, _) = tokio::join!(handle.listen("a"), peer.answer_query());
                listened.unwrap();
                let all: Vec<u8> = (0..1000).flat_map(|number| notification("a", &number.to_string())).collect();
                peer.send(&all).await;
                assert_eq!(payload(&mut listener).await, "0");
                let waiting = tokio::spawn({
                    let handle = handle.clone();
                    async move { handle.listen("b").await }
                });
                tokio::task::yield_now().await;
                if is_dropped {
                    drop(listener);
                } else {
                    in_time("close", listener.close()).await;
                    assert!(matches!(in_time("recv", listener.recv()).await, Err(Error::Closed)));
                }
                assert!(matches!(in_time("listen", waiting).await.unwrap(), Err(Error::Closed)));
                assert!(matches!(handle.ping().await, Err(Error::Closed)));
                in_time("close again", handle.close()).await;
                peer.wait_for_close().await;
            }
        }
    });
}

#[test]
fn everything_received_is_delivered_although_this_side_writes_after_the_end() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let mut listener = quick(scripted.config()).queue(100).build().unwrap();
        let handle = listener.handle();
        let mut peer = scripted.accept_login().await;
        let (listened, _) = tokio::join!(handle.listen("a"), peer.answer_query());
        listened.unwrap();
        let all: Vec<u8> = (0..3000).flat_map(|number| notification("a", &number.to_string())).collect();
        peer.send(&all).await;
        drop(peer);
        for number in 0..3000 {
            assert_eq!(payload(&mut listener).await, number.to_string());
            if [1000, 1500, 2000].contains(&number) {
                // The reader is far behind.
                tokio::time::sleep(Duration::from_millis(1100)).await;
            }
            if number % 20 == 0 {
                // Each ping is a write.
                let _ = tokio::time::timeout(Duration::from_millis(2), handle.ping()).await;
            }
        }
        let mut peer = scripted.accept_login().await;
        peer.answer_query().await;
        outage(&mut listener).await;
    });
}
