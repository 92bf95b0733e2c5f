//! Channels: listened to, unlistened, through outages.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use perconn::dial_fn;
use perconn::postgres::{Error, Event, ListenerConn, Message};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_postgres::SimpleQueryMessage;

use crate::fake::{Fake, done, error, notification, ready};
use crate::server::Postgres;
use crate::support::in_time;
use crate::world::{Diary, connected, named, next, on_one_and_two_threads, outage, payload, quick, terminate, until};

#[test]
fn notifications_arrive_before_and_after_the_session_is_terminated() {
    let Some(server) = Postgres::start("notifications_arrive_before_and_after") else { return };
    on_one_and_two_threads(async || {
        let mut listener = connected(named(&server, "me")).await;
        let client = server.client().await;
        in_time("listen", listener.listen("orders")).await.unwrap();
        client.notify("orders", "1").await.unwrap();
        assert_eq!(payload(&mut listener).await, "1");
        terminate(&client, "me").await;
        let cause = outage(&mut listener).await;
        assert_eq!(cause.code().unwrap().code(), "57P01");
        client.notify("orders", "2").await.unwrap();
        assert_eq!(payload(&mut listener).await, "2");
        assert_eq!(listener.channels(), ["orders"]);
        assert_eq!(listener.generation(), 2);
        in_time("ping", listener.ping()).await.unwrap();
        in_time("unlisten", listener.unlisten("orders")).await.unwrap();
        assert!(matches!(listener.unlisten("orders").await, Err(Error::NotListening { .. })));
        in_time("close", listener.close()).await;
        assert!(matches!(listener.recv().await, Err(Error::Closed)));
    });
}

#[test]
fn names_of_every_kind_are_channels_as_they_are() {
    let Some(server) = Postgres::start("names_of_every_kind") else { return };
    on_one_and_two_threads(async || {
        let mut listener = connected(quick(server.config())).await;
        let client = server.client().await;
        let long = "x".repeat(63);
        let cut = "\u{e9}".repeat(31);
        let names = [
            "Orders",
            "orders",
            "two words",
            "a\"b",
            "\"\"",
            "'",
            "\\",
            ";--",
            "SELECT",
            "$1",
            "日本",
            &long,
            &cut,
            " ",
        ];
        for name in names {
            in_time("listen", listener.listen(name)).await.unwrap();
        }
        for (number, name) in names.iter().enumerate() {
            client.notify(name, &number.to_string()).await.unwrap();
            assert_eq!(payload(&mut listener).await, number.to_string(), "{name}");
        }
        for (name, why) in
            [("", "empty"), ("a\0", "zero byte"), (&*"x".repeat(64), "63 bytes"), (&"\u{e9}".repeat(32), "63 bytes")]
        {
            for error in [listener.listen(name).await.unwrap_err(), listener.unlisten(name).await.unwrap_err()] {
                assert!(matches!(&error, Error::InvalidChannel { .. }), "{error:?}");
                assert!(error.to_string().contains(why), "{error}");
            }
        }
        assert_eq!(listener.channels().len(), names.len());
        in_time("unlisten_all", listener.unlisten_all()).await.unwrap();
        assert!(listener.channels().is_empty());
        assert_eq!(server.client().await.query("SELECT * FROM pg_listening_channels()", &[]).await.unwrap().len(), 0);
    });
}

#[test]
fn payloads_from_nothing_to_the_longest_arrive_whole() {
    let Some(server) = Postgres::start("payloads_from_nothing") else { return };
    on_one_and_two_threads(async || {
        let mut listener = connected(quick(server.config())).await;
        let client = server.client().await;
        in_time("listen", listener.listen("a")).await.unwrap();
        for text in [String::new(), "x".repeat(7999), "\u{20ac}\n\t'\"\\".repeat(800)] {
            client.notify("a", &text).await.unwrap();
            assert_eq!(payload(&mut listener).await, text);
        }
    });
}

#[test]
fn channel_is_listened_to_once_whoever_asks() {
    let Some(server) = Postgres::start("channel_is_listened_to_once") else { return };
    on_one_and_two_threads(async || {
        let listener = connected(quick(server.config())).await;
        let handle = listener.handle();
        let (one, two) = tokio::join!(listener.listen("a"), handle.listen("a"));
        one.unwrap();
        assert!(matches!(two, Err(Error::AlreadyListening { .. })));
        assert!(matches!(handle.listen("a").await, Err(Error::AlreadyListening { .. })));
        let (gone, again) = tokio::join!(listener.unlisten("a"), handle.listen("a"));
        gone.unwrap();
        again.unwrap();
        assert_eq!(listener.channels(), ["a"]);
        in_time("unlisten_all", handle.unlisten_all()).await.unwrap();
        in_time("unlisten_all", handle.unlisten_all()).await.unwrap();
        assert!(matches!(handle.unlisten("a").await, Err(Error::NotListening { .. })));
    });
}

