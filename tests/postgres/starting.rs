//! The start of a listener: settings, first attempts, hosts, passwords.
//!
//! Next: `ending`, for its end.

use std::time::{Duration, Instant};

use perconn::postgres::{Error, Event, Listener, ListenerBuilder, Message};
use tokio_postgres::config::TargetSessionAttrs;

use crate::helpers::{
    EventLog, connected, named, next, on_one_and_two_threads, outage, payload, quick, terminate, until,
};
use crate::scripted_server::{ScriptedServer, error_response};
use crate::server::{PASSWORD, Postgres, Setup, USER};
use crate::support::{in_time, refused_address};

#[tokio::test]
async fn invalid_settings_are_named_by_build() {
    let zero = Duration::ZERO;
    let good = || Listener::builder("host=127.0.0.1 user=u");
    let cases: Vec<(ListenerBuilder, &str)> = vec![
        (good().queue(0), "queue 0"),
        (good().retry_min(zero), "retry_min 0ns"),
        (good().retry_max(Duration::from_millis(1)), "retry_max 1ms"),
        (good().retry_min(Duration::from_secs(9)), "which is 9s (unless set, they are 30ms and 700ms)"),
        (good().dial_timeout(zero), "dial_timeout 0ns"),
        (good().heartbeat(zero), "heartbeat 0ns"),
        (good().ping_timeout(zero), "ping_timeout 0ns"),
        (Listener::builder("user=u"), "no host"),
        (Listener::builder("postgres://u:hidden@h/d?port=x"), "port"),
        (Listener::builder("host=h user=u password=hidden colour=red"), "colour"),
        (Listener::builder("no pairs, hidden"), "expected"),
        (Listener::builder("host=h user=u sslmode=require"), "sslmode=require"),
        (
            Listener::builder("user=u channel_binding=require").dialer(perconn::TcpDialer::new("127.0.0.1:1")),
            "channel_binding=require: expected ListenerBuilder::tls",
        ),
        (Listener::builder("host=h user=u port=0"), "port 0"),
        (Listener::builder("host=a,b port=1,2,3 user=u"), "port: 3"),
    ];
    for (builder, reason) in cases {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::InvalidConfig(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(reason) && !text.contains("hidden"), "{text}");
    }
    for builder in [good().queue(0), Listener::builder("user=u")] {
        assert!(matches!(builder.connect().await, Err(Error::InvalidConfig(_))));
    }
}

#[test]
fn build_needs_a_runtime() {
    let error = Listener::builder("host=127.0.0.1 user=u").build().unwrap_err();
    assert!(error.to_string().contains("runtime"), "{error}");
}

#[test]
fn connect_returns_the_error_of_the_first_attempt_and_makes_no_second() {
    let Some(server) = Postgres::start("connect_returns_the_error_of_the_first_attempt_and_makes_no_second") else {
        return;
    };
    on_one_and_two_threads(async || {
        drop(server.client().await);
        for (config, code) in [
            (server.config().password("wrong"), "28P01"),
            (server.config().user("nobody"), "28P01"),
            (server.config().dbname("nothing"), "3D000"),
        ] {
            let event_log = EventLog::default();
            let error = in_time("connect", quick(config).on_event(event_log.hook()).connect()).await.unwrap_err();
            assert!(matches!(&error, Error::Connect { host, .. } if *host == server.address.to_string()), "{error:?}");
            assert_eq!(error.code().unwrap().code(), code);
            assert_eq!(event_log.kinds(), ["attempt"]);
        }
        let refused = refused_address().await;
        let error = Listener::connect(format!("postgres://u@{refused}/d")).await.unwrap_err();
        assert_eq!(error.to_string(), format!("connecting to {refused} failed"));
        let listener = in_time("connect", Listener::connect(server.url())).await.unwrap();
        assert_eq!(listener.generation(), 1);
        in_time("ping", listener.ping()).await.unwrap();
    });
}

