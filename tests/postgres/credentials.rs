//! Credentials that expire, and errors that time alone does not mend.
//!
//! Next: `starting`, for the other settings of an attempt.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use perconn::postgres::{Error, Event, Listener};
use tokio_postgres::Config;

use crate::helpers::{EventLog, connected, named, on_one_and_two_threads, outage, payload, quick, terminate, until};
use crate::scripted_server::{ScriptedServer, error_response};
use crate::server::{PASSWORD, Postgres};
use crate::support::in_time;

/// An error of the program.
#[derive(Debug, thiserror::Error)]
#[error("the vault is sealed")]
struct Sealed;

#[test]
fn each_attempt_has_the_configuration_that_the_program_gives_for_it() {
    let Some(server) = Postgres::start("each_attempt_has_the_configuration_that_the_program_gives_for_it") else {
        return;
    };
    on_one_and_two_threads(async || {
        let client = server.client().await;
        client.batch(&format!("ALTER USER perconn PASSWORD '{PASSWORD}'")).await.unwrap();
        let (asked, password) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(PASSWORD.to_owned())));
        let (count, vault, mut config) = (Arc::clone(&asked), Arc::clone(&password), server.config());
        config.application_name("rotated");
        let mut wrong = server.config();
        wrong.password("never used");
        let events = EventLog::default();
        let builder = quick(wrong).on_event(events.hook()).config_for_each_attempt(move || {
            count.fetch_add(1, Ordering::SeqCst);
            let (mut config, vault) = (config.clone(), Arc::clone(&vault));
            async move {
                tokio::task::yield_now().await;
                let password = vault.lock().unwrap().clone();
                if password.is_empty() {
                    return Err(Sealed);
                }
                config.password(password);
                Ok(config)
            }
        });
        let mut listener = in_time("connect", builder.connect()).await.unwrap();
        in_time("listen", listener.listen("a")).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // The vault is sealed, and then it has another password. The server has that one, too.
        client.batch("ALTER USER perconn PASSWORD 'second'").await.unwrap();
        password.lock().unwrap().clear();
        terminate(&client, "rotated").await;
        until("failed attempts", async || events.count("attempt") >= 2).await;
        let sealed = events.events().into_iter().find_map(|event| match event {
            Event::AttemptFailed { cause, .. } => Some(cause.with_causes().to_string()),
            _ => None,
        });
        let text = sealed.unwrap();
        assert!(text.ends_with("there is no configuration for this attempt: the vault is sealed"), "{text}");
        *password.lock().unwrap() = "second".to_owned();
        outage(&mut listener).await;
        client.notify("a", "with the second").await.unwrap();
        assert_eq!(payload(&mut listener).await, "with the second");
        client.batch(&format!("ALTER USER perconn PASSWORD '{PASSWORD}'")).await.unwrap();
    });
}

#[test]
fn configuration_of_an_attempt_may_name_another_host_and_its_panic_is_a_failed_attempt() {
    on_one_and_two_threads(async || {
        let (first, second) = (ScriptedServer::start().await, ScriptedServer::start().await);
        let configs = [first.config(), second.config()];
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let events = EventLog::default();
        let builder = quick(first.config()).on_event(events.hook()).config_for_each_attempt(move || {
            let number = count.fetch_add(1, Ordering::SeqCst);
            assert_ne!(number, 1, "no configuration the second time");
            let config = configs[number.min(1)].clone();
            async move { Ok::<Config, Sealed>(config) }
        });
        let mut listener = builder.build().unwrap();
        drop(first.accept_login().await);
        let _peer = second.accept_login().await;
        outage(&mut listener).await;
        assert_eq!(events.kinds(), ["connected", "disconnected", "attempt", "reconnected"]);
    });
}

#[test]
fn time_of_the_function_counts_towards_the_limit_of_the_attempt() {
    on_one_and_two_threads(async || {
        let limit = Duration::from_millis(100);
        let builder = Listener::builder("host=127.0.0.1 user=u").logger(|_| {}).dial_timeout(limit);
        let builder = builder.config_for_each_attempt(std::future::pending::<Result<Config, Sealed>>);
        let error = in_time("the error", builder.connect()).await.unwrap_err();
        assert!(error.with_causes().to_string().contains("longer than 100ms"), "{}", error.with_causes());
    });
}

