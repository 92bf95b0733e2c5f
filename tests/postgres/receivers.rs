//! Several receivers of one listener, several channels in one call, statements of the program in the same session.
//!
//! Next: `queue`, for readers that are slow.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use perconn::Status;
use perconn::postgres::{Error, Message, Notification, Subscription, WhenFull};
use tokio_postgres::SimpleQueryMessage;

use crate::helpers::{connected, named, next, on_one_and_two_threads, outage, payload, quick, terminate, until};
use crate::scripted_server::{ScriptedServer, command_complete, error_response, notification, ready_for_query};
use crate::server::{Plain, Postgres};
use crate::support::in_time;

/// The payload of the next message, which must be a notification.
async fn heard(subscription: &mut Subscription) -> String {
    match in_time("a message", subscription.recv()).await.unwrap() {
        Message::Notification(heard) => heard.payload().to_owned(),
        other => panic!("expected a notification: {other:?}"),
    }
}

/// Takes the next two messages, which must be the markers of one loss.
async fn markers(subscription: &mut Subscription) {
    assert!(matches!(in_time("a message", subscription.next()).await, Some(Ok(Message::Lost { .. }))));
    assert!(matches!(in_time("a message", subscription.next()).await, Some(Ok(Message::Resynced { .. }))));
}

/// How many channels the session of this name listens to. It has to answer for itself.
async fn listening(listener: &perconn::postgres::Listener) -> usize {
    let rows = in_time("a query", listener.simple_query("SELECT pg_listening_channels()")).await.unwrap();
    rows.iter().filter(|row| matches!(row, SimpleQueryMessage::Row(_))).count()
}

#[test]
fn receivers_of_one_listener_have_channels_of_their_own_and_share_the_connection() {
    let Some(server) = Postgres::start("receivers_of_one_listener_have_channels_of_their_own_and_share_the_connection")
    else {
        return;
    };
    on_one_and_two_threads(async || {
        let client = server.client().await;
        let mut listener = connected(named(&server, "shared")).await;
        in_time("listen", listener.listen("a")).await.unwrap();
        let mut first = in_time("subscribe", listener.subscribe("a")).await.unwrap();
        let mut second = in_time("subscribe", listener.handle().subscribe("a")).await.unwrap();
        let mut other = in_time("subscribe", listener.subscribe("b")).await.unwrap();
        assert_eq!((first.channel(), other.channel()), ("a", "b"));
        assert_eq!(client.sessions_named("shared").await.unwrap().len(), 1);
        client.batch("NOTIFY a, '1'; NOTIFY b, '2'; NOTIFY a, '3'").await.unwrap();
        for receiver in [&mut first, &mut second] {
            assert_eq!((heard(receiver).await, heard(receiver).await), ("1".into(), "3".into()));
        }
        assert_eq!(heard(&mut other).await, "2");
        // The listener has its own channel only.
        assert_eq!((payload(&mut listener).await, payload(&mut listener).await), ("1".into(), "3".into()));
        terminate(&client, "shared").await;
        outage(&mut listener).await;
        for receiver in [&mut first, &mut second, &mut other] {
            markers(receiver).await;
        }
        assert_eq!(listener.channels(), ["a", "b"]);
        // The listener sends `UNLISTEN` after the last user of a channel has gone, and not before.
        drop(other);
        until("b is given up", async || listening(&listener).await == 1).await;
        in_time("unlisten", listener.unlisten("a")).await.unwrap();
        assert!(matches!(listener.unlisten("a").await, Err(Error::NotListening { .. })));
        drop(first);
        client.batch("NOTIFY a, '4'").await.unwrap();
        assert_eq!(heard(&mut second).await, "4");
        assert_eq!(listening(&listener).await, 1);
        drop(second);
        until("a is given up", async || listening(&listener).await == 0).await;
        assert!(listener.channels().is_empty());
        assert!(listener.recv().now_or_never().is_none(), "nothing of the receivers came to the listener");
    });
}

