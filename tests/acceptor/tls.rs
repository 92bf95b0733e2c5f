//! TLS: handshakes that harm nobody, and certificates that change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use perconn::acceptor::{Acceptor, AcceptorBuilder, Error, Event, LineConn, Overflow, ServerTls};
use perconn::tokio_rustls::TlsConnector;
use perconn::tokio_rustls::client::TlsStream;
use perconn::tokio_rustls::rustls::crypto::ring;
use perconn::tokio_rustls::rustls::pki_types::pem::PemObject;
use perconn::tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use perconn::tokio_rustls::rustls::{ClientConfig, RootCertStore};
use perconn::{Conn, Tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, sleep, timeout};

use crate::support::soon;
use crate::world::{LONG, client, echo, event, figures, local, recorder, rest};

/// An authority, and a folder for what it issues.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    folder: PathBuf,
}

impl Authority {
    fn new() -> Self {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let name = format!("acceptor-{}-{}", std::process::id(), LAST.fetch_add(1, Ordering::SeqCst));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate, folder }
    }

    /// A certificate and its key, in PEM.
    fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn server(&self) -> ServerTls {
        let (certificate, key) = self.issue();
        ServerTls::from_files(self.file("chain.pem", &certificate), self.file("key.pem", &key))
    }

    fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    async fn session(&self, acceptor: &Acceptor) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        soon("a handshake", self.connector().connect(name, client(acceptor).await)).await
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn exchange(session: &mut TlsStream<TcpStream>) {
    session.write_all(b"ping").await.unwrap();
    session.flush().await.unwrap();
    let mut answer = [0; 4];
    soon("an echo", session.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"ping");
}

async fn session_rest(session: &mut TlsStream<TcpStream>) -> io::Result<String> {
    let mut text = String::new();
    soon("the end of the session", session.read_to_string(&mut text)).await?;
    Ok(text)
}