#[test]
fn changed_password_is_refused_with_delays_between_the_attempts() {
    let Some(server) = Postgres::start("changed_password_is_refused_with_delays_between_the_attempts") else { return };
    on_one_and_two_threads(async || {
        let event_log = EventLog::default();
        let builder = named(&server, "locked out").retry_max(Duration::from_secs(1)).on_event(event_log.hook());
        let mut listener = connected(builder).await;
        in_time("listen", listener.listen("a")).await.unwrap();
        let client = server.client().await;
        client.batch(&format!("ALTER ROLE {USER} PASSWORD 'other'")).await.unwrap();
        terminate(&client, "locked out").await;
        // While the server was starting up, it refused too, with 57P03.
        let refusals = || {
            let events = event_log.events().into_iter();
            events.filter_map(|event| match event {
                Event::AttemptFailed { cause, retry_in, .. } if cause.code()?.code() == "28P01" => retry_in,
                _ => None,
            })
        };
        until("refused a few times", async || refusals().count() >= 4).await;
        assert!(refusals().all(|delay| delay >= Duration::from_millis(10)), "{:?}", event_log.events());
        client.batch(&format!("ALTER ROLE {USER} PASSWORD '{PASSWORD}'")).await.unwrap();
        outage(&mut listener).await;
        client.notify("a", "accepted").await.unwrap();
        assert_eq!(payload(&mut listener).await, "accepted");
    });
}

#[test]
fn hosts_are_tried_in_order_within_one_attempt() {
    let Some(server) = Postgres::start("hosts_are_tried_in_order_within_one_attempt") else { return };
    on_one_and_two_threads(async || {
        drop(server.client().await);
        let refused = refused_address().await;
        let full = ScriptedServer::start().await;
        let mut config = server.config_without_host();
        for address in [refused, full.address, server.address] {
            config.host(address.ip().to_string()).port(address.port());
        }
        let event_log = EventLog::default();
        let refusal = async {
            let mut peer = full.accept().await;
            peer.read_startup().await;
            peer.send(&error_response("FATAL", "53300")).await;
        };
        let (listener, ()) = tokio::join!(quick(config.clone()).on_event(event_log.hook()).connect(), refusal);
        let listener = listener.unwrap();
        in_time("ping", listener.ping()).await.unwrap();
        assert_eq!(event_log.kinds(), ["connected"]);
        // If all fail, the error has the reason of each.
        let mut config = server.config_without_host();
        config.password("wrong").host(refused.ip().to_string()).port(refused.port());
        config.host(server.address.ip().to_string()).port(server.address.port());
        let error = in_time("connect", quick(config).connect()).await.unwrap_err();
        let text = std::error::Error::source(&error).unwrap().to_string();
        assert!(text.contains(&refused.to_string()) && text.contains("refused"), "{text}");
        assert_eq!(error.code().unwrap().code(), "28P01");
    });
}

#[test]
fn silent_host_does_not_use_up_the_whole_time_of_an_attempt() {
    let Some(server) = Postgres::start("silent_host_does_not_use_up_the_whole_time_of_an_attempt") else { return };
    on_one_and_two_threads(async || {
        drop(server.client().await);
        let silent = ScriptedServer::start().await;
        let mut config = server.config_without_host();
        for address in [silent.address, server.address] {
            config.host(address.ip().to_string()).port(address.port());
        }
        let begin = Instant::now();
        // The second host has half of it, which is enough on a busy machine.
        let limit = Duration::from_secs(12);
        let listener = in_time("connect", quick(config).dial_timeout(limit).connect()).await.unwrap();
        assert!(begin.elapsed() >= limit / 2 && begin.elapsed() < limit, "{:?}", begin.elapsed());
        in_time("close", listener.close()).await;
    });
}

#[test]
fn attempt_that_takes_too_long_has_failed() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let connect = quick(scripted.config()).dial_timeout(Duration::from_millis(200)).connect();
        let (outcome, mut peer) = tokio::join!(connect, scripted.accept());
        let error = outcome.unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("longer than"), "{error:?}");
        peer.wait_for_close().await;
    });
}

