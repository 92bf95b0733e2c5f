//! `ListenerConn`: a single connection, which does not reconnect.
//!
//! Next: `races`, for connections that end before they are used.

use perconn::postgres::{Error, ListenerConn};
use tokio_postgres::SimpleQueryMessage;

use crate::helpers::{on_one_and_two_threads, quick};
use crate::scripted_server::ScriptedServer;
use crate::server::Postgres;
use crate::support::in_time;

#[test]
fn connection_listens_pings_and_answers_queries() {
    let Some(server) = Postgres::start("connection_listens_pings_and_answers_queries") else { return };
    on_one_and_two_threads(async || {
        let client = server.client().await;
        let mut conn = in_time("connect", ListenerConn::connect(server.url())).await.unwrap();
        in_time("listen", conn.listen("a")).await.unwrap();
        in_time("listen", conn.listen("b")).await.unwrap();
        assert!(matches!(conn.listen("a").await, Err(Error::AlreadyListening { .. })));
        client.notify("a", "1").await.unwrap();
        client.notify("b", "2").await.unwrap();
        for expected in [("a", "1"), ("b", "2")] {
            let notification = in_time("a notification", conn.recv()).await.unwrap();
            assert_eq!((notification.channel(), notification.payload()), expected);
            assert!(notification.process_id() > 0);
        }
        in_time("ping", conn.ping()).await.unwrap();
        let rows = in_time("a query", conn.simple_query("SELECT 1; SELECT 'two'")).await.unwrap();
        let values: Vec<_> = rows
            .iter()
            .filter_map(|row| match row {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            })
            .collect();
        assert_eq!(values, ["1", "two"]);
        let error = in_time("a query", conn.simple_query("SELEKT 1")).await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
        assert_eq!(error.code().unwrap().code(), "42601");
        in_time("unlisten", conn.unlisten("a")).await.unwrap();
        client.batch("NOTIFY a; NOTIFY b, 'last'").await.unwrap();
        assert_eq!(in_time("a notification", conn.recv()).await.unwrap().payload(), "last");
        in_time("unlisten_all", conn.unlisten_all()).await.unwrap();
        assert!(conn.error().is_none());
        in_time("close", conn.close()).await;
        assert!(matches!(conn.error(), Some(Error::Closed)));
        assert!(matches!(conn.recv().await, Err(Error::Closed)));
        assert!(matches!(conn.simple_query("SELECT 1").await, Err(Error::Closed)));
    });
}

#[test]
fn lost_connection_returns_what_it_has_received_and_stays_lost() {
    let Some(server) = Postgres::start("lost_connection_returns_what_it_has_received_and_stays_lost") else { return };
    on_one_and_two_threads(async || {
        let client = server.client().await;
        let mut conn = in_time("connect", ListenerConn::connect(server.config())).await.unwrap();
        in_time("listen", conn.listen("a")).await.unwrap();
        client.notify("a", "last").await.unwrap();
        let end = tokio::join!(conn.simple_query("SELECT pg_sleep(0.05), pg_terminate_backend(pg_backend_pid())")).0;
        assert_eq!(end.unwrap_err().code().unwrap().code(), "57P01");
        assert_eq!(in_time("a notification", conn.recv()).await.unwrap().payload(), "last");
        for error in [
            in_time("recv", conn.recv()).await.err(),
            conn.listen("b").await.err(),
            conn.ping().await.err(),
            conn.simple_query("SELECT 1").await.err(),
            conn.error(),
        ] {
            let error = error.unwrap();
            assert!(matches!(error, Error::Lost { .. }), "{error:?}");
            assert_eq!(error.code().unwrap().code(), "57P01");
        }
        in_time("close", conn.close()).await;
    });
}

#[test]
fn call_that_reports_the_loss_is_the_last_before_every_other_knows_it() {
    let Some(server) = Postgres::start("call_that_reports_the_loss_is_the_last_before_every_other_knows_it") else {
        return;
    };
    on_one_and_two_threads(async || {
        drop(server.client().await);
        for round in 0..100 {
            let conn = in_time("connect", ListenerConn::connect(server.config())).await.unwrap();
            let end = in_time("the end", conn.simple_query("SELECT pg_terminate_backend(pg_backend_pid())")).await;
            assert!(matches!(end, Err(Error::Lost { .. })), "{end:?}");
            let next = if round % 2 == 0 { conn.error() } else { conn.ping().await.err() };
            assert!(matches!(next, Some(Error::Lost { .. })), "round {round}: {next:?}");
        }
    });
}

#[test]
fn lost_connection_is_not_dialed_again() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let (conn, peer) = tokio::join!(quick(scripted.config()).connect_once(), scripted.accept_login());
        drop(peer);
        let mut conn = conn.unwrap();
        assert!(matches!(in_time("the loss", conn.recv()).await, Err(Error::Lost { .. })));
        assert!(scripted.sees_no_dial(std::time::Duration::from_millis(200)).await);
    });
}

#[test]
fn connection_that_cannot_be_made_is_an_error() {
    let Some(server) = Postgres::start("connection_that_cannot_be_made_is_an_error") else { return };
    on_one_and_two_threads(async || {
        drop(server.client().await);
        let error = ListenerConn::connect(server.config().password("wrong")).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "28P01");
    });
}

#[test]
fn types_are_send_and_sync_as_needed() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Clone + Send + Sync>() {}
    is_send::<perconn::postgres::Listener>();
    is_send::<perconn::postgres::ListenerBuilder>();
    is_send::<ListenerConn>();
    is_send::<Error>();
    is_shared::<perconn::postgres::ListenerHandle>();
    is_shared::<perconn::postgres::Message>();
    is_shared::<perconn::postgres::Event>();
}
