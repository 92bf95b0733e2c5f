//! Events at unfavourable moments: ends and notifications that a listener could miss.
//!
//! Next: `delivery`, which checks every notification through many losses.

use std::time::Duration;

use perconn::postgres::{Error, Event, Message, WhenFull};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::helpers::{EventLog, next, on_one_and_two_threads, outage, payload, quick, until};
use crate::scripted_server::{
    ScriptedServer, authentication_ok, command_complete, error_response, notification, ready_for_query,
};
use crate::server::Postgres;
use crate::support::in_time;

#[test]
fn end_that_arrives_with_the_answer_to_the_listen_is_not_missed() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let mut listener = quick(scripted.config()).heartbeat(None).build().unwrap();
        let handle = listener.handle();
        let mut peer = scripted.accept_login().await;
        let (listened, _) = tokio::join!(handle.listen("a"), peer.answer_query());
        listened.unwrap();
        drop(peer);
        let mut short = scripted.accept_login().await;
        let sql = short.read_query().await.unwrap();
        short.send(&[command_complete(&sql), error_response("FATAL", "57P01")].concat()).await;
        // The server waits until the client has closed.
        short.wait_for_close().await;
        let mut peer = scripted.accept_login().await;
        peer.answer_query().await;
        peer.send(&notification("a", "received")).await;
        let Message::Lost { .. } = next(&mut listener).await else { panic!("expected a loss") };
        // Whether or not the short one counts as a connection, the notification of the last one arrives.
        let received = async {
            loop {
                if let Message::Notification(notification) = next(&mut listener).await {
                    return notification;
                }
            }
        };
        assert_eq!(in_time("the notification", received).await.payload(), "received");
    });
}

#[test]
fn everything_received_is_delivered_although_queries_are_sent_meanwhile() {
    let Some(server) = Postgres::start("everything_received_is_delivered_although_queries_are_sent_meanwhile") else {
        return;
    };
    on_one_and_two_threads(async || {
        let client = server.client().await;
        let mut config = server.config();
        config.application_name("queried meanwhile");
        let mut listener = crate::helpers::connected(quick(config)).await;
        in_time("listen", listener.listen("a")).await.unwrap();
        client.batch("SELECT pg_notify('a', n::text) FROM generate_series(0, 9999) n").await.unwrap();
        // The server may end a session before it sends anything. Once it has begun to send, it sends everything.
        assert_eq!(payload(&mut listener).await, "0");
        crate::helpers::terminate(&client, "queried meanwhile").await;
        let handle = listener.handle();
        let querying = tokio::spawn(async move {
            for number in 0.. {
                let _ = tokio::time::timeout(Duration::from_millis(1), handle.ping()).await;
                let _ = tokio::time::timeout(Duration::from_millis(1), handle.listen(&format!("b{number}"))).await;
            }
        });
        for number in 1..10_000 {
            if number % 500 == 0 {
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            assert_eq!(payload(&mut listener).await, number.to_string());
        }
        let Message::Lost { cause, .. } = next(&mut listener).await else { panic!("expected a loss") };
        assert_eq!(cause.code().unwrap().code(), "57P01");
        querying.abort();
    });
}

#[test]
fn connection_that_is_reset_right_after_its_login_is_reported() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let event_log = EventLog::default();
        let listener = quick(scripted.config()).on_event(event_log.hook()).build().unwrap();
        for _ in 0..20 {
            let mut peer = scripted.accept().await;
            peer.read_startup().await;
            peer.send(&[authentication_ok(), ready_for_query()].concat()).await;
            peer.reset();
        }
        let reported = async || event_log.count("attempt") + event_log.count("disconnected");
        until("each is reported", async || reported().await == 20).await;
        for event in event_log.events() {
            if let Event::AttemptFailed { attempt, cause, .. } = event {
                assert!(attempt > 0 && matches!(*cause, Error::Connect { .. }), "{cause:?}");
            }
        }
        drop(listener);
    });
}

#[test]
fn listener_conn_that_is_lost_before_its_use_is_lost() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        for number in 0..50 {
            let (conn, ()) = tokio::join!(quick(scripted.config()).connect_once(), async {
                let peer = scripted.accept_login().await;
                if number % 2 == 0 { peer.reset() } else { drop(peer) }
            });
            // It may also have ended before its login was complete.
            let Ok(mut conn) = conn else { continue };
            let error = in_time("the end", conn.recv()).await.unwrap_err();
            assert!(matches!(error, Error::Lost { .. }), "{error:?}");
            assert!(matches!(conn.error(), Some(Error::Lost { .. })));
        }
    });
}

#[test]
fn notification_of_any_length_is_delivered_in_order() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let mut listener = quick(scripted.config()).build().unwrap();
        let handle = listener.handle();
        let mut peer = scripted.accept_login().await;
        let (listened, _) = tokio::join!(handle.listen("a"), peer.answer_query());
        listened.unwrap();
        let lengths = [1, 32_755, 32_756, 2, 100_000, 3];
        let all: Vec<u8> = lengths.iter().flat_map(|length| notification("a", &"x".repeat(*length))).collect();
        peer.send(&all).await;
        for length in lengths {
            assert_eq!(payload(&mut listener).await.len(), length);
        }
    });
}