fn certificate_of(session: &TlsStream<TcpStream>) -> Vec<u8> {
    session.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

fn with(tls: ServerTls) -> AcceptorBuilder {
    local().tls(tls).handler(echo)
}

#[tokio::test]
async fn connection_of_the_core_talks_to_it() {
    let authority = Authority::new();
    let acceptor = local().tls(authority.server().alpn(["echo"])).handler(async |stream, peer| {
        let session = stream.tls().expect("it is TLS");
        assert_eq!(session.alpn_protocol(), Some(&b"echo"[..]));
        assert!(stream.tcp().is_some());
        echo(stream, peer).await
    });
    let acceptor = acceptor.build().unwrap();
    let tls = Tls::new().roots_pem(authority.certificate.as_str()).server_name("localhost").alpn(["echo"]);
    let conn = Conn::builder(acceptor.local_addr().unwrap()).tls(tls).unwrap().logger(|_| {}).connect();
    let mut conn = soon("connect", conn).await.unwrap();
    for _ in 0..3 {
        conn.write_all(b"hello").await.unwrap();
        conn.flush().await.unwrap();
        let mut answer = [0; 5];
        soon("an echo", conn.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"hello");
    }
}

#[tokio::test]
async fn lines_come_and_go_over_tls_and_the_end_is_orderly() {
    let authority = Authority::new();
    let acceptor = local().tls(authority.server()).line_handler(async |line, conn: LineConn| {
        conn.send(line).await?;
        conn.close();
        Ok(())
    });
    let acceptor = acceptor.build().unwrap();
    let mut session = authority.session(&acceptor).await.unwrap();
    session.write_all(b"a line\nand more\n").await.unwrap();
    session.flush().await.unwrap();
    assert_eq!(session_rest(&mut session).await.unwrap(), "a line\n");
}

#[tokio::test]
async fn handler_that_just_returns_ends_the_session_as_it_should() {
    let authority = Authority::new();
    let acceptor = local().tls(authority.server()).handler(async |mut stream, _| {
        stream.write_all(b"goodbye").await?;
        stream.flush().await
    });
    let acceptor = acceptor.build().unwrap();
    let mut session = authority.session(&acceptor).await.unwrap();
    // Without the session's own end, this would be an error.
    assert_eq!(session_rest(&mut session).await.unwrap(), "goodbye");
}

#[tokio::test]
async fn read_sends_what_a_write_without_a_flush_has_left() {
    let authority = Authority::new();
    const SIZE: usize = 4 << 20;
    let acceptor = local().tls(authority.server()).handler(async |mut stream, _| {
        stream.write_all(&vec![7; SIZE]).await?;
        stream.read_u8().await.map(|_| ())
    });
    let acceptor = acceptor.build().unwrap();
    let mut session = authority.session(&acceptor).await.unwrap();
    let mut bytes = vec![0; SIZE];
    soon("all of it", session.read_exact(&mut bytes)).await.unwrap();
    session.write_all(b"x").await.unwrap();
    session.flush().await.unwrap();
    assert_eq!(session_rest(&mut session).await.unwrap(), "");
}

#[tokio::test]
async fn panic_does_not_look_like_the_end_of_the_session() {
    let authority = Authority::new();
    let acceptor = local().tls(authority.server()).handler(async |mut stream, _| {
        stream.write_all(b"half an ans").await?;
        stream.flush().await?;
        panic!("as it is told")
    });
    let acceptor = acceptor.build().unwrap();
    let mut session = authority.session(&acceptor).await.unwrap();
    let error = session_rest(&mut session).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn hundred_silent_clients_take_no_acceptor_and_are_closed_at_the_deadline() {
    let authority = Authority::new();
    let limit = Duration::from_secs(2);
    let acceptor = with(authority.server()).acceptors(1).handshake_timeout(limit).build().unwrap();
    let start = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(client(&acceptor).await);
    }
    figures(&acceptor, "all are there", |stats| stats.handshaking == 100).await;
    let mut session = authority.session(&acceptor).await.unwrap();
    exchange(&mut session).await;
    assert!(start.elapsed() < limit, "{:?}", start.elapsed());
    for mut stream in silent {
        assert_eq!(rest(&mut stream).await.unwrap(), "");
    }
    exchange(&mut session).await;
    let stats = acceptor.stats();
    assert_eq!((stats.handshakes_failed, stats.handshaking, stats.busy, stats.accepted), (100, 0, 1, 1));
}

#[tokio::test]
async fn handshakes_beyond_their_limit_wait_until_one_ends() {
    let authority = Authority::new();
    let acceptor =
        with(authority.server()).max_handshakes(3).handshake_timeout(Duration::from_millis(300)).build().unwrap();
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(client(&acceptor).await);
    }
    figures(&acceptor, "as many as may", |stats| stats.handshaking == 3).await;
    // In the kernel's queue behind the others, it gets its turn.
    exchange(&mut authority.session(&acceptor).await.unwrap()).await;
    assert!(acceptor.stats().handshakes_failed >= 3);
}

#[tokio::test]
async fn clients_that_fill_up_the_handshakes_make_room_for_those_who_come_later() {
    let authority = Authority::new();
    let acceptor = with(authority.server()).max_handshakes(4).handshake_timeout(LONG).build().unwrap();
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(client(&acceptor).await);
    }
    figures(&acceptor, "as many as may", |stats| stats.handshaking == 4).await;
    for _ in 0..3 {
        exchange(&mut authority.session(&acceptor).await.unwrap()).await;
    }
    // Those who are given up are closed; the oldest is the first.
    assert_eq!(rest(&mut silent[0]).await.unwrap(), "");
    let stats = acceptor.stats();
    assert!((1..=4).contains(&stats.handshakes_failed), "{stats:?}");
}

