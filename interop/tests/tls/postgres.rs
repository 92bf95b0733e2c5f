//! TLS, as PostgreSQL negotiates it.
//!
//! Next: `starting`, for the other settings of a connection.

use std::error::Error as _;

use perconn::Tls;
use perconn::postgres::{Error, Listener};
use tokio::io::AsyncReadExt;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use crate::helpers::{connected, on_one_and_two_threads, outage, payload, quick, terminate};
use crate::scripted_server::ScriptedServer;
use crate::server::{Postgres, Setup};
use crate::support::in_time;

/// A self-signed certificate for this name, and its key.
fn certificate(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn config(server: &Postgres, mode: SslMode) -> Config {
    let mut config = server.config();
    config.ssl_mode(mode).application_name("tls");
    config
}

/// How many of the sessions speak TLS, and how many do not.
async fn sessions(server: &Postgres) -> (usize, usize) {
    let client = server.client().await;
    let list = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'tls'";
    let rows = client.query(list, &[]).await.unwrap();
    let with = rows.iter().filter(|row| row.get::<_, bool>(0)).count();
    (with, rows.len() - with)
}

#[test]
fn listener_speaks_tls_before_and_after_a_loss() {
    let (certificate, key) = certificate("127.0.0.1");
    let Some(server) = Setup::of("listener_speaks_tls_before_and_after_a_loss").tls(certificate.clone(), key).start()
    else {
        return;
    };
    on_one_and_two_threads(async || {
        for mode in [SslMode::Require, SslMode::Prefer] {
            let builder = quick(config(&server, mode)).tls(Tls::new().roots_pem(certificate.clone()));
            let mut listener = connected(builder).await;
            in_time("listen", listener.listen("a")).await.unwrap();
            let client = server.client().await;
            for text in ["before", "after"] {
                assert_eq!(sessions(&server).await, (1, 0));
                client.notify("a", text).await.unwrap();
                assert_eq!(payload(&mut listener).await, text);
                if text == "before" {
                    terminate(&client, "tls").await;
                    outage(&mut listener).await;
                }
            }
            in_time("close", listener.close()).await;
            crate::helpers::until("gone", async || sessions(&server).await == (0, 0)).await;
        }
        // `prefer` without TLS settings is plain text, and so is `disable` with them.
        for (mode, tls) in
            [(SslMode::Prefer, None), (SslMode::Disable, Some(Tls::new().roots_pem(certificate.clone())))]
        {
            let mut builder = quick(config(&server, mode));
            if let Some(tls) = tls {
                builder = builder.tls(tls);
            }
            let listener = connected(builder).await;
            assert_eq!(sessions(&server).await, (0, 1));
            in_time("close", listener.close()).await;
            crate::helpers::until("gone", async || sessions(&server).await == (0, 0)).await;
        }
    });
}

#[test]
fn certificate_of_another_server_is_refused_in_every_mode() {
    let (good, key) = certificate("127.0.0.1");
    let Some(server) =
        Setup::of("certificate_of_another_server_is_refused_in_every_mode").tls(good.clone(), key).start()
    else {
        return;
    };
    let (other, _) = certificate("127.0.0.1");
    on_one_and_two_threads(async || {
        drop(server.client().await);
        for mode in [SslMode::Require, SslMode::Prefer] {
            for tls in
                [Tls::new().roots_pem(other.clone()), Tls::new().roots_pem(good.clone()).server_name("db.example")]
            {
                let error = in_time("connect", quick(config(&server, mode)).tls(tls).connect()).await.unwrap_err();
                let source = error.source().unwrap().to_string();
                assert!(source.contains("certificate"), "{source}");
            }
        }
    });
}

#[test]
fn server_without_tls_is_accepted_by_prefer_and_refused_by_require() {
    let Some(server) = Postgres::start("server_without_tls_is_accepted_by_prefer_and_refused_by_require") else {
        return;
    };
    let (certificate, _) = certificate("127.0.0.1");
    on_one_and_two_threads(async || {
        drop(server.client().await);
        let tls = || Tls::new().roots_pem(certificate.clone());
        let listener = in_time("connect", quick(config(&server, SslMode::Prefer)).tls(tls()).connect()).await.unwrap();
        in_time("ping", listener.ping()).await.unwrap();
        let error = quick(config(&server, SslMode::Require)).tls(tls()).connect().await.unwrap_err();
        assert!(error.source().unwrap().to_string().contains("no TLS"), "{error:?}");
    });
}

#[test]
fn alert_and_garbage_in_place_of_tls_are_failed_attempts() {
    let (certificate, _) = certificate("127.0.0.1");
    on_one_and_two_threads(async || {
        for answer in [&b"S\x15\x03\x03\x00\x02\x02\x28"[..], b"Snonsense", b"E", b""] {
            let scripted = ScriptedServer::start().await;
            let builder = quick(scripted.config()).tls(Tls::new().roots_pem(certificate.clone()));
            let refusal = async {
                let mut peer = scripted.accept().await;
                let mut request = [0; 8];
                peer.0.read_exact(&mut request).await.unwrap();
                assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47]);
                peer.send(answer).await;
            };
            let (outcome, ()) = tokio::join!(builder.connect(), refusal);
            assert!(matches!(outcome, Err(Error::Connect { .. })), "{answer:?}: {outcome:?}");
        }
    });
}

