//! Channels: `listen`, `unlisten` and notifications, also through outages.
//!
//! Next: `races`, for the same at unfavourable moments.

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

use crate::helpers::{
    EventLog, connected, named, next, on_one_and_two_threads, outage, payload, quick, terminate, until,
};
use crate::scripted_server::{ScriptedServer, command_complete, error_response, notification, ready_for_query};
use crate::server::Postgres;
use crate::support::in_time;

#[test]
fn notifications_arrive_before_and_after_the_session_is_terminated() {
    let Some(server) = Postgres::start("notifications_arrive_before_and_after_the_session_is_terminated") else {
        return;
    };
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
fn names_of_every_kind_are_taken_literally() {
    let Some(server) = Postgres::start("names_of_every_kind_are_taken_literally") else { return };
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
        for (name, reason) in
            [("", "empty"), ("a\0", "zero byte"), (&*"x".repeat(64), "63 bytes"), (&"\u{e9}".repeat(32), "63 bytes")]
        {
            for error in [listener.listen(name).await.unwrap_err(), listener.unlisten(name).await.unwrap_err()] {
                assert!(matches!(&error, Error::InvalidChannel { .. }), "{error:?}");
                assert!(error.to_string().contains(reason), "{error}");
            }
        }
        assert_eq!(listener.channels().len(), names.len());
        in_time("unlisten_all", listener.unlisten_all()).await.unwrap();
        assert!(listener.channels().is_empty());
        assert_eq!(server.client().await.query("SELECT * FROM pg_listening_channels()", &[]).await.unwrap().len(), 0);
    });
}

#[test]
fn payloads_from_empty_to_the_longest_arrive_whole() {
    let Some(server) = Postgres::start("payloads_from_empty_to_the_longest_arrive_whole") else { return };
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
fn channel_is_listened_to_once_for_all_handles() {
    let Some(server) = Postgres::start("channel_is_listened_to_once_for_all_handles") else { return };
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
fn refused_listen_returns_the_error_and_is_not_tried_again() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let mut listener = quick(scripted.config()).build().unwrap();
        let handle = listener.handle();
        let mut peer = scripted.accept_login().await;
        let (listened, _) = tokio::join!(handle.listen("good"), peer.answer_query());
        listened.unwrap();
        let (refused, ()) = tokio::join!(handle.listen("bad"), async {
            assert_eq!(peer.read_query().await.unwrap(), "LISTEN \"bad\"");
            peer.send(&[error_response("ERROR", "25006"), ready_for_query()].concat()).await;
        });
        let refused = refused.unwrap_err();
        assert!(matches!(&refused, Error::Refused { statement, .. } if statement == "LISTEN \"bad\""), "{refused:?}");
        assert_eq!(refused.code().unwrap().code(), "25006");
        assert_eq!(listener.channels(), ["good"]);
        // No UNLISTEN follows. (In a failed transaction the server would refuse it too.)
        let (pong, sql) = tokio::join!(handle.ping(), peer.answer_query());
        pong.unwrap();
        assert_eq!(sql, "");
        drop(peer);
        let mut peer = scripted.accept_login().await;
        assert_eq!(peer.answer_query().await, "LISTEN \"good\";");
        outage(&mut listener).await;
        // The listener sends nothing else before this ping.
        let (pong, sql) = tokio::join!(handle.ping(), peer.answer_query());
        pong.unwrap();
        assert_eq!(sql, "");
    });
}

#[test]
fn refused_unlisten_ends_the_connection_because_the_channels_of_the_server_are_unknown() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let mut listener = quick(scripted.config()).build().unwrap();
        let handle = listener.handle();
        let mut peer = scripted.accept_login().await;
        for name in ["a", "b"] {
            let (listened, _) = tokio::join!(handle.listen(name), peer.answer_query());
            listened.unwrap();
        }
        let (unlistened, ()) = tokio::join!(handle.unlisten("a"), async {
            assert_eq!(peer.read_query().await.unwrap(), "UNLISTEN \"a\";");
            peer.send(&[error_response("ERROR", "XX000"), ready_for_query()].concat()).await;
        });
        unlistened.unwrap();
        peer.wait_for_close().await;
        let mut peer = scripted.accept_login().await;
        assert_eq!(peer.answer_query().await, "LISTEN \"b\";");
        assert_eq!(outage(&mut listener).await.code().unwrap().code(), "XX000");
    });
}

#[test]
fn connection_that_refuses_the_channels_is_a_failed_attempt() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let event_log = EventLog::default();
        let mut listener = quick(scripted.config()).on_event(event_log.hook()).build().unwrap();
        let handle = listener.handle();
        let mut peer = scripted.accept_login().await;
        let (listened, _) = tokio::join!(handle.listen("a"), peer.answer_query());
        listened.unwrap();
        drop(peer);
        for _ in 0..3 {
            let mut peer = scripted.accept_login().await;
            peer.read_query().await.unwrap();
            peer.send(&[error_response("ERROR", "25006"), ready_for_query()].concat()).await;
            peer.wait_for_close().await;
        }
        let mut peer = scripted.accept_login().await;
        peer.answer_query().await;
        outage(&mut listener).await;
        assert_eq!(event_log.kinds(), ["connected", "disconnected", "attempt", "attempt", "attempt", "reconnected"]);
        let Event::AttemptFailed { cause, .. } = &event_log.events()[2] else { panic!() };
        assert_eq!(cause.code().unwrap().code(), "25006");
    });
}

