//! Ends and notifications at moments in which they could be overlooked.

use std::time::Duration;

use perconn::postgres::{Error, Event, Message, WhenFull};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fake::{Fake, done, error, notification, ok, ready};
use crate::server::Postgres;
use crate::support::in_time;
use crate::world::{Diary, next, on_one_and_two_threads, outage, payload, quick, until};

#[test]
fn end_that_comes_with_the_answer_to_the_listening_is_not_overlooked() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let mut listener = quick(fake.config()).heartbeat(None).build().unwrap();
        let handle = listener.handle();
        let mut talk = fake.welcome().await;
        let (listened, _) = tokio::join!(handle.listen("a"), talk.obey());
        listened.unwrap();
        drop(talk);
        let mut short = fake.welcome().await;
        let sql = short.query().await.unwrap();
        short.send(&[done(&sql), error("FATAL", "57P01")].concat()).await;
        // (A server that waits for the client to go.)
        assert!(short.is_over().await);
        let mut talk = fake.welcome().await;
        talk.obey().await;
        talk.send(&notification("a", "heard")).await;
        let Message::Lost { .. } = next(&mut listener).await else { panic!("expected a loss") };
        // Whether the short one counts as a connection or not: the last one is heard.
        let heard = async {
            loop {
                if let Message::Notification(notification) = next(&mut listener).await {
                    return notification;
                }
            }
        };
        assert_eq!(in_time("the last one", heard).await.payload(), "heard");
    });
}

#[test]
fn all_that_was_received_is_handed_out_whoever_asks_the_server_meanwhile() {
    let Some(server) = Postgres::start("all_that_was_received") else { return };
    on_one_and_two_threads(async || {
        let client = server.client().await;
        let mut config = server.config();
        config.application_name("asked all the while");
        let mut listener = crate::world::connected(quick(config)).await;
        in_time("listen", listener.listen("a")).await.unwrap();
        client.batch("SELECT pg_notify('a', n::text) FROM generate_series(0, 9999) n").await.unwrap();
        // (Or the server may end the session before it has sent anything. What it has begun to send, it sends to the end.)
        assert_eq!(payload(&mut listener).await, "0");
        crate::world::terminate(&client, "asked all the while").await;
        let handle = listener.handle();
        let asker = tokio::spawn(async move {
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
        asker.abort();
    });
}

#[test]
fn connection_that_is_reset_right_after_its_login_is_told() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let diary = Diary::default();
        let listener = quick(fake.config()).on_event(diary.hook()).build().unwrap();
        for _ in 0..20 {
            let mut talk = fake.accept().await;
            talk.startup().await;
            talk.send(&[ok(), ready()].concat()).await;
            talk.reset();
        }
        let told = async || diary.count("attempt") + diary.count("disconnected");
        until("each is told", async || told().await == 20).await;
        for event in diary.events() {
            if let Event::AttemptFailed { attempt, cause, .. } = event {
                assert!(attempt > 0 && matches!(*cause, Error::Connect { .. }), "{cause:?}");
            }
        }
        drop(listener);
    });
}

#[test]
fn one_connection_that_is_lost_before_its_use_is_lost() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        for number in 0..50 {
            let (conn, ()) = tokio::join!(quick(fake.config()).connect_once(), async {
                let talk = fake.welcome().await;
                if number % 2 == 0 { talk.reset() } else { drop(talk) }
            });
            // (It may also have ended before its login was over.)
            let Ok(mut conn) = conn else { continue };
            let error = in_time("the end", conn.recv()).await.unwrap_err();
            assert!(matches!(error, Error::Lost { .. }), "{error:?}");
            assert!(matches!(conn.error(), Some(Error::Lost { .. })));
        }
    });
}

#[test]
fn notification_of_any_length_is_handed_out_in_its_place() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let mut listener = quick(fake.config()).build().unwrap();
        let handle = listener.handle();
        let mut talk = fake.welcome().await;
        let (listened, _) = tokio::join!(handle.listen("a"), talk.obey());
        listened.unwrap();
        let lengths = [1, 32_755, 32_756, 2, 100_000, 3];
        let all: Vec<u8> = lengths.iter().flat_map(|length| notification("a", &"x".repeat(*length))).collect();
        talk.send(&all).await;
        for length in lengths {
            assert_eq!(payload(&mut listener).await.len(), length);
        }
    });
}

