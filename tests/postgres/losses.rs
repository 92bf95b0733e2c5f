//! Losses: what counts as one, and the markers that the reader gets.
//!
//! Next: `silence`, for losses that only the heartbeat finds.

use std::time::Duration;

use perconn::postgres::{Error, Message};

use crate::helpers::{
    EventLog, connected, named, next, on_one_and_two_threads, outage, payload, quick, terminate, until,
};
use crate::scripted_server::{ScriptedServer, command_complete, error_response, notification, ready_for_query};
use crate::server::Postgres;
use crate::support::in_time;

#[test]
fn listener_survives_every_kind_of_server_failure() {
    let Some(server) = Postgres::start("listener_survives_every_kind_of_server_failure") else { return };
    on_one_and_two_threads(async || {
        let mut listener = connected(named(&server, "survivor")).await;
        in_time("listen", listener.listen("orders")).await.unwrap();
        for (number, failure) in ["terminated", "killed", "shut down", "cut off"].into_iter().enumerate() {
            let client = server.client().await;
            client.notify("orders", failure).await.unwrap();
            until("received", async || listener.ping().await.is_ok()).await;
            match failure {
                "terminated" => terminate(&client, "survivor").await,
                "killed" => server.kill_and_restart(),
                "shut down" => {
                    server.shut_down_fast();
                    server.start_again();
                }
                _ => {
                    server.shut_down_immediately();
                    server.start_again();
                }
            }
            assert_eq!(payload(&mut listener).await, failure);
            let cause = outage(&mut listener).await;
            if failure == "cut off" {
                // The server says it by a warning, and ends the session without an error.
                assert_eq!(cause.code().map(|code| code.code()), Some("57P01"), "{}", cause.with_causes());
            }
            assert_eq!(listener.generation(), number as u64 + 2);
            server.client().await.notify("orders", "again").await.unwrap();
            assert_eq!(payload(&mut listener).await, "again", "{failure}");
        }
    });
}

#[test]
fn crash_of_another_process_of_the_server_is_named_as_the_cause() {
    let Some(server) = Postgres::start("crash_of_another_process_of_the_server_is_named_as_the_cause") else { return };
    on_one_and_two_threads(async || {
        let mut listener = connected(named(&server, "bystander")).await;
        let client = server.client().await;
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let cause = outage(&mut listener).await;
        assert_eq!(cause.code().map(|code| code.code()), Some("57P02"), "{}", cause.with_causes());
    });
}

#[test]
fn any_error_is_a_loss() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let event_log = EventLog::default();
        let mut listener = quick(scripted.config()).on_event(event_log.hook()).build().unwrap();
        let handle = listener.handle();
        let mut peer = scripted.accept_login().await;
        let (listened, _) = tokio::join!(handle.listen("a"), peer.answer_query());
        listened.unwrap();
        let ways = [
            "reset",
            "close",
            "half a message",
            "garbage",
            "an unasked answer",
            "a fatal error",
            "a fatal answer",
            "a bad notification",
        ];
        for way in ways {
            peer.send(&notification("a", way)).await;
            assert_eq!(payload(&mut listener).await, way);
            match way {
                "reset" => peer.reset(),
                "close" => drop(peer),
                "half a message" => {
                    peer.send(&notification("a", "half")[..9]).await;
                    drop(peer);
                }
                "garbage" => peer.send(&[b'?', 0, 0, 0, 4, b'?', 0, 0, 0, 4]).await,
                "an unasked answer" => peer.send(&ready_for_query()).await,
                "a fatal error" => peer.send(&error_response("FATAL", "57P01")).await,
                "a fatal answer" => {
                    let ping = tokio::spawn({
                        let handle = handle.clone();
                        async move { handle.ping().await }
                    });
                    peer.read_query().await.unwrap();
                    peer.send(&error_response("FATAL", "57P02")).await;
                    let error = in_time("the ping", ping).await.unwrap().unwrap_err();
                    assert!(matches!(error, Error::Lost { .. }), "{error:?}");
                    assert_eq!(error.code().unwrap().code(), "57P02");
                }
                _ => peer.send(&[b'A', 0, 0, 0, 8, 0, 0, 0, 1]).await,
            }
            peer = scripted.accept_login().await;
            assert_eq!(peer.answer_query().await, "LISTEN \"a\";", "{way}");
            let cause = outage(&mut listener).await;
            assert!(matches!(*cause, Error::Lost { .. }), "{way}: {cause:?}");
            if way == "a fatal error" {
                assert_eq!(cause.code().unwrap().code(), "57P01");
            }
        }
        assert_eq!(event_log.count("disconnected"), ways.len());
        assert_eq!(event_log.count("reconnected"), ways.len());
    });
}

