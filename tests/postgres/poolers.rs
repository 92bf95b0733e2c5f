//! A pooler between the listener and the server.
//!
//! Next: `silence`, for servers that do not answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use perconn::postgres::{Error, Listener, ListenerBuilder, Message};

use crate::helpers::{EventLog, connected, next, on_one_and_two_threads, outage, payload, quick, until};
use crate::pgbouncer::PgBouncer;
use crate::scripted_server::{ScriptedServer, error_response_without_v};
use crate::server::Postgres;
use crate::support::in_time;

/// Collects what the logger of a listener gets.
fn logged(builder: ListenerBuilder) -> (ListenerBuilder, Arc<Mutex<Vec<String>>>) {
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&lines);
    (builder.logger(move |error| log.lock().unwrap().push(error.with_causes().to_string())), lines)
}

#[test]
fn listen_waits_for_the_next_connection_when_a_pooler_ends_the_session() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let mut listener = quick(scripted.config()).build().unwrap();
        let mut peer = scripted.accept_login().await;
        let handle = listener.handle();
        let listening = tokio::spawn(async move { handle.listen("orders").await });
        assert_eq!(peer.read_query().await.unwrap(), "LISTEN \"orders\"");
        // As PgBouncer says it: without the field V.
        peer.send(&error_response_without_v("FATAL", "08P01")).await;
        drop(peer);
        let mut peer = scripted.accept_login().await;
        assert_eq!(peer.answer_query().await, "LISTEN \"orders\"");
        in_time("listen", listening).await.unwrap().unwrap();
        assert_eq!(outage(&mut listener).await.code().unwrap().code(), "08P01");
        assert_eq!(listener.channels(), ["orders"]);
        // An error of that kind which is not fatal refuses the channel, as before.
        let (refused, ()) = tokio::join!(listener.listen("other"), async {
            peer.read_query().await.unwrap();
            let ready = crate::scripted_server::ready_for_query();
            peer.send(&[error_response_without_v("ERROR", "42501"), ready].concat()).await;
        });
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    });
}

#[test]
fn listener_behind_a_pooler_in_session_mode_is_back_after_each_outage_and_its_listen_waits_for_it() {
    let test = "listener_behind_a_pooler_in_session_mode_is_back_after_each_outage_and_its_listen_waits_for_it";
    let Some(server) = Postgres::start(test) else { return };
    let Some(pooler) = PgBouncer::start(test, &server, "session", "query_wait_timeout = 0.3") else { return };
    on_one_and_two_threads(async || {
        drop(server.client().await);
        let events = EventLog::default();
        let (builder, log) = logged(quick(pooler.config()));
        let mut listener = connected(builder.on_event(events.hook())).await;
        in_time("listen", listener.listen("before")).await.unwrap();
        for round in 0..3 {
            server.kill();
            let channel = format!("during {round}");
            let handle = listener.handle();
            until("the loss", async || !handle.is_connected()).await;
            let name = channel.clone();
            let listening = tokio::spawn(async move { handle.listen(&name).await });
            // The pooler lets clients in while the server is away. They must not count as connections.
            let failed = events.count("attempt");
            until("attempts", async || events.count("attempt") > failed + 1).await;
            assert!(!listener.is_connected());
            server.start_again();
            in_time("listen", listening).await.unwrap().unwrap();
            outage(&mut listener).await;
            let client = server.client().await;
            for channel in ["before", &channel] {
                client.notify(channel, "back").await.unwrap();
                assert_eq!(payload(&mut listener).await, "back");
            }
        }
        assert_eq!(events.count("session"), 0, "{:?}", events.events());
        assert!(log.lock().unwrap().iter().all(|line| !line.contains("session mode")), "{log:?}");
    });
}

#[test]
fn pooler_in_transaction_mode_is_reported_once() {
    let test = "pooler_in_transaction_mode_is_reported_once";
    let Some(server) = Postgres::start(test) else { return };
    for mode in ["transaction", "statement"] {
        let Some(pooler) = PgBouncer::start(test, &server, mode, "") else { return };
        on_one_and_two_threads(async || {
            drop(server.client().await);
            let events = EventLog::default();
            let (builder, log) = logged(quick(pooler.config()));
            let mut listener = connected(builder.on_event(events.hook())).await;
            in_time("listen", listener.listen("a")).await.unwrap();
            until("the report", async || events.count("session") == 1).await;
            pooler.server.kill();
            pooler.server.start_again();
            let Message::Lost { .. } = next(&mut listener).await else { panic!("expected Lost") };
            let Message::Resynced { .. } = next(&mut listener).await else { panic!("expected Resynced") };
            in_time("ping", listener.ping()).await.unwrap();
            assert_eq!(events.count("session"), 1, "{:?}", events.events());
            let reports = log.lock().unwrap().iter().filter(|line| line.contains("session mode")).count();
            assert_eq!(reports, 1, "{log:?}");
        });
    }
}

#[test]
fn pooler_whose_session_changes_later_is_found_by_a_heartbeat() {
    let test = "pooler_whose_session_changes_later_is_found_by_a_heartbeat";
    let Some(server) = Postgres::start(test) else { return };
    // No more than one session of the server: the second client of the first look gets none, and nothing is known.
    let Some(pooler) = PgBouncer::start(test, &server, "transaction", "default_pool_size = 1") else { return };
    on_one_and_two_threads(async || {
        let client = server.client().await;
        let events = EventLog::default();
        let mut config = pooler.config();
        config.application_name("pooled");
        let listener = Listener::builder(config).heartbeat(Duration::from_millis(100)).on_event(events.hook());
        let listener = connected(listener.logger(|_| {})).await;
        // The session of the server is another one from now on.
        until("the report", async || {
            client.batch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'").await.unwrap();
            events.count("session") == 1
        })
        .await;
        drop(listener);
    });
}

#[test]
fn server_without_a_pooler_is_not_asked_twice_and_nothing_is_reported() {
    let Some(server) = Postgres::start("server_without_a_pooler_is_not_asked_twice_and_nothing_is_reported") else {
        return;
    };
    on_one_and_two_threads(async || {
        let client = server.client().await;
        let events = EventLog::default();
        let mut config = server.config();
        config.application_name("direct");
        let mut listener = connected(quick(config).heartbeat(Duration::from_millis(50)).on_event(events.hook())).await;
        in_time("listen", listener.listen("a")).await.unwrap();
        assert_eq!(client.sessions_named("direct").await.unwrap().len(), 1);
        client.notify("a", "1").await.unwrap();
        assert_eq!(payload(&mut listener).await, "1");
        assert_eq!(events.kinds(), ["connected"]);
    });
}