#[test]
fn listener_that_nobody_reads_serves_its_receivers_through_any_number_of_losses() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let listener = quick(scripted.config()).build().unwrap();
        let mut peer = scripted.accept_login().await;
        let (subscribed, _) = tokio::join!(listener.subscribe("a"), peer.answer_query());
        let mut subscription = subscribed.unwrap();
        for number in 2..42 {
            drop(peer);
            peer = scripted.accept_login().await;
            peer.answer_query().await;
            // One that ends before it is used has no markers.
            until("it is used", async || listener.is_connected() && listener.generation() == number).await;
        }
        // The markers of the last losses would say the same as the ones before.
        for _ in 0..32 {
            markers(&mut subscription).await;
        }
        peer.send(&notification("a", "after them")).await;
        assert_eq!(heard(&mut subscription).await, "after them");
        drop(listener);
        assert!(matches!(in_time("the end", subscription.next()).await, Some(Err(Error::Closed))));
        assert!(in_time("the end", subscription.next()).await.is_none());
        assert!(matches!(subscription.recv().await, Err(Error::Closed)));
    });
}

#[test]
fn dropped_and_refused_subscriptions_leave_nothing_behind() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let listener = quick(scripted.config()).build().unwrap();
        let mut peer = scripted.accept_login().await;
        until("connected", async || listener.is_connected()).await;
        // Two at once, and the server refuses: each gets its own answer.
        let refusals = async {
            for _ in 0..2 {
                assert_eq!(peer.read_query().await.unwrap(), "LISTEN \"a\"");
                peer.send(&[error_response("ERROR", "42501"), ready_for_query()].concat()).await;
            }
        };
        let (one, two, ()) = tokio::join!(listener.subscribe("a"), listener.subscribe("a"), refusals);
        assert!(matches!(one, Err(Error::Refused { .. })) && matches!(two, Err(Error::Refused { .. })));
        assert!(listener.channels().is_empty());
        // One that is dropped before the answer.
        let handle = listener.handle();
        let subscribing = tokio::spawn(async move { handle.subscribe("b").await.map(drop) });
        assert_eq!(peer.read_query().await.unwrap(), "LISTEN \"b\"");
        subscribing.abort();
        let _ = subscribing.await;
        peer.send(&command_complete("LISTEN")).await;
        assert_eq!(peer.answer_query().await, "UNLISTEN \"b\";");
        assert!(listener.channels().is_empty());
    });
}

#[test]
fn full_queue_of_one_receiver_drops_or_stops_all_as_the_setting_says() {
    on_one_and_two_threads(async || {
        for when_full in [WhenFull::Drop, WhenFull::Wait] {
            let scripted = ScriptedServer::start().await;
            let listener = quick(scripted.config()).queue(10).when_full(when_full).build().unwrap();
            let mut peer = scripted.accept_login().await;
            let (slow, _) = tokio::join!(listener.subscribe("slow"), peer.answer_query());
            let (quick, _) = tokio::join!(listener.subscribe("quick"), peer.answer_query());
            let (mut slow, mut quick) = (slow.unwrap(), quick.unwrap());
            let many: Vec<u8> = (0..100).flat_map(|number| notification("slow", &number.to_string())).collect();
            peer.send(&[many, notification("quick", "behind them")].concat()).await;
            if when_full == WhenFull::Drop {
                assert_eq!(heard(&mut quick).await, "behind them");
                for number in 0..10 {
                    assert_eq!(heard(&mut slow).await, number.to_string());
                }
                assert!(matches!(slow.recv().await, Ok(Message::Dropped { count: 90, .. })));
            } else {
                let waiting = tokio::time::timeout(Duration::from_millis(100), quick.recv()).await;
                assert!(waiting.is_err(), "{waiting:?}");
                for number in 0..100 {
                    assert_eq!(heard(&mut slow).await, number.to_string());
                }
                assert_eq!(heard(&mut quick).await, "behind them");
            }
        }
    });
}