#[test]
fn listen_waits_through_an_outage_for_the_acknowledgement() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let listener = quick(scripted.config()).build().unwrap();
        let handle = listener.handle();
        let listen = tokio::spawn(async move { handle.listen("a").await });
        // The connection is lost before the LISTEN, in the middle of its answer, and by an error in place of the answer.
        drop(scripted.accept_login().await);
        let mut peer = scripted.accept_login().await;
        assert_eq!(peer.read_query().await.unwrap(), "LISTEN \"a\"");
        peer.send(&command_complete("LISTEN")[..5]).await;
        drop(peer);
        let mut peer = scripted.accept_login().await;
        assert_eq!(peer.read_query().await.unwrap(), "LISTEN \"a\"");
        peer.send(&error_response("FATAL", "57P01")).await;
        drop(peer);
        let mut peer = scripted.accept_login().await;
        assert!(!listen.is_finished());
        assert_eq!(peer.answer_query().await, "LISTEN \"a\"");
        in_time("listen", listen).await.unwrap().unwrap();
    });
}

#[test]
fn cancelled_listen_leaves_nothing_behind_at_any_stage() {
    let Some(server) = Postgres::start("cancelled_listen_leaves_nothing_behind_at_any_stage") else { return };
    on_one_and_two_threads(async || {
        // A `ListenerConn`, because it can query its own channels.
        until("the server accepts clients", async || ListenerConn::connect(server.config()).await.is_ok()).await;
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
        println!("listens that completed before they were cancelled: {finished} of 300");
    });
}

#[test]
fn notification_of_a_cancelled_listen_is_not_delivered() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let mut listener = quick(scripted.config()).build().unwrap();
        let mut peer = scripted.accept_login().await;
        {
            let listen = listener.listen("a");
            tokio::pin!(listen);
            tokio::select! { _ = &mut listen => panic!("nothing has answered"), sql = peer.read_query() => assert!(sql.is_some()) }
        }
        assert!(listener.channels().is_empty());
        assert_eq!(peer.read_query().await.unwrap(), "UNLISTEN \"a\";");
        peer.send(&command_complete("LISTEN")).await;
        peer.send(&notification("a", "not wanted")).await;
        peer.send(&command_complete("UNLISTEN")).await;
        peer.send(&notification("other", "wanted")).await;
        assert_eq!(payload(&mut listener).await, "wanted");
    });
}

#[test]
fn unlisten_that_was_polled_once_is_done() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let listener = quick(scripted.config()).build().unwrap();
        let names: Vec<String> = (0..300).map(|number| format!("c{number}")).collect();
        let mut waiting = Vec::new();
        for name in &names {
            let mut listen = Box::pin(listener.listen(name));
            // Until the request is made: the cooperative budget may be used up before.
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
        let scripted = ScriptedServer::start().await;
        // Each dial needs a permit.
        let permits = Arc::new(Semaphore::new(1));
        let (free, address) = (Arc::clone(&permits), scripted.address);
        let dialer = dial_fn(move || {
            let free = Arc::clone(&free);
            async move {
                free.acquire().await.unwrap().forget();
                TcpStream::connect(address).await
            }
        });
        let mut listener = quick(scripted.config_without_host()).dialer(dialer).build().unwrap();
        let handle = listener.handle();
        let mut peer = scripted.accept_login().await;
        for name in ["a", "b", "c"] {
            let (listened, _) = tokio::join!(handle.listen(name), peer.answer_query());
            listened.unwrap();
        }
        drop(peer);
        until("lost", async || !handle.is_connected()).await;
        in_time("unlisten", handle.unlisten("a")).await.unwrap();
        permits.add_permits(1);
        // And an `unlisten` during the next login, which includes the channel.
        let mut peer = scripted.accept_login().await;
        assert_eq!(peer.read_query().await.unwrap(), "LISTEN \"b\";LISTEN \"c\";");
        in_time("unlisten", handle.unlisten("b")).await.unwrap();
        peer.send(&command_complete("LISTEN;LISTEN")).await;
        assert_eq!(peer.answer_query().await, "UNLISTEN \"b\";");
        outage(&mut listener).await;
        assert_eq!(listener.channels(), ["c"]);
    });
}

#[test]
fn channels_agree_with_the_server_after_a_race_of_listens_cancels_and_losses() {
    let Some(server) = Postgres::start("channels_agree_with_the_server_after_a_race_of_listens_cancels_and_losses")
    else {
        return;
    };
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
                            let limit = Duration::from_micros(random.random_range(0..3_000));
                            let _ = match random.random_range(0..2) {
                                0 => tokio::time::timeout(limit, handle.listen(name)).await,
                                _ => tokio::time::timeout(limit, handle.unlisten(name)).await,
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
            let mut received = Vec::new();
            loop {
                match next(&mut listener).await {
                    Message::Notification(notification) if notification.channel() == "end" => break,
                    Message::Notification(notification) if notification.payload() == format!("round {round}") => {
                        received.push(notification.channel().to_owned());
                    }
                    _ => {}
                }
            }
            received.sort();
            assert_eq!(received, wanted, "round {round}");
            in_time("unlisten", listener.unlisten("end")).await.unwrap();
        }
    });
}