#[tokio::test]
async fn byte_now_and_then_does_not_prolong_a_handshake() {
    let authority = Authority::new();
    let acceptor = with(authority.server()).handshake_timeout(Duration::from_millis(300)).build().unwrap();
    let (mut reader, mut writer) = client(&acceptor).await.into_split();
    // The beginning of a record that is long.
    writer.write_all(&[22, 3, 1, 60, 0, 1, 0, 59, 252, 3, 3]).await.unwrap();
    let mut ticks = interval(Duration::from_millis(20));
    let mut byte = [0];
    soon("its end", async {
        loop {
            tokio::select! {
                end = reader.read(&mut byte) => if !matches!(end, Ok(1..)) { return },
                _ = ticks.tick() => drop(writer.write_all(&[7]).await),
            }
        }
    })
    .await;
    figures(&acceptor, "it is counted", |stats| stats.handshakes_failed == 1 && stats.handshaking == 0).await;
}

#[tokio::test]
async fn what_is_no_handshake_is_told_and_harms_nobody() {
    let authority = Authority::new();
    let (hook, mut events) = recorder();
    let acceptor = with(authority.server()).on_event(hook).build().unwrap();
    let mut session = authority.session(&acceptor).await.unwrap();
    let mut stranger = client(&acceptor).await;
    stranger.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let address = stranger.local_addr().unwrap();
    let _ = soon("its end", stranger.read_to_end(&mut Vec::new())).await;
    let told = event(&mut events, |event| match event {
        Event::HandshakeFailed { peer, cause, .. } => Some((peer.addr(), cause.kind())),
        _ => None,
    });
    assert_eq!(told.await, (Some(address), io::ErrorKind::InvalidData));
    exchange(&mut session).await;
}

#[tokio::test]
async fn refusal_arrives_within_the_session() {
    let authority = Authority::new();
    let acceptor = with(authority.server()).acceptors(1).overflow(Overflow::Refuse).refusal("busy\n").build().unwrap();
    let mut first = authority.session(&acceptor).await.unwrap();
    exchange(&mut first).await;
    for _ in 0..3 {
        let mut refused = authority.session(&acceptor).await.unwrap();
        refused.write_all(b"me first").await.unwrap();
        refused.flush().await.unwrap();
        assert_eq!(session_rest(&mut refused).await.unwrap(), "busy\n");
    }
    exchange(&mut first).await;
}

#[tokio::test]
async fn sessions_wait_for_an_acceptor_and_all_get_one() {
    let authority = Authority::new();
    let acceptor = with(authority.server()).acceptors(2).overflow(Overflow::Wait).build().unwrap();
    let first = [authority.session(&acceptor).await.unwrap(), authority.session(&acceptor).await.unwrap()];
    figures(&acceptor, "they are served", |stats| stats.busy == 2).await;
    let mut waiting = Vec::new();
    for _ in 0..6 {
        waiting.push(authority.session(&acceptor).await.unwrap());
    }
    assert!(timeout(Duration::from_millis(50), waiting[0].read_u8()).await.is_err());
    assert_eq!((acceptor.stats().busy, acceptor.stats().handshaking), (2, 6));
    // Both at once: each has to wake one.
    drop(first);
    let mut sessions = tokio::task::JoinSet::new();
    for mut session in waiting {
        sessions.spawn(async move {
            exchange(&mut session).await;
        });
    }
    soon("all are served", sessions.join_all()).await;
    figures(&acceptor, "all are gone", |stats| stats.busy == 0 && stats.accepted == 8).await;
}

#[tokio::test]
async fn new_certificates_are_taken_and_half_written_ones_are_not() {
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
        // The new certificate, or half of it, and still the old key.
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
    // The same fault is told once, however often it is seen.
    sleep(look * 5).await;
    authority.file("key.pem", &key);
    event(&mut events, |event| matches!(event, Event::CertificatesReloaded).then_some(())).await;
    let mut new = authority.session(&acceptor).await.unwrap();
    assert_eq!(certificate_of(&new), der(&certificate));
    exchange(&mut new).await;
    exchange(&mut old).await;
    drop(acceptor);
    let mut told = 0;
    while let Some(line) = soon("the logger's end", lines.recv()).await {
        assert_eq!(line, "the new certificates are not taken, and the old ones stay");
        told += 1;
    }
    assert_eq!(told, 3);
}