#[test]
fn session_attributes_choose_the_host() {
    let Some(writable) = Postgres::start("session_attributes_choose_the_host: writable") else { return };
    let setup = Setup::of("session_attributes_choose_the_host: read-only").set("default_transaction_read_only", "on");
    let Some(read_only) = setup.start() else { return };
    on_one_and_two_threads(async || {
        drop((writable.client().await, read_only.client().await));
        for (wanted, found) in [(TargetSessionAttrs::ReadWrite, &writable), (TargetSessionAttrs::ReadOnly, &read_only)]
        {
            for order in [[&writable, &read_only], [&read_only, &writable]] {
                let mut config = writable.config_without_host();
                config.target_session_attrs(wanted).application_name("chosen");
                for server in order {
                    config.host(server.address.ip().to_string()).port(server.address.port());
                }
                let listener = in_time("connect", quick(config).connect()).await.unwrap();
                assert_eq!(found.client().await.sessions_named("chosen").await.unwrap().len(), 1);
                in_time("close", listener.close()).await;
                let client = found.client().await;
                until("gone", async || client.sessions_named("chosen").await.unwrap().is_empty()).await;
            }
        }
        let mut config = read_only.config();
        let error = quick(config.target_session_attrs(TargetSessionAttrs::ReadWrite)).connect().await.unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("read-only"), "{error:?}");
    });
}

#[test]
fn unix_socket_works_too() {
    let Some(server) = Postgres::start("unix_socket_works_too") else { return };
    on_one_and_two_threads(async || {
        let mut listener = connected(quick(server.unix_config())).await;
        in_time("listen", listener.listen("a")).await.unwrap();
        server.client().await.notify("a", "1").await.unwrap();
        assert_eq!(payload(&mut listener).await, "1");
        server.kill_and_restart();
        outage(&mut listener).await;
        server.client().await.notify("a", "2").await.unwrap();
        assert_eq!(payload(&mut listener).await, "2");
    });
}

#[test]
fn retries_are_counted_from_the_first_attempt_that_failed() {
    on_one_and_two_threads(async || {
        let refused = refused_address().await;
        let event_log = EventLog::default();
        let builder = quick(format!("postgres://u@{refused}/d")).max_retries(3).on_event(event_log.hook());
        let mut listener = builder.build().unwrap();
        let handle = listener.handle();
        let (listened, end) = tokio::join!(handle.listen("a"), listener.recv());
        assert!(matches!(listened, Err(Error::GaveUp { attempts: 4, .. })), "{listened:?}");
        assert!(matches!(end, Err(Error::GaveUp { attempts: 4, .. })));
        assert_eq!(event_log.kinds(), ["attempt", "attempt", "attempt", "attempt", "gave"]);
    });
}

#[test]
fn custom_dialer_makes_the_connections() {
    let Some(server) = Postgres::start("custom_dialer_makes_the_connections") else { return };
    on_one_and_two_threads(async || {
        let address = server.address;
        let dialer = perconn::dial_fn(move || tokio::net::TcpStream::connect(address));
        let mut listener = connected(quick(server.config_without_host()).dialer(dialer)).await;
        in_time("listen", listener.listen("a")).await.unwrap();
        server.client().await.notify("a", "1").await.unwrap();
        assert!(matches!(next(&mut listener).await, Message::Notification(_)));
        let panicking =
            perconn::dial_fn(|| -> std::future::Ready<std::io::Result<tokio::net::TcpStream>> { panic!("no") });
        let error = quick(server.config_without_host()).dialer(panicking).connect().await.unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    });
}

#[tokio::test]
async fn host_whose_session_ended_too_soon_is_left_for_the_next_one() {
    let (flapping, healthy) = (ScriptedServer::start().await, ScriptedServer::start().await);
    let mut config = flapping.config_without_host();
    for server in [&flapping, &healthy] {
        config.host(server.address.ip().to_string()).port(server.address.port());
    }
    let listener = quick(config).stable_after(Duration::from_secs(60)).build().unwrap();
    let closing = tokio::spawn(async move {
        loop {
            drop(flapping.accept_login().await);
        }
    });
    let _peer = healthy.accept_login().await;
    until("connected", async || listener.is_connected()).await;
    closing.abort();
}

#[tokio::test]
async fn connect_tries_each_address_of_its_dialer_and_names_the_one_that_failed() {
    let (one, two) = (refused_address().await, refused_address().await);
    let server = ScriptedServer::start().await;
    let event_log = EventLog::default();
    let builder = quick(server.config_without_host()).on_event(event_log.hook());
    let builder = builder.dialer(perconn::TcpDialer::with_addresses([one, two, server.address]));
    let (listener, _peer) = tokio::join!(in_time("connect", builder.connect()), server.accept_login());
    let _listener = listener.unwrap();
    let causes: Vec<_> = event_log
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::AttemptFailed { cause, .. } => Some(cause.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(causes, [one, two].map(|address| format!("connecting to {address} failed")));
}