#[test]
fn losses_that_nobody_takes_stop_the_attempts_and_are_a_backlog() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let builder = quick(fake.config()).when_full(WhenFull::Drop).ping_timeout(Duration::from_millis(300));
        let mut listener = builder.build().unwrap();
        let handle = listener.handle();
        for generation in 1..=32 {
            let talk = fake.welcome().await;
            until("up", async || handle.generation() == generation).await;
            drop(talk);
            until("down", async || !handle.is_connected()).await;
        }
        assert!(matches!(in_time("listen", handle.listen("a")).await, Err(Error::Backlog { .. })));
        for _ in 1..32 {
            outage(&mut listener).await;
        }
        let mut talk = fake.welcome().await;
        let (listened, _) = tokio::join!(handle.listen("a"), talk.obey());
        listened.unwrap();
    });
}

#[test]
fn one_connection_goes_on_after_a_refused_listen_and_refuses_a_zero_byte() {
    let Some(server) = Postgres::start("one_connection_goes_on") else { return };
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
async fn end_of_one_connection_is_known_when_its_loss_is_told() {
    let fake = Fake::start().await;
    let (told, mut telling) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let builder = quick(fake.config()).on_event(move |event| {
        if matches!(event, Event::Disconnected { .. }) {
            let _ = told.send(());
            let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(10));
        }
    });
    let (conn, talk) = tokio::join!(builder.connect_once(), fake.welcome());
    let conn = conn.unwrap();
    drop(talk);
    telling.recv().await.unwrap();
    assert!(matches!(conn.error(), Some(Error::Lost { .. })), "{:?}", conn.error());
    go_on.send(()).unwrap();
}

#[test]
fn questions_are_sent_though_more_arrives_than_the_reader_takes() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let mut listener = quick(fake.config()).queue(64).build().unwrap();
        let handle = listener.handle();
        let mut talk = fake.welcome().await;
        let (listened, _) = tokio::join!(handle.listen("a"), talk.obey());
        listened.unwrap();
        let (mut read, mut write) = talk.0.into_split();
        let storm = tokio::spawn(async move {
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
        let (heard, mut hearing) = tokio::sync::mpsc::unbounded_channel();
        let ears = tokio::spawn(async move {
            while let Ok(b'Q') = read.read_u8().await {
                let mut sql = vec![0; read.read_u32().await.unwrap() as usize - 4];
                read.read_exact(&mut sql).await.unwrap();
                heard.send(String::from_utf8(sql).unwrap()).unwrap();
            }
        });
        let mut asking = tokio::task::JoinSet::new();
        for name in ["b", "c", "d"] {
            let handle = handle.clone();
            asking.spawn(async move { handle.listen(name).await });
            assert_eq!(in_time("it is sent", hearing.recv()).await.unwrap(), format!("LISTEN \"{name}\"\0"));
        }
        for task in [storm, reader, ears] {
            task.abort();
        }
    });
}

#[test]
fn goodbye_is_said_with_a_full_queue_too() {
    on_one_and_two_threads(async || {
        for _ in 0..100 {
            let fake = Fake::start().await;
            let builder = quick(fake.config()).queue(10).ping_timeout(Duration::from_millis(50));
            let listener = builder.build().unwrap();
            let mut talk = fake.welcome().await;
            talk.send(&notification("a", "x").repeat(1000)).await;
            until("full", async || matches!(listener.ping().await, Err(Error::Backlog { .. }))).await;
            in_time("close", listener.close()).await;
            match in_time("the goodbye", talk.message()).await {
                Some((b'X', _)) => return,
                // It was asked before it was full. As long as that is not answered, there is no goodbye.
                Some((b'Q', _)) | None => {}
                Some(other) => panic!("{other:?}"),
            }
        }
        panic!("no goodbye");
    });
}
