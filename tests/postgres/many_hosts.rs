//! Several hosts, of which some cannot listen or do not answer.
//!
//! Next: `starting`, for the rest of what happens at a start.

use std::time::{Duration, Instant};

use perconn::postgres::{Error, Listener};
use tokio_postgres::Config;

use crate::helpers::{EventLog, on_one_and_two_threads, outage, payload, quick, until};
use crate::scripted_server::ScriptedServer;
use crate::server::{DATABASE, PASSWORD, Postgres, Setup, USER};
use crate::support::in_time;

/// The two servers in this order.
fn both(first: &Postgres, second: &Postgres) -> Config {
    let mut config = first.config();
    config.host(second.address.ip().to_string()).port(second.address.port());
    config
}

/// A server that answers queries and refuses LISTEN, as it waits for a primary that it has none of.
fn standby(test: &str) -> Option<Postgres> {
    Setup::of(test).file("standby.signal", String::new()).start()
}

#[test]
fn standby_is_left_for_the_next_host_when_it_refuses_to_listen() {
    let test = "standby_is_left_for_the_next_host_when_it_refuses_to_listen";
    let (Some(standby), Some(primary)) = (standby(test), Postgres::start(test)) else { return };
    on_one_and_two_threads(async || {
        drop((standby.client().await, primary.client().await));
        let events = EventLog::default();
        let mut listener = quick(both(&standby, &primary)).on_event(events.hook()).build().unwrap();
        until("connected", async || listener.is_connected()).await;
        in_time("listen", listener.listen("a")).await.unwrap();
        let cause = outage(&mut listener).await;
        assert_eq!(cause.code().map(|code| code.code()), Some("25006"), "{cause:?}");
        primary.client().await.notify("a", "from the primary").await.unwrap();
        assert_eq!(payload(&mut listener).await, "from the primary");
        // A single connection does not go elsewhere.
        let single = in_time("connect", quick(both(&standby, &primary)).connect_once()).await.unwrap();
        let refused = in_time("listen", single.listen("a")).await;
        assert!(matches!(refused, Err(Error::Refused { .. })) && single.error().is_none(), "{refused:?}");
        // With one host, there is no other to try.
        let alone = in_time("connect", quick(standby.config()).connect()).await.unwrap();
        let refused = in_time("listen", alone.listen("a")).await;
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    });
}

#[test]
fn primary_is_chosen_by_the_attribute_of_the_session() {
    let test = "primary_is_chosen_by_the_attribute_of_the_session";
    let (Some(standby), Some(primary)) = (standby(test), Postgres::start(test)) else { return };
    on_one_and_two_threads(async || {
        drop((standby.client().await, primary.client().await));
        let url = |hosts: &str| format!("postgres://{USER}:{PASSWORD}@{hosts}/{DATABASE}?target_session_attrs=primary");
        let both = url(&format!("{},{}", standby.address, primary.address));
        let listener = in_time("connect", quick(both).connect()).await.unwrap();
        in_time("listen", listener.listen("a")).await.unwrap();
        assert_eq!(listener.generation(), 1);
        let error = in_time("connect", quick(url(&standby.address.to_string())).connect()).await.unwrap_err();
        assert!(error.with_causes().to_string().contains("is a standby"), "{}", error.with_causes());
    });
}

#[test]
fn connect_timeout_bounds_the_whole_start_of_each_host() {
    on_one_and_two_threads(async || {
        let (silent, second) = (ScriptedServer::start().await, ScriptedServer::start().await);
        let mut config = silent.config();
        config.host(second.address.ip().to_string()).port(second.address.port());
        let limit = Duration::from_millis(200);
        config.connect_timeout(limit);
        let begin = Instant::now();
        let connect = Listener::builder(&config).dial_timeout(None).logger(|_| {}).connect();
        // The first takes the connection, and does not answer.
        let accept = async { (silent.accept().await, second.accept_login().await) };
        let (listener, _peers) = in_time("connect", async { tokio::join!(connect, accept) }).await;
        assert!(listener.is_ok() && begin.elapsed() >= limit, "{listener:?}");
        // It does not bound the LISTENs, which may be many.
        let mut config = silent.config();
        config.connect_timeout(limit);
        let connect = Listener::builder(&config).dial_timeout(None).logger(|_| {}).connect();
        let (error, _peer) = in_time("connect", async { tokio::join!(connect, silent.accept()) }).await;
        let text = error.unwrap_err().with_causes().to_string();
        assert!(text.contains("no session within 200ms (connect_timeout)"), "{text}");
    });
}
