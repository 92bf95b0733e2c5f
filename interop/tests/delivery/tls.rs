//! RELP and syslog over TLS: TLS is a setting of the connection.

use std::fs;
use std::path::Path;

use perconn::outbox::protocols::{Relp, Syslog};
use perconn::{Builder, Conn, Tls, TlsDialer};
use rcgen::CertifiedKey;

use crate::numbered::{Plan, ship};
use crate::real_server::RealServer;
use crate::rsyslog::{arrived, message, rsyslog};
use crate::support::quick;

/// The paths of a new certificate for `localhost` and its key.
fn certificate(folder: &Path) -> (String, String) {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    fs::write(&certificate, cert.pem()).unwrap();
    fs::write(&key, signing_key.serialize_pem()).unwrap();
    (certificate.display().to_string(), key.display().to_string())
}

/// A connection that trusts the server's certificate and nothing else.
fn trusting(server: &RealServer) -> Builder<TlsDialer> {
    let tls = Tls::new().roots_file(server.folder.join("certificate.pem")).server_name("localhost");
    quick(Conn::builder(server.address)).tls(tls).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn relp_over_tls_loses_nothing_through_kills_of_rsyslog() {
    let server = rsyslog("relp over tls", &["imrelp"], |folder, port| {
        let (certificate, key) = certificate(folder);
        format!(
            "module(load=\"imrelp\" tls.tlslib=\"openssl\")
            input(type=\"imrelp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"file\" tls=\"on\"
                tls.caCert=\"{certificate}\" tls.myCert=\"{certificate}\" tls.myPrivKey=\"{key}\")"
        )
    });
    let Some(server) = server else { return };
    let plan = Plan::from_env(20_000, 3);
    let outbox = Relp::new().outbox(trusting(&server)).window(1024).start().unwrap();
    let tally = ship(outbox, &server, plan, message).await;
    arrived(&server, plan.messages).await.assert_at_least_once(&tally, plan, 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn syslog_over_tls_accounts_for_every_message_through_kills_of_rsyslog() {
    let server = rsyslog("syslog over tls", &["imtcp", "lmnsd_ossl"], |folder, port| {
        let (certificate, key) = certificate(folder);
        format!(
            "global(defaultNetstreamDriver=\"ossl\" defaultNetstreamDriverCAFile=\"{certificate}\"
                defaultNetstreamDriverCertFile=\"{certificate}\" defaultNetstreamDriverKeyFile=\"{key}\")
            module(load=\"imtcp\" streamDriver.name=\"ossl\" streamDriver.mode=\"1\" streamDriver.authMode=\"anon\")
            input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"file\")"
        )
    });
    let Some(server) = server else { return };
    let plan = Plan::from_env(20_000, 3);
    let outbox = Syslog::octet_counting().outbox(trusting(&server)).start().unwrap();
    let tally = ship(outbox, &server, plan, message).await;
    assert_eq!(tally.written + tally.in_doubt, plan.messages, "{tally}");
    let arrived = arrived(&server, plan.messages).await;
    println!("{} of {} written messages were lost", arrived.lost.saturating_sub(tally.in_doubt), tally.written);
    assert!(arrived.in_order && arrived.twice == 0, "{arrived}");
}
