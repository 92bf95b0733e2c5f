//! Files of a connection's TLS that change while it lives.
//!
//! Next: [`certificates`](crate::certificates), the same for an acceptor.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use perconn::tokio_rustls::TlsAcceptor;
use perconn::tokio_rustls::client::TlsStream;
use perconn::tokio_rustls::rustls::pki_types::CertificateDer;
use perconn::tokio_rustls::rustls::pki_types::pem::PemObject;
use perconn::{Conn, Error, Tls, TlsDialer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Authority, Identity, accept, acceptor};
use crate::support::{Server, in_time, quick};

/// A folder with the files of one client. It is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let name = format!("rotated-{}-{}", std::process::id(), LAST.fetch_add(1, Ordering::SeqCst));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    fn write_identity(&self, identity: &Identity) {
        self.write("cert.pem", &identity.certificate);
        self.write("key.pem", &identity.key);
    }

    fn tls(&self) -> Tls {
        let tls = Tls::new().roots_file(self.0.join("roots.pem"));
        tls.client_certificate_files(self.0.join("cert.pem"), self.0.join("key.pem"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A connection over files, the server of its links, and what it has logged about the files.
struct Rotation {
    server: Server,
    conn: Conn<TlsStream<TcpStream>>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Rotation {
    /// A connection with its first link to a server that asks for a certificate.
    async fn start(folder: &Folder, acceptor: &TlsAcceptor) -> Self {
        let server = Server::start().await;
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = Arc::clone(&log);
        let builder = quick(Conn::builder(("localhost", server.address.port()))).logger(move |error| {
            if !matches!(error, Error::IoError { .. }) {
                lines.lock().unwrap().push(error.with_causes().to_string());
            }
        });
        let builder = builder.tls(folder.tls()).unwrap();
        let (conn, peer) = tokio::join!(builder.connect(), accept(&server, acceptor));
        peer.unwrap();
        let mut rotation = Self { server, conn: conn.unwrap(), log };
        rotation.end().await;
        rotation
    }

    /// The link ends: its peer was dropped.
    async fn end(&mut self) {
        let error = in_time("the end of the link", self.conn.read(&mut [0])).await.unwrap_err();
        assert!(Error::of(&error).is_some(), "{error:?}");
    }

    /// Redials to a server with this acceptor, which must get this certificate and be trusted.
    async fn redial(&mut self, acceptor: &TlsAcceptor, sent: &Identity) {
        let mut peer = accept(&self.server, acceptor).await.expect("the client's certificate is accepted");
        let certificates = peer.get_ref().1.peer_certificates().unwrap();
        assert_eq!(certificates[0], CertificateDer::from_pem_slice(sent.certificate.as_bytes()).unwrap());
        peer.write_all(b"x").await.unwrap();
        peer.flush().await.unwrap();
        assert_eq!(in_time("a byte", self.conn.read_u8()).await.unwrap(), b'x');
    }

    /// What was logged since the last call.
    fn logged(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

const KEPT: &str = "the new certificates are not usable; the old ones stay in use: ";

#[tokio::test]
async fn rotated_files_are_used_by_the_next_dial_and_incomplete_ones_are_not() {
    let folder = Folder::new();
    let (old, new) = (Authority::new(), Authority::new());
    let (old_own, new_own) = (old.issue("agent-1"), new.issue("agent-2"));
    folder.write("roots.pem", &old.certificate);
    folder.write_identity(&old_own);
    let old_server = acceptor(&old.issue("localhost"), Some(&old), &[]);
    let new_server = acceptor(&new.issue("localhost"), Some(&new), &[]);
    let mut rotation = Rotation::start(&folder, &old_server).await;

    // A new certificate with the old key, half a certificate, nothing, and no file: the old files stay in use.
    type Step<'a> = (&'a dyn Fn(), &'a str);
    let steps: [Step<'_>; 5] = [
        (&|| folder.write("cert.pem", &new_own.certificate), "key.pem"),
        (&|| folder.write("cert.pem", &new_own.certificate[..200]), "cert.pem\": a section has no end"),
        (&|| folder.write("roots.pem", ""), "roots.pem\": no certificate in it"),
        (&|| std::fs::remove_file(folder.0.join("roots.pem")).unwrap(), "roots.pem\": No such file"),
        (&|| std::fs::create_dir(folder.0.join("roots.pem")).unwrap(), "roots.pem\": not a regular file any more"),
    ];
    for (step, cause) in steps {
        step();
        for _ in 0..3 {
            rotation.redial(&old_server, &old_own).await;
            rotation.end().await;
        }
        // It is logged once, and not once for each dial.
        rotation.redial(&old_server, &old_own).await;
        let logged = rotation.logged();
        assert!(matches!(&logged[..], [line] if line.starts_with(KEPT) && line.contains(cause)), "{cause}: {logged:?}");
        rotation.end().await;
    }

    // All files are new and complete.
    rotation.redial(&old_server, &old_own).await;
    std::fs::remove_dir(folder.0.join("roots.pem")).unwrap();
    folder.write("roots.pem", &new.certificate);
    folder.write_identity(&new_own);
    for _ in 0..60 {
        rotation.end().await;
        rotation.redial(&new_server, &new_own).await;
    }
    assert_eq!(rotation.logged(), Vec::<String>::new());

    // A state that was reported before is news again after a good one.
    folder.write("key.pem", &old_own.key);
    rotation.end().await;
    rotation.redial(&new_server, &new_own).await;
    assert_eq!(rotation.logged().len(), 1);
}

/// A client that made itself a new configuration for each dial would begin a whole handshake each time.
#[tokio::test]
async fn unchanged_files_keep_the_sessions_that_can_be_resumed() {
    use perconn::tokio_rustls::rustls::HandshakeKind;
    let folder = Folder::new();
    let authority = Authority::new();
    let own = authority.issue("agent");
    folder.write("roots.pem", &authority.certificate);
    folder.write_identity(&own);
    let server = acceptor(&authority.issue("localhost"), Some(&authority), &[]);
    let mut rotation = Rotation::start(&folder, &server).await;
    for round in 0..6 {
        if round == 3 {
            folder.write_identity(&authority.issue("agent"));
        }
        let mut peer = accept(&rotation.server, &server).await.unwrap();
        // The client has the session's tickets once it has read something.
        peer.write_all(b"x").await.unwrap();
        peer.flush().await.unwrap();
        assert_eq!(in_time("a byte", rotation.conn.read_u8()).await.unwrap(), b'x');
        let kind = peer.get_ref().1.handshake_kind();
        let expected = if round == 0 || round == 3 { HandshakeKind::Full } else { HandshakeKind::Resumed };
        // The first link of `start` may or may not have left a ticket.
        assert!(round == 0 || kind == Some(expected), "{round}: {kind:?}");
        drop(peer);
        rotation.end().await;
    }
}

/// A pipe can be read only once: it would hang, or be empty, the second time.
#[cfg(unix)]
#[tokio::test]
async fn file_that_is_not_regular_is_read_once() {
    let (server, authority, folder) = (Server::start().await, Authority::new(), Folder::new());
    let acceptor = acceptor(&authority.issue("localhost"), None, &[]);
    let pipe = folder.0.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let tls = Tls::new().roots_file(&pipe);
    let writer = std::thread::spawn(move || std::fs::write(pipe, authority.certificate).unwrap());
    let builder = quick(Conn::builder(("localhost", server.address.port()))).tls(tls).unwrap();
    let (conn, peer) = tokio::join!(builder.connect(), accept(&server, &acceptor));
    let mut conn = conn.unwrap();
    let mut peer = peer.unwrap();
    for _ in 0..3 {
        drop(peer);
        in_time("the end", conn.read(&mut [0])).await.unwrap_err();
        peer = accept(&server, &acceptor).await.unwrap();
    }
    writer.join().unwrap();
}

/// A dialer on its own has no logger: it hands the warning to its user.
#[tokio::test]
async fn warning_reaches_the_user_of_a_dialer_once() {
    use perconn::Dial;
    let folder = Folder::new();
    let (server, authority) = (Server::start().await, Authority::new());
    folder.write("roots.pem", &authority.certificate);
    folder.write_identity(&authority.issue("agent"));
    let acceptor = acceptor(&authority.issue("localhost"), None, &[]);
    let tcp = perconn::TcpDialer::new(("localhost", server.address.port()));
    let dialer = TlsDialer::new(tcp, folder.tls().server_name("localhost")).unwrap();
    let mut dialer = dialer.and_then(|stream| std::future::ready(Ok(stream)));
    let mut warnings = Vec::new();
    for round in 0..4 {
        if round == 1 {
            folder.write("key.pem", "");
        }
        let (stream, peer) = tokio::join!(dialer.dial(), accept(&server, &acceptor));
        drop((stream.unwrap(), peer.unwrap()));
        warnings.push(dialer.take_warning().map(|error| error.to_string()));
        assert!(dialer.take_warning().is_none());
    }
    let expected = Some(KEPT.trim_end_matches(": ").to_owned());
    assert_eq!(warnings, [None, expected, None, None]);
}

/// A dial that was dropped leaves its look at the files behind, which may be old when the next dial begins.
#[tokio::test]
async fn look_of_a_dropped_dial_is_not_the_last_one() {
    use perconn::Dial;
    let folder = Folder::new();
    let (server, old, new) = (Server::start().await, Authority::new(), Authority::new());
    folder.write("roots.pem", &old.certificate);
    folder.write_identity(&old.issue("agent-1"));
    let tcp = perconn::TcpDialer::new(("localhost", server.address.port()));
    let mut dialer = TlsDialer::new(tcp, folder.tls()).unwrap();
    tokio::select! {
        biased;
        _ = dialer.dial() => panic!("the look at the files takes time"),
        () = std::future::ready(()) => {}
    }
    // Time for that look to end.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let own = new.issue("agent-2");
    folder.write("roots.pem", &new.certificate);
    folder.write_identity(&own);
    let acceptor = acceptor(&new.issue("localhost"), Some(&new), &[]);
    let (stream, peer) = tokio::join!(dialer.dial(), accept(&server, &acceptor));
    stream.unwrap();
    peer.expect("the client's certificate is the new one");
}

/// A listener of PostgreSQL reads its files again at each attempt, and logs the ones that are not usable once.
#[tokio::test]
async fn listener_of_postgres_uses_rotated_files() {
    use perconn::postgres::{Error, Listener};
    use std::time::Duration;
    use tokio_postgres::Config;
    use tokio_postgres::config::SslMode;
    let folder = Folder::new();
    let (server, old, new) = (Server::start().await, Authority::new(), Authority::new());
    let (old_own, new_own) = (old.issue("agent-1"), new.issue("agent-2"));
    folder.write("roots.pem", &old.certificate);
    folder.write_identity(&old_own);
    let old_server = acceptor(&old.issue("localhost"), Some(&old), &[]);
    let new_server = acceptor(&new.issue("localhost"), Some(&new), &[]);
    let mut config = Config::new();
    config.host("localhost").port(server.address.port()).user("agent").ssl_mode(SslMode::Require);
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let lines = Arc::clone(&log);
    let logger = move |error: &Error| {
        if !matches!(error, Error::Connect { .. }) {
            lines.lock().unwrap().push(error.with_causes().to_string());
        }
    };
    let delay = Duration::from_millis(5);
    let builder = Listener::builder(config).tls(folder.tls()).retry_min(delay).retry_max(delay).logger(logger);
    let listener = builder.build().unwrap();
    // One attempt: TLS on request, and then the end, so that the listener tries again.
    let attempt = async |acceptor: &TlsAcceptor, sent: &Identity| {
        let mut stream = server.accept().await;
        in_time("the request", stream.read_exact(&mut [0; 8])).await.unwrap();
        stream.write_all(b"S").await.unwrap();
        let session = in_time("the handshake", acceptor.accept(stream)).await.expect("the files are those");
        let certificates = session.get_ref().1.peer_certificates().unwrap();
        assert_eq!(certificates[0], CertificateDer::from_pem_slice(sent.certificate.as_bytes()).unwrap());
        session
    };
    let session = attempt(&old_server, &old_own).await;
    folder.write("cert.pem", &new_own.certificate);
    drop(session);
    for _ in 0..3 {
        drop(attempt(&old_server, &old_own).await);
    }
    let session = attempt(&old_server, &old_own).await;
    folder.write("roots.pem", &new.certificate);
    folder.write_identity(&new_own);
    drop(session);
    for _ in 0..10 {
        drop(attempt(&new_server, &new_own).await);
    }
    let logged = std::mem::take(&mut *log.lock().unwrap());
    assert!(matches!(&logged[..], [line] if line.starts_with(KEPT) && line.contains("key.pem")), "{logged:?}");
    in_time("close", listener.close()).await;
}

/// A connection to a server that asks for a certificate and cuts each link at once, while the client's certificate changes again
/// and again. Every handshake succeeds, and each dial sends the newest certificate, or the one before if it had begun.
///
/// `PERCONN_ROTATION_SECONDS` makes it last longer.
async fn rotate_while_links_are_cut(
    tls: Tls,
    mut replace: impl FnMut(&Identity),
    authority: &Authority,
    first: &Identity,
) {
    let seconds = std::env::var("PERCONN_ROTATION_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let time = std::time::Duration::from_secs_f64(seconds);
    let server = Server::start().await;
    let acceptor = acceptor(&authority.issue("localhost"), Some(authority), &[]);
    let failures = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&failures);
    let builder = quick(Conn::builder(("localhost", server.address.port()))).on_event(move |event| {
        if let perconn::Event::DialFailed { .. } = event {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut conn = builder.tls(tls).unwrap().build().unwrap();
    let end = tokio::time::Instant::now() + time;
    let (mut allowed, mut handshakes, mut rotations) = (vec![first.certificate.clone()], 0, 0);
    // The end of each link is noticed by a read.
    let reads = tokio::spawn(async move {
        loop {
            let _ = conn.read(&mut [0]).await;
        }
    });
    while tokio::time::Instant::now() < end {
        let peer = accept(&server, &acceptor).await.expect("the handshake");
        handshakes += 1;
        let sent = peer.get_ref().1.peer_certificates().unwrap()[0].clone();
        let is_allowed = |pem: &String| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap() == sent;
        assert!(allowed.iter().rev().take(2).any(is_allowed), "an old certificate in handshake {handshakes}");
        if handshakes % 10 == 0 {
            let next = authority.issue("agent");
            replace(&next);
            allowed.push(next.certificate);
            rotations += 1;
        }
        drop(peer);
    }
    reads.abort();
    assert_eq!(failures.load(Ordering::SeqCst), 0);
    assert!(rotations > 1, "{handshakes} handshakes");
    println!("{handshakes} handshakes, {rotations} rotations in {time:?}, 0 failed");
}

#[tokio::test]
async fn certificate_in_memory_is_rotated_while_links_are_cut() {
    let authority = Authority::new();
    let first = authority.issue("agent");
    let mut tls = authority.trusted().client_certificate_pem(first.certificate.as_str(), first.key.as_str());
    let handle = tls.handle();
    let replace = |next: &Identity| {
        handle.replace_client_certificate_pem(next.certificate.as_str(), next.key.as_str()).unwrap();
    };
    rotate_while_links_are_cut(tls, replace, &authority, &first).await;
}

#[tokio::test]
async fn certificate_in_files_is_rotated_while_links_are_cut() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let first = authority.issue("agent");
    folder.write("roots.pem", &authority.certificate);
    folder.write_identity(&first);
    // Both are in one file, as two files cannot be replaced in one step.
    let both = |identity: &Identity| format!("{}{}", identity.certificate, identity.key);
    folder.write("both.pem", &both(&first));
    let path = folder.0.join("both.pem");
    let tls = authority.trusted().client_certificate_files(&path, &path);
    let replace = |next: &Identity| {
        folder.write("next.pem", &both(next));
        std::fs::rename(folder.0.join("next.pem"), &path).unwrap();
    };
    rotate_while_links_are_cut(tls, replace, &authority, &first).await;
}

#[tokio::test]
async fn roots_in_memory_are_replaced_and_what_is_not_usable_is_refused() {
    let (old, new) = (Authority::new(), Authority::new());
    let mut tls = old.trusted();
    let handle = tls.handle();
    let server = Server::start().await;
    let connect = |tls: Tls| quick(Conn::builder(("localhost", server.address.port()))).tls(tls).unwrap().connect();
    let acceptor = acceptor(&new.issue("localhost"), None, &[]);
    let (conn, _) = tokio::join!(connect(tls.clone()), accept(&server, &acceptor));
    assert_eq!(conn.unwrap_err().refused_certificate(), Some(perconn::RefusedCertificate::Server));
    handle.replace_roots_pem(new.certificate.as_str()).unwrap();
    let (conn, peer) = tokio::join!(connect(tls.clone()), accept(&server, &acceptor));
    conn.unwrap();
    peer.unwrap();

    let (one, other) = (new.issue("agent"), new.issue("agent"));
    for (what, error) in [
        ("no certificate in it", handle.replace_roots_pem("").unwrap_err()),
        ("no certificate in it", handle.replace_client_certificate_pem("", one.key.as_str()).unwrap_err()),
        (
            "keys may not be consistent",
            handle.replace_client_certificate_pem(one.certificate.as_str(), other.key.as_str()).unwrap_err(),
        ),
    ] {
        assert!(matches!(&error, Error::InvalidConfig(text) if text.to_lowercase().contains(what)), "{error}");
    }
    // Nothing has changed.
    let (conn, _) = tokio::join!(connect(tls), accept(&server, &acceptor));
    conn.unwrap();
}

#[tokio::test]
async fn token_of_the_set_up_is_fresh_in_each_dial() {
    let server = Server::start().await;
    let tokens = Arc::new(AtomicUsize::new(0));
    let fetch = Arc::clone(&tokens);
    let builder = quick(Conn::builder(server.address)).and_then(move |mut stream: TcpStream| {
        // The program's own call, such as one to a token service, on each dial.
        let token = fetch.fetch_add(1, Ordering::SeqCst);
        async move {
            stream.write_all(format!("LOGIN {token:04}\n").as_bytes()).await?;
            Ok(stream)
        }
    });
    let conn = builder.build().unwrap();
    for token in 0..5 {
        let mut peer = server.accept().await;
        let mut login = [0; 11];
        in_time("the login", peer.read_exact(&mut login)).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&login), format!("LOGIN {token:04}\n"));
    }
    drop(conn);
}