#[test]
fn hopeless_failures_are_logged_once_counted_and_retried_at_longer_intervals() {
    on_one_and_two_threads(async || {
        for code in ["28P01", "28000", "3D000"] {
            let scripted = ScriptedServer::start().await;
            let (events, logged) = (EventLog::default(), Arc::new(Mutex::new(Vec::new())));
            let log = Arc::clone(&logged);
            let builder = quick(scripted.config())
                .retry_min(Duration::from_millis(1))
                .retry_max(Duration::from_millis(2))
                .hopeless_retry_max(Duration::from_millis(200))
                .on_event(events.hook())
                .logger(move |error| log.lock().unwrap().push((error.is_hopeless(), error.code().cloned())));
            let _listener = builder.build().unwrap();
            let mut times = Vec::new();
            for _ in 0..10 {
                let mut peer = scripted.accept().await;
                times.push(Instant::now());
                peer.read_startup().await;
                peer.send(&error_response("FATAL", code)).await;
            }
            // The first delays are the usual ones, in case that the password is just being changed.
            assert!(times[9] - times[8] >= Duration::from_millis(100), "{times:?}");
            let counts: Vec<_> = events
                .events()
                .iter()
                .filter_map(|event| match event {
                    Event::AttemptFailed { hopeless, retry_in, .. } => Some((*hopeless, retry_in.unwrap())),
                    _ => None,
                })
                .collect();
            assert!(counts.iter().map(|(count, _)| *count).eq(1..=counts.len() as u32), "{counts:?}");
            assert!(counts.iter().all(|(_, delay)| *delay <= Duration::from_millis(200)), "{counts:?}");
            // Another failure in between, and it is logged again.
            scripted.accept().await.reset();
            let mut peer = scripted.accept().await;
            peer.read_startup().await;
            peer.send(&error_response("FATAL", code)).await;
            until("they are logged", async || logged.lock().unwrap().len() >= 3).await;
            let logged: Vec<_> = logged.lock().unwrap().iter().map(|(is_hopeless, _)| *is_hopeless).collect();
            assert_eq!(logged, [true, false, true]);
        }
    });
}

#[test]
fn failure_is_hopeless_only_if_all_hosts_say_so() {
    let Some(server) = Postgres::start("failure_is_hopeless_only_if_all_hosts_say_so") else { return };
    on_one_and_two_threads(async || {
        drop(server.client().await);
        let refused = crate::support::refused_address().await;
        let mut config = server.config();
        config.password("wrong").host(refused.ip().to_string()).port(refused.port());
        let error = in_time("connect", quick(&config).connect()).await.unwrap_err();
        assert!(!error.is_hopeless(), "{error:?}");
        let mut config = server.config();
        config.password("wrong").host(server.address.ip().to_string()).port(server.address.port());
        let error = in_time("connect", quick(&config).connect()).await.unwrap_err();
        assert!(error.is_hopeless(), "{error:?}");
        let mut config = server.config();
        let error = in_time("connect", quick(config.dbname("nothing")).connect()).await.unwrap_err();
        assert!(error.is_hopeless() && !Error::Down.is_hopeless(), "{error:?}");
        // The listener goes on, and is back once it is mended.
        let (events, mut config) = (EventLog::default(), server.config());
        let listener = quick(config.dbname("later")).hopeless_retry_max(Duration::from_millis(100));
        let listener = listener.on_event(events.hook()).build().unwrap();
        until("failed attempts", async || events.count("attempt") >= 2).await;
        let client = server.client().await;
        client.batch("CREATE DATABASE later").await.unwrap();
        until("connected", async || listener.is_connected()).await;
        in_time("close", listener.close()).await;
        client.batch("DROP DATABASE later WITH (FORCE)").await.unwrap();
        drop(connected(named(&server, "again")).await);
    });
}
