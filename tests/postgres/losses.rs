//! What counts as a loss, and what the reader is told of it.

use std::time::Duration;

use perconn::postgres::{Error, Message};

use crate::fake::{Fake, done, error, notification, ready};
use crate::server::Postgres;
use crate::support::in_time;
use crate::world::{Diary, connected, named, next, on_one_and_two_threads, outage, payload, quick, terminate, until};

#[test]
fn listener_survives_whatever_befalls_the_server() {
    let Some(server) = Postgres::start("listener_survives_whatever") else { return };
    on_one_and_two_threads(async || {
        let mut listener = connected(named(&server, "survivor")).await;
        in_time("listen", listener.listen("orders")).await.unwrap();
        for (number, what) in ["terminated", "killed", "shut down", "cut off"].into_iter().enumerate() {
            let client = server.client().await;
            client.notify("orders", what).await.unwrap();
            until("received", async || listener.ping().await.is_ok()).await;
            match what {
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
            assert_eq!(payload(&mut listener).await, what);
            outage(&mut listener).await;
            assert_eq!(listener.generation(), number as u64 + 2);
            server.client().await.notify("orders", "again").await.unwrap();
            assert_eq!(payload(&mut listener).await, "again", "{what}");
        }
    });
}

#[test]
fn any_error_is_a_loss() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let diary = Diary::default();
        let mut listener = quick(fake.config()).on_event(diary.hook()).build().unwrap();
        let handle = listener.handle();
        let mut talk = fake.welcome().await;
        let (listened, _) = tokio::join!(handle.listen("a"), talk.obey());
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
            talk.send(&notification("a", way)).await;
            assert_eq!(payload(&mut listener).await, way);
            match way {
                "reset" => talk.reset(),
                "close" => drop(talk),
                "half a message" => {
                    talk.send(&notification("a", "half")[..9]).await;
                    drop(talk);
                }
                "garbage" => talk.send(&[b'?', 0, 0, 0, 4, b'?', 0, 0, 0, 4]).await,
                "an unasked answer" => talk.send(&ready()).await,
                "a fatal error" => talk.send(&error("FATAL", "57P01")).await,
                "a fatal answer" => {
                    let ping = tokio::spawn({
                        let handle = handle.clone();
                        async move { handle.ping().await }
                    });
                    talk.query().await.unwrap();
                    talk.send(&error("FATAL", "57P02")).await;
                    let error = in_time("the ping", ping).await.unwrap().unwrap_err();
                    assert!(matches!(error, Error::Lost { .. }), "{error:?}");
                    assert_eq!(error.code().unwrap().code(), "57P02");
                }
                _ => talk.send(&[b'A', 0, 0, 0, 8, 0, 0, 0, 1]).await,
            }
            talk = fake.welcome().await;
            assert_eq!(talk.obey().await, "LISTEN \"a\";", "{way}");
            let cause = outage(&mut listener).await;
            assert!(matches!(*cause, Error::Lost { .. }), "{way}: {cause:?}");
            if way == "a fatal error" {
                assert_eq!(cause.code().unwrap().code(), "57P01");
            }
        }
        assert_eq!(diary.count("disconnected"), ways.len());
        assert_eq!(diary.count("reconnected"), ways.len());
    });
}

#[test]
fn marker_stands_between_what_was_received_before_and_what_comes_after() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let mut listener = quick(fake.config()).build().unwrap();
        let handle = listener.handle();
        let mut talk = fake.welcome().await;
        let (listened, _) = tokio::join!(handle.listen("a"), talk.obey());
        listened.unwrap();
        for round in 0..20 {
            // All of it in one piece, and then the end: the loss is known before the reader has taken anything.
            let all: Vec<u8> = (0..500).flat_map(|number| notification("a", &number.to_string())).collect();
            talk.send(&all).await;
            drop(talk);
            talk = fake.welcome().await;
            let sql = talk.query().await.unwrap();
            // With the answer come notifications already, before it is whole.
            let mut answer = done(&sql);
            answer.truncate(answer.len() - ready().len());
            answer.extend(notification("a", "first"));
            answer.extend(ready());
            answer.extend(notification("a", "second"));
            talk.send(&answer).await;
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
fn losses_are_not_merged_and_beyond_their_allowance_the_next_attempt_waits_for_the_reader() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let diary = Diary::default();
        let mut listener = quick(fake.config()).on_event(diary.hook()).build().unwrap();
        let mut links = 0;
        let in_peace = loop {
            let dialed = async {
                let mut talk = fake.accept().await;
                talk.welcome().await;
                // (If the end came before it has logged in, it would be a failed attempt.)
                links += 1;
                until("in use", async || listener.generation() == links).await;
                drop(talk);
                until("lost", async || !listener.is_connected()).await;
            };
            tokio::select! {
                biased;
                () = dialed => if links > 100 { break false },
                () = async {
                    until("the allowance is used up", async || diary.count("disconnected") == 32).await;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                } => break true,
            }
        };
        assert!(in_peace);
        assert!(fake.is_left_alone(Duration::from_millis(200)).await);
        in_time("close is prompt all the same", async { assert!(listener.ping().await.is_err()) }).await;
        for generation in 1..32 {
            assert!(matches!(next(&mut listener).await, Message::Lost { generation: lost, .. } if lost == generation));
            assert!(
                matches!(next(&mut listener).await, Message::Resynced { generation: up, .. } if up == generation + 1)
            );
        }
        let (_talk, _) = tokio::join!(fake.welcome(), outage(&mut listener));
        in_time("close", listener.close()).await;
    });
}

#[test]
fn thousand_channels_come_back_together_in_one_query_in_the_middle_of_a_storm() {
    let Some(server) = crate::server::Setup::of("thousand_channels").set("log_statement", "all").start() else {
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
        let storm = server.client().await;
        let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let storm = tokio::spawn({
            let is_over = std::sync::Arc::clone(&is_over);
            async move {
                let mut sent = 0;
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    let sql = "SELECT pg_notify('channel ' || n, (SELECT now())::text) FROM generate_series(0, 999) n";
                    storm.batch(sql).await.unwrap();
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
            // What is sent from now on arrives, on each channel.
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
        tokio::select! { sent = storm => assert!(sent.unwrap() > 0), () = drained => panic!("it ended") }
        let log = server.log();
        let batches = log.lines().filter(|line| line.matches("LISTEN \"channel").count() == 1000).count();
        assert!(batches >= 3, "{batches}");
    });
}