#[tokio::test]
async fn certificates_are_reloaded_on_demand() {
    let authority = Authority::new();
    let acceptor = with(authority.server().reload_every(None)).build().unwrap();
    let (certificate, key) = authority.issue();
    authority.file("key.pem", &key);
    let error = soon("a reload", acceptor.reload_tls()).await.unwrap_err();
    assert!(matches!(&*error, Error::InvalidConfig(text) if text.contains("key.pem")), "{error}");
    exchange(&mut authority.session(&acceptor).await.unwrap()).await;
    authority.file("chain.pem", &certificate);
    soon("a reload", acceptor.reload_tls()).await.unwrap();
    assert_eq!(certificate_of(&authority.session(&acceptor).await.unwrap()), der(&certificate));
    let plain = local().handler(echo).build().unwrap();
    let error = soon("a reload", plain.reload_tls()).await.unwrap_err();
    assert!(error.to_string().contains("no TLS"), "{error}");
}

#[tokio::test]
async fn clients_without_a_good_certificate_are_not_served() {
    let authority = Authority::new();
    let clients = Authority::new();
    let roots = clients.file("roots.pem", &clients.certificate);
    let acceptor = with(authority.server().client_roots_file(roots)).build().unwrap();
    // A client learns of it when it reads.
    let mut session = authority.session(&acceptor).await.unwrap();
    assert!(session_rest(&mut session).await.is_err());
    figures(&acceptor, "it is counted", |stats| stats.handshakes_failed == 1).await;
    let (certificate, key) = clients.issue();
    let tls = Tls::new().roots_pem(authority.certificate.as_str()).server_name("localhost");
    let tls = tls.client_certificate_pem(certificate, key);
    let conn = Conn::builder(acceptor.local_addr().unwrap()).tls(tls).unwrap().logger(|_| {}).connect();
    let mut conn = soon("connect", conn).await.unwrap();
    conn.write_all(b"x").await.unwrap();
    conn.flush().await.unwrap();
    assert_eq!(soon("an echo", conn.read_u8()).await.unwrap(), b'x');
}

#[tokio::test]
async fn stop_ends_handshakes_at_once() {
    let authority = Authority::new();
    let acceptor = with(authority.server()).build().unwrap();
    let mut silent = client(&acceptor).await;
    figures(&acceptor, "it is there", |stats| stats.handshaking == 1).await;
    assert_eq!(soon("stop", acceptor.stop(LONG)).await, Default::default());
    assert_eq!(rest(&mut silent).await.unwrap(), "");
    figures(&acceptor, "it is gone", |stats| stats.handshaking == 0).await;
}

#[tokio::test]
async fn bad_certificates_are_named_when_it_is_built() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue();
    let (_, other_key) = authority.issue();
    let good = authority.file("good.pem", &certificate);
    let good_key = authority.file("good-key.pem", &key);
    let junk = authority.file("junk.pem", "-----BEGIN CERTIFICATE-----\nsecret!\n");
    let none = authority.folder.join("none.pem");
    let cases = [
        (ServerTls::from_files(&none, &good_key), "none.pem\": No such file"),
        (ServerTls::from_files(&good, &none), "none.pem\": No such file"),
        (ServerTls::from_files(&good_key, &good_key), "good-key.pem\": no certificate in it; expected PEM"),
        (ServerTls::from_files(&good, &good), "good.pem\": no private key in it; expected PEM"),
        (ServerTls::from_files(&junk, &good_key), "junk.pem\": a section has no end; expected PEM"),
        (ServerTls::from_files(&good, authority.file("other.pem", &other_key)), "good.pem\" with private key"),
        (ServerTls::from_pem("", key), "given as a text of 0 bytes: no certificate"),
        (ServerTls::from_pem(certificate, other_key), "with private key given as a text"),
        (authority.server().client_roots_file(&good_key), "the clients' roots"),
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
    for (builder, expected) in [
        (with(authority.server()).max_handshakes(0), "max_handshakes 0: expected at least 1"),
        (with(authority.server()).handshake_timeout(Duration::ZERO), "handshake_timeout 0ns: expected more than zero"),
    ] {
        let error = builder.build().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