#[test]
fn unread_losses_stop_the_attempts_and_are_a_backlog() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let builder = quick(scripted.config()).when_full(WhenFull::Drop).ping_timeout(Duration::from_millis(300));
        let mut listener = builder.build().unwrap();
        let handle = listener.handle();
        for generation in 1..=32 {
            let peer = scripted.accept_login().await;
            until("up", async || handle.generation() == generation).await;
            drop(peer);
            until("down", async || !handle.is_connected()).await;
        }
        assert!(matches!(in_time("listen", handle.listen("a")).await, Err(Error::Backlog { .. })));
        for _ in 1..32 {
            outage(&mut listener).await;
        }
        let mut peer = scripted.accept_login().await;
        let (listened, _) = tokio::join!(handle.listen("a"), peer.answer_query());
        listened.unwrap();
    });
}

#[test]
fn listener_conn_continues_after_a_refused_listen_and_refuses_a_zero_byte() {
    let Some(server) = Postgres::start("listener_conn_continues_after_a_refused_listen_and_refuses_a_zero_byte") else {
        return;
    };
    on_one_and_two_threads(async || {
        drop(server.client().await);
        let conn = in_time("connect", perconn::postgres::ListenerConn::connect(server.config())).await.unwrap();
        let zero = conn.simple_query("SELECT 1\0").await.unwrap_err();
        assert!(matches!(zero, Error::InvalidConfig(_)), "{zero:?}");
        assert!(conn.simple_query("BEGIN; SELECT 1/0").await.is_err());
        let refused = in_time("listen", conn.listen("a")).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "25P02");
        in_time("rollback", conn.simple_query("ROLLBACK")).await.unwrap();
        in_time("listen", conn.listen("a")).await.unwrap();
        assert!(conn.error().is_none());
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn end_of_a_listener_conn_is_known_when_its_loss_is_reported() {
    let scripted = ScriptedServer::start().await;
    let (reported, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let builder = quick(scripted.config()).on_event(move |event| {
        if matches!(event, Event::Disconnected { .. }) {
            let _ = reported.send(());
            let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(10));
        }
    });
    let (conn, peer) = tokio::join!(builder.connect_once(), scripted.accept_login());
    let conn = conn.unwrap();
    drop(peer);
    reports.recv().await.unwrap();
    assert!(matches!(conn.error(), Some(Error::Lost { .. })), "{:?}", conn.error());
    go_on.send(()).unwrap();
}

#[test]
fn queries_are_sent_although_more_arrives_than_the_reader_takes() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let mut listener = quick(scripted.config()).queue(64).build().unwrap();
        let handle = listener.handle();
        let mut peer = scripted.accept_login().await;
        let (listened, _) = tokio::join!(handle.listen("a"), peer.answer_query());
        listened.unwrap();
        let (mut read, mut write) = peer.0.into_split();
        let load = tokio::spawn(async move {
            let batch = notification("a", &"x".repeat(100)).repeat(100);
            while write.write_all(&batch).await.is_ok() {}
        });
        let reader = tokio::spawn(async move {
            loop {
                for _ in 0..4 {
                    listener.recv().await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let (query, mut queries) = tokio::sync::mpsc::unbounded_channel();
        let receiver = tokio::spawn(async move {
            while let Ok(b'Q') = read.read_u8().await {
                let mut sql = vec![0; read.read_u32().await.unwrap() as usize - 4];
                read.read_exact(&mut sql).await.unwrap();
                query.send(String::from_utf8(sql).unwrap()).unwrap();
            }
        });
        let mut calls = tokio::task::JoinSet::new();
        for name in ["b", "c", "d"] {
            let handle = handle.clone();
            calls.spawn(async move { handle.listen(name).await });
            assert_eq!(in_time("it is sent", queries.recv()).await.unwrap(), format!("LISTEN \"{name}\"\0"));
        }
        for task in [load, reader, receiver] {
            task.abort();
        }
    });
}

#[test]
fn final_message_is_sent_with_a_full_queue_too() {
    on_one_and_two_threads(async || {
        for _ in 0..100 {
            let scripted = ScriptedServer::start().await;
            let builder = quick(scripted.config()).queue(10).ping_timeout(Duration::from_millis(50));
            let listener = builder.build().unwrap();
            let mut peer = scripted.accept_login().await;
            peer.send(&notification("a", "x").repeat(1000)).await;
            until("full", async || matches!(listener.ping().await, Err(Error::Backlog { .. }))).await;
            in_time("close", listener.close()).await;
            match in_time("the final message", peer.read_message()).await {
                Some((b'X', _)) => return,
                // A ping was sent before the queue was full. While it is unanswered, there is no final message.
                Some((b'Q', _)) | None => {}
                Some(other) => panic!("{other:?}"),
            }
        }
        panic!("no final message");
    });
}