#[test]
fn receiver_that_goes_makes_room_for_the_others() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let listener = quick(scripted.config()).queue(10).build().unwrap();
        let mut peer = scripted.accept_login().await;
        let (slow, _) = tokio::join!(listener.subscribe("slow"), peer.answer_query());
        let (quick, _) = tokio::join!(listener.subscribe("quick"), peer.answer_query());
        let (slow, mut quick) = (slow.unwrap(), quick.unwrap());
        let many: Vec<u8> = (0..100).flat_map(|number| notification("slow", &number.to_string())).collect();
        peer.send(&[many, notification("quick", "behind them")].concat()).await;
        drop(slow);
        assert_eq!(heard(&mut quick).await, "behind them");
    });
}

#[test]
fn listen_all_listens_to_all_or_to_none() {
    let Some(server) = Postgres::start("listen_all_listens_to_all_or_to_none") else { return };
    on_one_and_two_threads(async || {
        let client = server.client().await;
        let mut listener = connected(quick(server.config())).await;
        in_time("listen_all", listener.listen_all(["a", "b"])).await.unwrap();
        in_time("listen_all", listener.handle().listen_all(vec!["c".to_owned()])).await.unwrap();
        in_time("listen_all", listener.listen_all(Vec::<String>::new())).await.unwrap();
        for channel in ["a", "b", "c"] {
            client.notify(channel, channel).await.unwrap();
            assert_eq!(payload(&mut listener).await, channel);
        }
        for (channels, error) in
            [(["d", "a"], "listened to already"), (["d", "d"], "listened to already"), (["d", ""], "it is empty")]
        {
            let refused = in_time("listen_all", listener.listen_all(channels)).await.unwrap_err();
            assert!(refused.to_string().contains(error), "{refused}");
            assert_eq!(listener.channels(), ["a", "b", "c"]);
        }
        assert_eq!(listening(&listener).await, 3);
        let spawned = listener.handle();
        tokio::spawn(async move { spawned.listen_all(["x", "y"]).await }).await.unwrap().unwrap();
        drop(listener.listen_all(["e", "f"]).now_or_never());
        until("they are given up", async || listening(&listener).await == 5).await;
    });
}

#[test]
fn listen_all_takes_everything_back_if_the_server_refuses_one() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let listener = quick(scripted.config()).build().unwrap();
        let mut peer = scripted.accept_login().await;
        let answers = async {
            peer.answer_query().await;
            peer.read_query().await.unwrap();
            peer.send(&[error_response("ERROR", "42501"), ready_for_query()].concat()).await;
            peer.answer_query().await;
            let sql = peer.answer_query().await;
            assert_eq!(sql, "UNLISTEN \"a\";UNLISTEN \"c\";");
        };
        let (refused, ()) = tokio::join!(listener.listen_all(["a", "b", "c"]), answers);
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
        assert!(listener.channels().is_empty());
    });
}

#[test]
fn first_listen_is_reported_in_the_queue_if_the_program_wants_that() {
    let Some(server) = Postgres::start("first_listen_is_reported_in_the_queue_if_the_program_wants_that") else {
        return;
    };
    on_one_and_two_threads(async || {
        let client = server.client().await;
        let mut listener = connected(named(&server, "told").report_listening(true)).await;
        in_time("listen", listener.listen("a")).await.unwrap();
        client.notify("a", "1").await.unwrap();
        assert!(matches!(next(&mut listener).await, Message::Listening { channel, .. } if channel == "a"));
        assert_eq!(payload(&mut listener).await, "1");
        in_time("listen_all", listener.listen_all(["b", "c"])).await.unwrap();
        for name in ["b", "c"] {
            assert!(matches!(next(&mut listener).await, Message::Listening { channel, .. } if channel == name));
        }
        let mut subscription = in_time("subscribe", listener.subscribe("a")).await.unwrap();
        assert!(matches!(subscription.recv().await, Ok(Message::Listening { channel, .. }) if channel == "a"));
        // After a loss, the usual markers say the same.
        terminate(&client, "told").await;
        outage(&mut listener).await;
        markers(&mut subscription).await;
        client.notify("a", "2").await.unwrap();
        assert_eq!((payload(&mut listener).await, heard(&mut subscription).await), ("2".into(), "2".into()));
    });
}