#[tokio::test]
async fn invalid_tls_settings_are_named_by_build() {
    let builder = Listener::builder("host=127.0.0.1 user=u").tls(Tls::new().roots_file("/no/such/file"));
    let error = builder.build().unwrap_err();
    assert!(matches!(&error, Error::InvalidConfig(text) if text.contains("/no/such/file")), "{error:?}");
    let direct = "host=127.0.0.1 user=u sslnegotiation=direct";
    let error = Listener::builder(direct).tls(Tls::new().roots_pem(certificate("a").0)).build().unwrap_err();
    assert!(error.to_string().contains("sslnegotiation=direct"), "{error}");
}

/// A name that the program has set is never replaced by that of the host.
#[test]
fn server_name_that_is_malformed_is_refused_when_the_listener_is_built() {
    let (certificate, _) = certificate("127.0.0.1");
    let mut config = Config::new();
    config.host("127.0.0.1").user("agent").ssl_mode(SslMode::Require);
    let tls = Tls::new().roots_pem(certificate).server_name("not a name!");
    let error = Listener::builder(config).tls(tls).build().unwrap_err();
    assert!(matches!(error, Error::InvalidConfig(_)), "{error:?}");
    assert!(error.to_string().contains("not a name!"), "{error}");
}

#[test]
fn connection_string_that_asks_for_a_verified_server_needs_no_settings_for_tls() {
    let test = "connection_string_that_asks_for_a_verified_server_needs_no_settings_for_tls";
    let (good, key) = certificate("127.0.0.1");
    let Some(server) = Setup::of(test).tls(good.clone(), key).start() else { return };
    let (other, _) = certificate("127.0.0.1");
    let file = |name: &str, pem: &str| {
        let path = server.folder().join(name);
        std::fs::write(&path, pem).unwrap();
        path.display().to_string()
    };
    let (good, other) = (file("good.pem", &good), file("other.pem", &other));
    on_one_and_two_threads(async || {
        drop(server.client().await);
        for mode in ["verify-full", "verify-ca", "require", "prefer", "allow"] {
            let url = |root: &str| format!("{}?sslmode={mode}&sslrootcert={root}&application_name=tls", server.url());
            let listener = in_time("connect", quick(url(&good)).connect()).await.unwrap();
            assert_eq!(sessions(&server).await, (1, 0), "{mode}");
            in_time("close", listener.close()).await;
            crate::helpers::until("gone", async || sessions(&server).await == (0, 0)).await;
            let error = in_time("connect", quick(url(&other)).connect()).await.unwrap_err();
            assert!(error.with_causes().to_string().contains("certificate"), "{}", error.with_causes());
        }
        // With settings as well, the roots of both count.
        let url = format!("{}?sslmode=verify-full&sslrootcert={other}", server.url());
        let listener = quick(url).tls(Tls::new().roots_file(&good)).connect();
        in_time("close", in_time("connect", listener).await.unwrap().close()).await;
        // Without a file, the roots of the system, which do not know this server.
        let error = in_time("connect", quick(format!("{}?sslmode=verify-full", server.url())).connect()).await;
        assert!(error.unwrap_err().with_causes().to_string().contains("certificate"));
        let error = quick(format!("{}?sslrootcert=/nowhere/ca.pem", server.url())).build().unwrap_err();
        assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
    });
}
