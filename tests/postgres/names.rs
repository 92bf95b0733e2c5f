//! Channels with special names, or very many of them, and what was sent before one is given up.
//!
//! Next: `listening`, for the usual ones.

use std::pin::pin;
use std::time::{Duration, Instant};

use perconn::postgres::{Error, Message};
use tokio::io::AsyncWriteExt;

use crate::helpers::{connected, named, next, on_one_and_two_threads, outage, payload, quick, terminate};
use crate::scripted_server::{ScriptedServer, ServerConn, command_complete};
use crate::server::{Postgres, Setup};
use crate::support::in_time;

#[test]
fn name_that_is_too_long_in_the_encoding_of_the_database_is_refused() {
    let Some(server) = Postgres::start("name_that_is_too_long_in_the_encoding_of_the_database_is_refused") else {
        return;
    };
    on_one_and_two_threads(async || {
        let client = server.client().await;
        client.batch("DROP DATABASE IF EXISTS japanese WITH (FORCE)").await.unwrap();
        client
            .batch("CREATE DATABASE japanese TEMPLATE template0 ENCODING 'EUC_JP' LC_COLLATE 'C' LC_CTYPE 'C'")
            .await
            .unwrap();
        let mut config = server.config();
        config.dbname("japanese");
        let client = crate::server::Plain::connect(&config).await.unwrap();
        let mut listener = connected(quick(config)).await;
        // Each letter has two bytes in UTF-8, and three in EUC_JP.
        let refused = in_time("listen", listener.listen(&"é".repeat(22))).await.unwrap_err();
        assert!(matches!(refused, Error::InvalidChannel { .. }), "{refused:?}");
        assert!(refused.to_string().contains("in the encoding of the database"), "{refused}");
        assert!(listener.channels().is_empty());
        // 63 bytes there, and a name with everything that SQL has quotes for.
        for name in ["é".repeat(21), "é\\'\"; --".to_owned(), "日本".repeat(10)] {
            in_time("listen", listener.listen(&name)).await.unwrap();
            client.notify(&name, "1").await.unwrap();
            let Message::Notification(heard) = next(&mut listener).await else { panic!("expected a notification") };
            assert_eq!(heard.channel(), name);
        }
        in_time("close", listener.close()).await;
    });
}

#[test]
fn everything_that_was_committed_before_unlisten_is_handed_out() {
    let Some(server) = Postgres::start("everything_that_was_committed_before_unlisten_is_handed_out") else { return };
    on_one_and_two_threads(async || {
        let mut listener = connected(quick(server.config())).await;
        let client = server.client().await;
        for number in 0..100 {
            in_time("listen", listener.listen("a")).await.unwrap();
            client.notify("a", &number.to_string()).await.unwrap();
            if number % 2 == 0 {
                in_time("unlisten", listener.unlisten("a")).await.unwrap();
            } else {
                in_time("unlisten", listener.unlisten_all()).await.unwrap();
            }
            client.notify("a", "too late").await.unwrap();
            assert_eq!(payload(&mut listener).await, number.to_string());
        }
    });
}

#[test]
fn many_channels_come_back_although_all_of_them_take_longer_than_an_attempt() {
    on_one_and_two_threads(async || {
        const COUNT: usize = 3_500;
        let scripted = ScriptedServer::start().await;
        let limit = Duration::from_millis(500);
        let mut listener = quick(scripted.config()).dial_timeout(limit).build().unwrap();
        let mut peer = scripted.accept_login().await;
        let handle = listener.handle();
        let all = tokio::spawn(async move {
            let names: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
            futures_util::future::try_join_all(names.iter().map(|name| handle.listen(name))).await
        });
        for _ in 0..COUNT {
            peer.answer_query().await;
        }
        in_time("listen", all).await.unwrap().unwrap();
        drop(peer);
        // Each part of the answer takes less than the limit, and all of it more. Where a busy machine makes a part of it take longer
        // than the limit, there is another attempt.
        let peer = {
            let mut back = pin!(outage(&mut listener));
            loop {
                let mut peer = scripted.accept_login().await;
                answer_in_parts(&mut peer, COUNT, limit).await;
                tokio::select! {
                    _ = &mut back => break peer,
                    () = peer.wait_for_close() => {}
                }
            }
        };
        drop(peer);
        // A server that is silent for longer is left.
        let mut peer = scripted.accept_login().await;
        let sql = peer.read_query().await.unwrap();
        peer.send(&command_complete(&sql)).await;
        peer.wait_for_close().await;
    });
}

/// Answers the queries for all channels, each after a third of the limit, unless the client leaves before the last.
async fn answer_in_parts(peer: &mut ServerConn, count: usize, limit: Duration) {
    let begin = Instant::now();
    let mut listened = 0;
    while listened < count {
        let Some(sql) = peer.read_query().await else { return };
        listened += sql.matches("LISTEN ").count();
        tokio::time::sleep(limit / 3).await;
        if peer.0.write_all(&command_complete(&sql)).await.is_err() {
            return;
        }
    }
    assert!(begin.elapsed() > limit, "it proves nothing");
}

#[test]
fn many_channels_of_a_real_server_come_back() {
    let count = if std::env::var_os("PERCONN_MANY_CHANNELS").is_some() { 80_000 } else { 8_000 };
    let Some(server) = Setup::of("many_channels_of_a_real_server_come_back").start() else { return };
    on_one_and_two_threads(async || {
        let client = server.client().await;
        let listener = named(&server, "many").dial_timeout(Duration::from_secs(10)).queue(100_000);
        let mut listener = connected(listener).await;
        let names: Vec<String> = (0..count).map(|number| format!("channel {number}")).collect();
        let handle = listener.handle();
        let begin = Instant::now();
        let all = futures_util::future::try_join_all(names.iter().map(|name| handle.listen(name)));
        all.await.unwrap();
        println!("{count} channels: {:?}", begin.elapsed());
        terminate(&client, "many").await;
        let Message::Lost { .. } = next(&mut listener).await else { panic!("expected Lost") };
        let Message::Resynced { outage, .. } = listener.recv().await.unwrap() else { panic!("expected Resynced") };
        println!("{count} channels again: {outage:?}");
        for name in [&names[0], &names[count - 1]] {
            client.notify(name, "back").await.unwrap();
            assert_eq!(payload(&mut listener).await, "back");
        }
    });
}