#[test]
fn refused_listen_says_so_and_is_not_tried_again() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let mut listener = quick(fake.config()).build().unwrap();
        let handle = listener.handle();
        let mut talk = fake.welcome().await;
        let (listened, _) = tokio::join!(handle.listen("good"), talk.obey());
        listened.unwrap();
        let (refused, ()) = tokio::join!(handle.listen("bad"), async {
            assert_eq!(talk.query().await.unwrap(), "LISTEN \"bad\"");
            talk.send(&[error("ERROR", "25006"), ready()].concat()).await;
        });
        let refused = refused.unwrap_err();
        assert!(matches!(&refused, Error::Refused { statement, .. } if statement == "LISTEN \"bad\""), "{refused:?}");
        assert_eq!(refused.code().unwrap().code(), "25006");
        assert_eq!(listener.channels(), ["good"]);
        // There is nothing to be taken back. (In a transaction that has failed, it would be refused as well.)
        let (pong, sql) = tokio::join!(handle.ping(), talk.obey());
        pong.unwrap();
        assert_eq!(sql, "");
        drop(talk);
        let mut talk = fake.welcome().await;
        assert_eq!(talk.obey().await, "LISTEN \"good\";");
        outage(&mut listener).await;
        // The next thing it says is what it is asked next.
        let (pong, sql) = tokio::join!(handle.ping(), talk.obey());
        pong.unwrap();
        assert_eq!(sql, "");
    });
}

#[test]
fn refused_unlisten_costs_the_link_as_nobody_knows_what_the_server_listens_to() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let mut listener = quick(fake.config()).build().unwrap();
        let handle = listener.handle();
        let mut talk = fake.welcome().await;
        for name in ["a", "b"] {
            let (listened, _) = tokio::join!(handle.listen(name), talk.obey());
            listened.unwrap();
        }
        let (unlistened, ()) = tokio::join!(handle.unlisten("a"), async {
            assert_eq!(talk.query().await.unwrap(), "UNLISTEN \"a\";");
            talk.send(&[error("ERROR", "XX000"), ready()].concat()).await;
        });
        unlistened.unwrap();
        assert!(talk.is_over().await);
        let mut talk = fake.welcome().await;
        assert_eq!(talk.obey().await, "LISTEN \"b\";");
        assert_eq!(outage(&mut listener).await.code().unwrap().code(), "XX000");
    });
}

#[test]
fn link_that_refuses_the_channels_is_given_up() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let diary = Diary::default();
        let mut listener = quick(fake.config()).on_event(diary.hook()).build().unwrap();
        let handle = listener.handle();
        let mut talk = fake.welcome().await;
        let (listened, _) = tokio::join!(handle.listen("a"), talk.obey());
        listened.unwrap();
        drop(talk);
        for _ in 0..3 {
            let mut talk = fake.welcome().await;
            talk.query().await.unwrap();
            talk.send(&[error("ERROR", "25006"), ready()].concat()).await;
            assert!(talk.is_over().await);
        }
        let mut talk = fake.welcome().await;
        talk.obey().await;
        outage(&mut listener).await;
        assert_eq!(diary.words(), ["connected", "disconnected", "attempt", "attempt", "attempt", "reconnected"]);
        let Event::AttemptFailed { cause, .. } = &diary.events()[2] else { panic!() };
        assert_eq!(cause.code().unwrap().code(), "25006");
    });
}

#[test]
fn listen_waits_through_an_outage_for_the_acknowledgement() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let listener = quick(fake.config()).build().unwrap();
        let handle = listener.handle();
        let listen = tokio::spawn(async move { handle.listen("a").await });
        // Lost before it is asked, in the middle of the answer, and by a last word in its place.
        drop(fake.welcome().await);
        let mut talk = fake.welcome().await;
        assert_eq!(talk.query().await.unwrap(), "LISTEN \"a\"");
        talk.send(&done("LISTEN")[..5]).await;
        drop(talk);
        let mut talk = fake.welcome().await;
        assert_eq!(talk.query().await.unwrap(), "LISTEN \"a\"");
        talk.send(&error("FATAL", "57P01")).await;
        drop(talk);
        let mut talk = fake.welcome().await;
        assert!(!listen.is_finished());
        assert_eq!(talk.obey().await, "LISTEN \"a\"");
        in_time("listen", listen).await.unwrap().unwrap();
    });
}

#[test]
fn listen_that_is_cancelled_leaves_nothing_behind_wherever_it_was() {
    let Some(server) = Postgres::start("listen_that_is_cancelled") else { return };
    on_one_and_two_threads(async || {
        // (One connection, as it can be asked what it listens to.)
        until("a client is let in", async || ListenerConn::connect(server.config()).await.is_ok()).await;
        let conn = ListenerConn::connect(server.config()).await.unwrap();
        let mut finished = 0;
        for micros in 0..300 {
            let listen = conn.listen("a");
            if tokio::time::timeout(Duration::from_micros(micros * 5), listen).await.is_ok() {
                finished += 1;
                in_time("unlisten", conn.unlisten("a")).await.unwrap();
            }
            if micros % 3 == 0 {
                let rows = in_time("a query", conn.simple_query("SELECT pg_listening_channels()")).await.unwrap();
                assert!(!rows.iter().any(|row| matches!(row, SimpleQueryMessage::Row(_))), "{rows:?}");
            }
        }
        println!("listens that came through before they were cancelled: {finished} of 300");
    });
}