#[test]
fn statements_run_in_the_session_that_listens() {
    let Some(server) = Postgres::start("statements_run_in_the_session_that_listens") else { return };
    on_one_and_two_threads(async || {
        let client = server.client().await;
        let mut listener = connected(named(&server, "mine")).await;
        in_time("listen", listener.listen("a")).await.unwrap();
        let rows = in_time("a query", listener.handle().simple_query("SELECT pg_backend_pid()")).await.unwrap();
        let pid = rows.iter().find_map(|row| match row {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse::<i32>().ok(),
            _ => None,
        });
        assert_eq!(client.sessions_named("mine").await.unwrap(), [pid.unwrap()]);
        in_time("a query", listener.simple_query("NOTIFY a, 'own'")).await.unwrap();
        let Message::Notification(own) = next(&mut listener).await else { panic!("expected a notification") };
        assert_eq!((own.payload(), Some(own.process_id())), ("own", pid));
        assert!(matches!(listener.simple_query("SELEKT").await, Err(Error::Refused { .. })));
        assert!(matches!(listener.simple_query("a\0").await, Err(Error::InvalidConfig(_))));
    });
}

#[test]
fn session_has_a_name_unless_the_configuration_gives_another() {
    let Some(server) = Postgres::start("session_has_a_name_unless_the_configuration_gives_another") else { return };
    on_one_and_two_threads(async || {
        let client: Plain = server.client().await;
        let unnamed = connected(quick(server.config())).await;
        let other = connected(named(&server, "other")).await;
        for name in ["perconn", "other"] {
            assert_eq!(client.sessions_named(name).await.unwrap().len(), 1, "{name}");
        }
        for listener in [unnamed, other] {
            listener.close().await;
        }
        let gone = async || client.sessions_named("perconn").await.unwrap().is_empty();
        until("gone", gone).await;
    });
}

#[test]
fn watch_sees_each_change_of_the_status() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let listener = quick(scripted.config()).build().unwrap();
        let mut watch = listener.watch_status();
        assert_eq!(watch.current(), Status::Connecting);
        let mut generation = 0;
        for _ in 0..3 {
            let peer = scripted.accept_login().await;
            let up = in_time("up", watch.wait_for(Status::is_connected)).await.unwrap();
            generation += 1;
            assert!(matches!(up, Status::Connected { generation: now, .. } if now == generation), "{up:?}");
            assert!(listener.is_connected() && listener.generation() == generation);
            drop(peer);
            let down = in_time("down", watch.changed()).await.unwrap();
            assert!(matches!(down, Status::Disconnected { generation: now, .. } if now == generation), "{down:?}");
        }
        listener.close().await;
        assert_eq!(in_time("the end", watch.wait_for(Status::is_final)).await, Some(Status::Closed));
        assert_eq!(in_time("the end", watch.changed()).await, None);
    });
}

#[test]
fn messages_can_be_made_for_the_tests_of_a_program() {
    let order = Notification::new(7, "orders", "one");
    assert_eq!((order.process_id(), order.channel(), order.payload()), (7, "orders", "one"));
    assert!(matches!(Message::from(order.clone()), Message::Notification(same) if same == order));
    assert!(matches!(Message::lost(3, Error::Down), Message::Lost { generation: 3, .. }));
    let outage = Duration::from_secs(1);
    assert!(
        matches!(Message::resynced(4, outage), Message::Resynced { generation: 4, outage: same, .. } if same == outage)
    );
    assert!(matches!(Message::listening("orders"), Message::Listening { channel, .. } if channel == "orders"));
    assert!(matches!(Message::dropped(5), Message::Dropped { count: 5, .. }));
}
