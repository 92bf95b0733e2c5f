//! A reader that does not read.

use std::time::{Duration, Instant};

use perconn::postgres::{Error, Message, WhenFull};

use crate::fake::{Fake, done, notification};
use crate::server::Postgres;
use crate::support::in_time;
use crate::world::{Diary, connected, next, on_one_and_two_threads, outage, payload, quick};

#[test]
fn queue_that_waits_loses_nothing_however_slow_the_reader_is() {
    let Some(server) = Postgres::start("queue_that_waits_loses_nothing") else { return };
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
fn what_the_full_queue_drops_is_counted_at_the_place_of_the_gap() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let mut listener = quick(fake.config()).queue(10).when_full(WhenFull::Drop).build().unwrap();
        let handle = listener.handle();
        let mut talk = fake.welcome().await;
        let (listened, _) = tokio::join!(handle.listen("a"), talk.obey());
        listened.unwrap();
        for round in 0..3 {
            let all: Vec<u8> = (0..1000).flat_map(|number| notification("a", &number.to_string())).collect();
            // Nobody reads, and it is alive all the same.
            let (pong, ()) = tokio::join!(handle.ping(), async {
                talk.send(&all).await;
                let sql = talk.query().await.unwrap();
                talk.send(&done(&sql)).await;
            });
            pong.unwrap();
            for number in 0..10 {
                assert_eq!(payload(&mut listener).await, number.to_string(), "round {round}");
            }
            let (pong, ()) = tokio::join!(handle.ping(), async {
                talk.send(&notification("a", "after the gap")).await;
                let sql = talk.query().await.unwrap();
                talk.send(&done(&sql)).await;
            });
            pong.unwrap();
            assert!(matches!(next(&mut listener).await, Message::Dropped { count: 990, .. }));
            assert_eq!(payload(&mut listener).await, "after the gap");
        }
        // A gap before a loss stands before it.
        let all: Vec<u8> = (0..12).flat_map(|number| notification("a", &number.to_string())).collect();
        talk.send(&all).await;
        drop(talk);
        let mut talk = fake.welcome().await;
        talk.obey().await;
        for number in 0..10 {
            assert_eq!(payload(&mut listener).await, number.to_string());
        }
        assert!(matches!(next(&mut listener).await, Message::Dropped { count: 2, .. }));
        outage(&mut listener).await;
    });
}

/// A listener whose queue of ten is full, and so is the socket behind it, as far as the kernel takes it.
async fn full(limit: Duration) -> (Fake, crate::fake::Talk, perconn::postgres::Listener, Diary) {
    let fake = Fake::start().await;
    let diary = Diary::default();
    let listener = quick(fake.config())
        .queue(10)
        .heartbeat(Duration::from_millis(100))
        .ping_timeout(limit)
        .on_event(diary.hook())
        .build()
        .unwrap();
    let handle = listener.handle();
    let mut talk = fake.welcome().await;
    let (listened, _) = tokio::join!(handle.listen("a"), async {
        // (A heartbeat may come in between.)
        while talk.obey().await.is_empty() {}
    });
    listened.unwrap();
    let all: Vec<u8> = (0..1000).flat_map(|number| notification("a", &number.to_string())).collect();
    talk.send(&all).await;
    (fake, talk, listener, diary)
}

#[test]
fn calls_say_that_nobody_reads_and_the_pause_is_not_taken_for_silence() {
    on_one_and_two_threads(async || {
        let limit = Duration::from_millis(300);
        let (_fake, mut talk, mut listener, diary) = full(limit).await;
        let handle = listener.handle();
        let begin = Instant::now();
        let ping = async {
            // (The first one may still be answered, or be on its way when the queue fills up.)
            loop {
                match handle.ping().await {
                    Err(error) => break error,
                    Ok(()) => continue,
                }
            }
        };
        let answering = async {
            loop {
                talk.obey().await;
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
        // Three times as long as silence is borne.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(diary.words(), ["connected"]);
        assert!(handle.is_connected());
        // What was received before is handed out, also of a channel that was unlistened; and then it goes on.
        assert_eq!(payload(&mut listener).await, "0");
        let reading = async { while listener.recv().await.is_ok() {} };
        let answering = async {
            loop {
                if talk.obey().await.contains("UNLISTEN \"a\"") {
                    break;
                }
            }
        };
        tokio::select! { () = reading => panic!("it ended"), () = answering => {} }
    });
}

#[test]
fn close_and_drop_are_prompt_while_nobody_reads() {
    on_one_and_two_threads(async || {
        for policy in [WhenFull::Wait, WhenFull::Drop] {
            for is_dropped in [false, true] {
                let fake = Fake::start().await;
                let builder = quick(fake.config()).queue(10).when_full(policy).ping_timeout(Duration::from_secs(60));
                let mut listener = builder.build().unwrap();
                let handle = listener.handle();
                let mut talk = fake.welcome().await;
                let (listened, _) = tokio::join!(handle.listen("a"), talk.obey());
                listened.unwrap();
                let all: Vec<u8> = (0..1000).flat_map(|number| notification("a", &number.to_string())).collect();
                talk.send(&all).await;
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
                assert!(talk.is_over().await);
            }
        }
    });
}

#[test]
fn all_that_was_received_is_handed_out_though_this_side_writes_after_the_end() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let mut listener = quick(fake.config()).queue(100).build().unwrap();
        let handle = listener.handle();
        let mut talk = fake.welcome().await;
        let (listened, _) = tokio::join!(handle.listen("a"), talk.obey());
        listened.unwrap();
        let all: Vec<u8> = (0..3000).flat_map(|number| notification("a", &number.to_string())).collect();
        talk.send(&all).await;
        drop(talk);
        for number in 0..3000 {
            assert_eq!(payload(&mut listener).await, number.to_string());
            if [1000, 1500, 2000].contains(&number) {
                // However far behind the reader is.
                tokio::time::sleep(Duration::from_millis(1100)).await;
            }
            if number % 20 == 0 {
                // It is asked again and again, and each question is a write.
                let _ = tokio::time::timeout(Duration::from_millis(2), handle.ping()).await;
            }
        }
        let mut talk = fake.welcome().await;
        talk.obey().await;
        outage(&mut listener).await;
    });
}