#[test]
fn notification_of_a_listen_that_was_cancelled_is_not_handed_out() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let mut listener = quick(fake.config()).build().unwrap();
        let mut talk = fake.welcome().await;
        {
            let listen = listener.listen("a");
            tokio::pin!(listen);
            tokio::select! { _ = &mut listen => panic!("nobody has answered"), sql = talk.query() => assert!(sql.is_some()) }
        }
        assert!(listener.channels().is_empty());
        assert_eq!(talk.query().await.unwrap(), "UNLISTEN \"a\";");
        talk.send(&done("LISTEN")).await;
        talk.send(&notification("a", "for nobody")).await;
        talk.send(&done("UNLISTEN")).await;
        talk.send(&notification("other", "for somebody")).await;
        assert_eq!(payload(&mut listener).await, "for somebody");
    });
}

#[test]
fn unlisten_that_was_polled_once_is_done_however_many_there_were() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let listener = quick(fake.config()).build().unwrap();
        let names: Vec<String> = (0..300).map(|number| format!("c{number}")).collect();
        let mut waiting = Vec::new();
        for name in &names {
            let mut listen = Box::pin(listener.listen(name));
            // (As often as it takes for it to be asked.)
            while (&mut listen).now_or_never().is_none() && !listener.channels().contains(name) {
                tokio::task::yield_now().await;
            }
            waiting.push(listen);
        }
        assert_eq!(listener.channels().len(), 300);
        for name in &names {
            let _ = listener.unlisten(name).now_or_never();
        }
        assert_eq!(listener.channels(), Vec::<String>::new());
    });
}

#[test]
fn unlisten_in_an_outage_is_done_at_once() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        // Each dial needs a permit.
        let permits = Arc::new(Semaphore::new(1));
        let (gate, address) = (Arc::clone(&permits), fake.address);
        let dialer = dial_fn(move || {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                TcpStream::connect(address).await
            }
        });
        let mut listener = quick(fake.config_without_host()).dialer(dialer).build().unwrap();
        let handle = listener.handle();
        let mut talk = fake.welcome().await;
        for name in ["a", "b", "c"] {
            let (listened, _) = tokio::join!(handle.listen(name), talk.obey());
            listened.unwrap();
        }
        drop(talk);
        until("lost", async || !handle.is_connected()).await;
        in_time("unlisten", handle.unlisten("a")).await.unwrap();
        permits.add_permits(1);
        // And while the next link begins, of which one channel is a part.
        let mut talk = fake.welcome().await;
        assert_eq!(talk.query().await.unwrap(), "LISTEN \"b\";LISTEN \"c\";");
        in_time("unlisten", handle.unlisten("b")).await.unwrap();
        talk.send(&done("LISTEN;LISTEN")).await;
        assert_eq!(talk.obey().await, "UNLISTEN \"b\";");
        outage(&mut listener).await;
        assert_eq!(listener.channels(), ["c"]);
    });
}

#[test]
fn channels_agree_with_the_server_after_a_race_of_listens_cancels_and_losses() {
    let Some(server) = Postgres::start("channels_agree_with_the_server") else { return };
    on_one_and_two_threads(async || {
        let mut listener = connected(named(&server, "racer")).await;
        let handle = listener.handle();
        let client = server.client().await;
        let mut random = SmallRng::seed_from_u64(7);
        for round in 0..15 {
            let racers: Vec<_> = (0..8)
                .map(|_| {
                    let (handle, mut random) = (handle.clone(), SmallRng::seed_from_u64(random.random()));
                    tokio::spawn(async move {
                        for _ in 0..10 {
                            let name = ["a", "b", "c", "d"][random.random_range(0..4)];
                            let patience = Duration::from_micros(random.random_range(0..3_000));
                            let _ = match random.random_range(0..2) {
                                0 => tokio::time::timeout(patience, handle.listen(name)).await,
                                _ => tokio::time::timeout(patience, handle.unlisten(name)).await,
                            };
                        }
                    })
                })
                .collect();
            if round % 2 == 0 {
                client.terminate_named("racer").await.unwrap();
            }
            for racer in racers {
                in_time("a racer", racer).await.unwrap();
            }
            until("answers", async || listener.ping().await.is_ok()).await;
            let wanted = listener.channels();
            for name in ["a", "b", "c", "d"] {
                client.notify(name, &format!("round {round}")).await.unwrap();
            }
            in_time("listen", listener.listen("end")).await.unwrap();
            client.notify("end", "").await.unwrap();
            let mut heard = Vec::new();
            loop {
                match next(&mut listener).await {
                    Message::Notification(notification) if notification.channel() == "end" => break,
                    Message::Notification(notification) if notification.payload() == format!("round {round}") => {
                        heard.push(notification.channel().to_owned());
                    }
                    _ => {}
                }
            }
            heard.sort();
            assert_eq!(heard, wanted, "round {round}");
            in_time("unlisten", listener.unlisten("end")).await.unwrap();
        }
    });
}
