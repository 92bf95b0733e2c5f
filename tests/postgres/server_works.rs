//! The server of these tests works: its clients see what a test does to it.
//!
//! Next: `server`, the server itself.

use std::time::Duration;

use futures_util::future::poll_fn;
use tokio::net::UnixStream;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::server::{Plain, Postgres, Setup};
use crate::support::in_time;

#[tokio::test]
async fn server_keeps_its_data_when_it_is_killed_frozen_or_shut_down() {
    let Some(server) = Postgres::start("itself") else { return };
    let client = server.client().await;
    client.batch("CREATE TABLE kept (number int)").await.unwrap();
    for number in 1..=4 {
        let client = server.client().await;
        client.batch(&format!("INSERT INTO kept VALUES ({number})")).await.unwrap();
        match number {
            1 => server.kill(),
            2 => server.shut_down_fast(),
            3 => server.shut_down_immediately(),
            _ => server.kill_and_restart(),
        }
        assert!(in_time("the end", client.batch("SELECT 1")).await.is_err(), "{number}");
        server.start_again();
        let row = server.client().await.query_one("SELECT count(*) FROM kept", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), number);
    }
    let client = server.client().await;
    server.freeze();
    let query = client.batch("SELECT 1");
    tokio::pin!(query);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut query).await.is_err(), "it is frozen");
    server.thaw();
    in_time("the answer", query).await.unwrap();
}

#[tokio::test]
async fn notifications_and_the_end_of_a_session_arrive_over_the_unix_socket_too() {
    let Some(server) = Setup::of("unix socket").set("max_connections", "20").start() else { return };
    let writer = server.client().await;
    let mut config = server.unix_config();
    config.application_name("listener");
    let stream = UnixStream::connect(server.socket()).await.unwrap();
    let (client, mut connection) = config.connect_raw(stream, NoTls).await.unwrap();
    let listen = async {
        client.batch_execute("LISTEN news").await.unwrap();
        writer.notify("news", "one").await.unwrap();
        std::future::pending::<()>().await;
    };
    let receive = async {
        loop {
            match poll_fn(|cx| connection.poll_message(cx)).await.unwrap().unwrap() {
                AsyncMessage::Notification(notification) => return notification,
                other => println!("{other:?}"),
            }
        }
    };
    let received = tokio::select! {
        received = in_time("the notification", receive) => received,
        () = listen => unreachable!(),
    };
    assert_eq!((received.channel(), received.payload()), ("news", "one"));
    // The process id is the writer's.
    let listeners = writer.sessions_named("listener").await.unwrap();
    assert!(listeners.len() == 1 && listeners[0] != received.process_id(), "{listeners:?}");
    assert!(writer.terminate(listeners[0]).await.unwrap());
    // tokio-postgres returns the server's final error.
    let error = in_time("the end", poll_fn(|cx| connection.poll_message(cx))).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::ADMIN_SHUTDOWN));
    let refused = Plain::connect(server.config().password("wrong")).await.err().expect("the password is wrong");
    let refused = refused.downcast_ref::<tokio_postgres::Error>().unwrap();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD));
}
