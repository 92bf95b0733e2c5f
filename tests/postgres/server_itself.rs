//! The server of these tests: what befalls it is what its clients see.

use std::time::Duration;

use futures_util::future::poll_fn;
use tokio::net::UnixStream;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::server::{Plain, Postgres, Setup};
use crate::support::in_time;

#[tokio::test]
async fn server_that_is_killed_frozen_or_shut_down_is_the_same_when_it_is_back() {
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
    let question = client.batch("SELECT 1");
    tokio::pin!(question);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut question).await.is_err(), "it is frozen");
    server.thaw();
    in_time("the answer", question).await.unwrap();
}

#[tokio::test]
async fn notifications_and_the_end_of_a_session_come_over_the_unix_socket_as_well() {
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
    let heard = async {
        loop {
            match poll_fn(|cx| connection.poll_message(cx)).await.unwrap().unwrap() {
                AsyncMessage::Notification(heard) => return heard,
                other => println!("{other:?}"),
            }
        }
    };
    let heard = tokio::select! {
        heard = in_time("the notification", heard) => heard,
        () = listen => unreachable!(),
    };
    assert_eq!((heard.channel(), heard.payload()), ("news", "one"));
    // The process id is the writer's.
    let listeners = writer.sessions_named("listener").await.unwrap();
    assert!(listeners.len() == 1 && listeners[0] != heard.process_id(), "{listeners:?}");
    assert!(writer.terminate(listeners[0]).await.unwrap());
    // tokio-postgres hands the server's last words out as the error that they are.
    let error = in_time("the end", poll_fn(|cx| connection.poll_message(cx))).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::ADMIN_SHUTDOWN));
    let refused = Plain::connect(server.config().password("wrong")).await.err().expect("the password is wrong");
    let refused = refused.downcast_ref::<tokio_postgres::Error>().unwrap();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD));
}
