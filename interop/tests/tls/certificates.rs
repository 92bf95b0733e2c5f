//! Certificates that change, certificates that are not usable, and certificates of clients.

use std::sync::Arc;
use std::time::Duration;

use perconn::acceptor::{Error, Event, ServerTls};
use perconn::tokio_rustls::client::TlsStream;
use perconn::tokio_rustls::rustls::ServerConfig;
use perconn::tokio_rustls::rustls::crypto::ring;
use perconn::tokio_rustls::rustls::pki_types::pem::PemObject;
use perconn::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use perconn::{Conn, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::authority::{Authority, exchange, session_rest, with};
use crate::common::{echo, event, figures, local, recorder};
use crate::support::in_time;

fn certificate_of(session: &TlsStream<TcpStream>) -> Vec<u8> {
    session.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

#[tokio::test]
async fn new_certificates_are_loaded_and_half_written_ones_are_not() {
    let authority = Authority::new();
    let (hook, mut events) = recorder();
    let (log, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let look = Duration::from_millis(20);
    let acceptor = with(authority.server().reload_every(look))
        .on_event(hook)
        .logger(move |error| drop(log.send(error.to_string())))
        .build()
        .unwrap();
    let old_certificate = std::fs::read_to_string(authority.folder.join("chain.pem")).unwrap();
    let mut old = authority.session(&acceptor).await.unwrap();
    assert_eq!(certificate_of(&old), der(&old_certificate));

    let (certificate, key) = authority.issue();
    let half = &certificate[..certificate.len() / 2];
    for bad in [half, "", &certificate] {
        // Half of the new certificate, nothing, and all of it; always with the old key.
        authority.file("chain.pem", bad);
        let cause = event(&mut events, |event| match event {
            Event::CertificatesKept { cause, .. } => Some(cause.to_string()),
            _ => None,
        });
        let cause = cause.await;
        assert!(cause.contains("chain.pem"), "{cause}");
        let mut session = authority.session(&acceptor).await.unwrap();
        assert_eq!(certificate_of(&session), der(&old_certificate));
        exchange(&mut session).await;
    }
    // Each state of the files is reported once, however often it is seen.
    sleep(look * 5).await;
    authority.file("key.pem", &key);
    event(&mut events, |event| matches!(event, Event::CertificatesReloaded).then_some(())).await;
    let mut new = authority.session(&acceptor).await.unwrap();
    assert_eq!(certificate_of(&new), der(&certificate));
    exchange(&mut new).await;
    exchange(&mut old).await;
    drop(acceptor);
    let mut reports = 0;
    while let Some(line) = in_time("the logger's end", lines.recv()).await {
        assert_eq!(line, "the new certificates are not usable; the old ones stay in use");
        reports += 1;
    }
    assert_eq!(reports, 3);
}

#[tokio::test]
async fn certificates_are_reloaded_on_demand() {
    let authority = Authority::new();
    let acceptor = with(authority.server().reload_every(None)).build().unwrap();
    let (certificate, key) = authority.issue();
    authority.file("key.pem", &key);
    let error = in_time("a reload", acceptor.reload_tls()).await.unwrap_err();
    assert!(matches!(&*error, Error::InvalidConfig(text) if text.contains("key.pem")), "{error}");
    exchange(&mut authority.session(&acceptor).await.unwrap()).await;
    authority.file("chain.pem", &certificate);
    in_time("a reload", acceptor.reload_tls()).await.unwrap();
    assert_eq!(certificate_of(&authority.session(&acceptor).await.unwrap()), der(&certificate));
    let plain = local().handler(echo).build().unwrap();
    let error = in_time("a reload", plain.reload_tls()).await.unwrap_err();
    assert!(error.to_string().contains("no TLS"), "{error}");
}

#[tokio::test]
async fn reload_of_what_cannot_change_is_an_error() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let private_key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .unwrap();
    for (tls, expected) in [
        (ServerTls::from_pem(certificate.as_str(), key.as_str()), "given as PEM in memory"),
        (ServerTls::from_config(config), "given by a rustls configuration"),
    ] {
        let (hook, mut events) = recorder();
        let acceptor = with(tls).on_event(hook).build().unwrap();
        let error = in_time("a reload", acceptor.reload_tls()).await.unwrap_err();
        assert!(error.to_string().contains(expected) && error.to_string().contains("expected files"), "{error}");
        drop(acceptor);
        let first = event(&mut events, |event| Some(event.clone())).await;
        assert!(matches!(first, Event::Stopping), "{first}");
    }
    // Authorities of clients in a file can change.
    let roots = authority.file("roots.pem", &authority.certificate);
    let acceptor = with(ServerTls::from_pem(certificate, key).client_roots_file(roots)).build().unwrap();
    in_time("a reload", acceptor.reload_tls()).await.unwrap();
}

#[tokio::test]
async fn clients_without_a_valid_certificate_are_not_served() {
    let authority = Authority::new();
    let clients = Authority::new();
    let roots = clients.file("roots.pem", &clients.certificate);
    let acceptor = with(authority.server().client_roots_file(roots)).build().unwrap();
    // In TLS 1.3, the client sees the rejection when it reads.
    let mut session = authority.session(&acceptor).await.unwrap();
    assert!(session_rest(&mut session).await.is_err());
    figures(&acceptor, "it is counted", |stats| stats.handshakes_failed == 1).await;
    let (certificate, key) = clients.issue();
    let tls = Tls::new().roots_pem(authority.certificate.as_str()).server_name("localhost");
    let tls = tls.client_certificate_pem(certificate, key);
    let conn = Conn::builder(acceptor.local_addr().unwrap()).tls(tls).unwrap().logger(|_| {}).connect();
    let mut conn = in_time("connect", conn).await.unwrap();
    conn.write_all(b"x").await.unwrap();
    conn.flush().await.unwrap();
    assert_eq!(in_time("an echo", conn.read_u8()).await.unwrap(), b'x');
}

#[tokio::test]
async fn bad_certificates_are_rejected_by_name() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue();
    let (_, other_key) = authority.issue();
    let good = authority.file("good.pem", &certificate);
    let good_key = authority.file("good-key.pem", &key);
    let junk = authority.file("junk.pem", "-----BEGIN CERTIFICATE-----\nsecret!\n");
    let none = authority.folder.join("none.pem");
    let encrypted =
        |title: &str, header: &str| format!("-----BEGIN {title}-----\n{header}c2VjcmV0IQ==\n-----END {title}-----\n");
    let header = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123456789ABCDEF0123456789ABCDEF\n\n";
    let old_form = authority.file("old.pem", &encrypted("EC PRIVATE KEY", header));
    let new_form = authority.file("new.pem", &encrypted("ENCRYPTED PRIVATE KEY", ""));
    let cases = [
        (ServerTls::from_files(&none, &good_key), "none.pem\": No such file"),
        (ServerTls::from_files(&good, &none), "none.pem\": No such file"),
        (ServerTls::from_files(&good_key, &good_key), "good-key.pem\": no certificate in it; expected PEM"),
        (ServerTls::from_files(&good, &good), "good.pem\": no private key in it; expected PEM"),
        (ServerTls::from_files(&junk, &good_key), "junk.pem\": a section has no end; expected PEM"),
        (ServerTls::from_files(&good, authority.file("other.pem", &other_key)), "good.pem\" with private key"),
        (ServerTls::from_files(&good, &old_form), "old.pem\": the key is encrypted (Proc-Type: 4,ENCRYPTED)"),
        (ServerTls::from_files(&good, &new_form), "new.pem\": the key is encrypted (BEGIN ENCRYPTED PRIVATE KEY)"),
        (ServerTls::from_pem("", key), "given as a text of 0 bytes: no certificate"),
        (ServerTls::from_pem(certificate, other_key), "with private key given as a text"),
        (authority.server().client_roots_file(&good_key), "client roots"),
        (authority.server().alpn([""]), "alpn protocol of 0 bytes: expected 1 to 255"),
        (authority.server().reload_every(Duration::ZERO), "reload_every 0ns: expected more than zero"),
    ];
    for (tls, expected) in cases {
        match with(tls).build() {
            Err(Error::InvalidConfig(text)) => {
                assert!(text.contains(expected) && !text.contains("secret"), "{expected} is not in {text}");
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
}