#[test]
fn markers_stand_between_the_notifications_of_two_connections() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let mut listener = quick(scripted.config()).build().unwrap();
        let handle = listener.handle();
        let mut peer = scripted.accept_login().await;
        let (listened, _) = tokio::join!(handle.listen("a"), peer.answer_query());
        listened.unwrap();
        for round in 0..20 {
            // All notifications at once, and then the end of the connection. The loss is known before the reader takes anything.
            let all: Vec<u8> = (0..500).flat_map(|number| notification("a", &number.to_string())).collect();
            peer.send(&all).await;
            drop(peer);
            peer = scripted.accept_login().await;
            let sql = peer.read_query().await.unwrap();
            // A notification arrives in the middle of the answer.
            let mut answer = command_complete(&sql);
            answer.truncate(answer.len() - ready_for_query().len());
            answer.extend(notification("a", "first"));
            answer.extend(ready_for_query());
            answer.extend(notification("a", "second"));
            peer.send(&answer).await;
            for number in 0..500 {
                assert_eq!(payload(&mut listener).await, number.to_string(), "round {round}");
            }
            outage(&mut listener).await;
            assert_eq!(payload(&mut listener).await, "first");
            assert_eq!(payload(&mut listener).await, "second");
        }
    });
}

#[test]
fn losses_are_not_merged_and_after_32_the_next_attempt_waits_for_the_reader() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let event_log = EventLog::default();
        let mut listener = quick(scripted.config()).on_event(event_log.hook()).build().unwrap();
        let mut links = 0;
        let has_stopped = loop {
            let dialed = async {
                let mut peer = scripted.accept().await;
                peer.accept_login().await;
                // An end before the connection is in use would be a failed attempt.
                links += 1;
                until("in use", async || listener.generation() == links).await;
                drop(peer);
                until("lost", async || !listener.is_connected()).await;
            };
            tokio::select! {
                biased;
                () = dialed => if links > 100 { break false },
                () = async {
                    until("32 losses", async || event_log.count("disconnected") == 32).await;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                } => break true,
            }
        };
        assert!(has_stopped);
        assert!(scripted.sees_no_dial(Duration::from_millis(200)).await);
        in_time("close is prompt all the same", async { assert!(listener.ping().await.is_err()) }).await;
        for generation in 1..32 {
            assert!(matches!(next(&mut listener).await, Message::Lost { generation: lost, .. } if lost == generation));
            assert!(
                matches!(next(&mut listener).await, Message::Resynced { generation: up, .. } if up == generation + 1)
            );
        }
        let (_peer, _) = tokio::join!(scripted.accept_login(), outage(&mut listener));
        in_time("close", listener.close()).await;
    });
}

#[test]
fn thousand_channels_come_back_in_one_query_under_load() {
    let Some(server) = crate::server::Setup::of("thousand_channels_come_back_in_one_query_under_load")
        .set("log_statement", "all")
        .start()
    else {
        return;
    };
    on_one_and_two_threads(async || {
        let listener = connected(named(&server, "thousand")).await;
        let handle = listener.handle();
        let listens: Vec<_> = (0..1000)
            .map(|number| {
                let handle = handle.clone();
                tokio::spawn(async move { handle.listen(&format!("channel {number}")).await })
            })
            .collect();
        for listen in listens {
            in_time("listen", listen).await.unwrap().unwrap();
        }
        let load = server.client().await;
        let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let load = tokio::spawn({
            let is_over = std::sync::Arc::clone(&is_over);
            async move {
                let mut sent = 0;
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    let sql = "SELECT pg_notify('channel ' || n, (SELECT now())::text) FROM generate_series(0, 999) n";
                    load.batch(sql).await.unwrap();
                    sent += 1000;
                }
                sent
            }
        });
        let client = server.client().await;
        let mut listener = listener;
        for _ in 0..3 {
            for _ in 0..1000 {
                payload(&mut listener).await;
            }
            terminate(&client, "thousand").await;
            while matches!(next(&mut listener).await, Message::Notification(_)) {}
            assert!(matches!(next(&mut listener).await, Message::Resynced { .. }));
            // Everything sent from now on arrives, on each channel.
            client
                .batch("SELECT pg_notify('channel ' || n, 'roll call') FROM generate_series(0, 999) n")
                .await
                .unwrap();
            let mut present = std::collections::BTreeSet::new();
            while present.len() < 1000 {
                match next(&mut listener).await {
                    Message::Notification(notification) if notification.payload() == "roll call" => {
                        assert!(present.insert(notification.channel().to_owned()));
                    }
                    Message::Notification(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        let drained = async { while listener.recv().await.is_ok() {} };
        tokio::select! { sent = load => assert!(sent.unwrap() > 0), () = drained => panic!("it ended") }
        let log = server.log();
        let batches = log.lines().filter(|line| line.matches("LISTEN \"channel").count() == 1000).count();
        assert!(batches >= 3, "{batches}");
    });
}
