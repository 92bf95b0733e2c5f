//! TLS beneath a connection, against a real TLS server on real sockets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Server, in_time, quick, reported_generation};
use perconn::tokio_rustls::TlsAcceptor;
use perconn::tokio_rustls::rustls::crypto::ring;
use perconn::tokio_rustls::rustls::pki_types::pem::PemObject;
use perconn::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use perconn::tokio_rustls::rustls::server::WebPkiClientVerifier;
use perconn::tokio_rustls::rustls::{RootCertStore, ServerConfig};
use perconn::tokio_rustls::server::TlsStream;
use perconn::{Builder, Conn, Dial, Error, Tls, TlsDialer};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A certificate and its key, in PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// A certificate authority. Each test makes its own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    pub fn issue(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub fn trusted(&self) -> Tls {
        Tls::new().roots_pem(self.certificate.as_str())
    }
}

/// The server's side of TLS.
pub fn acceptor(identity: &Identity, clients: Option<&Authority>, alpn: &[&str]) -> TlsAcceptor {
    TlsAcceptor::from(Arc::new(server_config(identity, clients, alpn)))
}

/// The configuration of [`acceptor`].
pub fn server_config(identity: &Identity, clients: Option<&Authority>, alpn: &[&str]) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

pub async fn accept(server: &Server, acceptor: &TlsAcceptor) -> io::Result<TlsStream<TcpStream>> {
    let stream = server.accept().await;
    // The session's tickets would delay what the test writes.
    stream.set_nodelay(true).unwrap();
    in_time("the server's handshake", acceptor.accept(stream)).await
}

fn client(address: SocketAddr, tls: Tls) -> Builder<TlsDialer> {
    quick(Conn::builder(("localhost", address.port()))).tls(tls).unwrap()
}

/// The cause of the failed first dial.
pub async fn dial_failure(builder: Builder<impl Dial>) -> io::Error {
    match in_time("connect", builder.connect()).await {
        Err(Error::DialFailure { source, .. }) => source,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("expected a failed dial, but it connected"),
    }
}

pub fn invalid<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(error @ Error::InvalidConfig(_)) => error.to_string(),
        Err(other) => panic!("expected InvalidConfig: {other:?}"),
        Ok(_) => panic!("expected InvalidConfig, got a builder"),
    }
}

#[tokio::test]
async fn each_link_is_a_session_of_its_own() {
    let (server, authority) = (Server::start().await, Authority::new());
    let acceptor = acceptor(&authority.issue("localhost"), None, &[]);
    let (conn, peer) = tokio::join!(client(server.address, authority.trusted()).connect(), accept(&server, &acceptor));
    let (mut conn, mut peer) = (conn.unwrap(), peer.unwrap());
    for generation in 1..=5 {
        in_time("write", conn.write_all(b"ping")).await.unwrap();
        conn.flush().await.unwrap();
        let mut bytes = [0; 4];
        in_time("ping", peer.read_exact(&mut bytes)).await.unwrap();
        peer.write_all(b"pong").await.unwrap();
        peer.flush().await.unwrap();
        in_time("pong", conn.read_exact(&mut bytes)).await.unwrap();
        assert_eq!((&bytes, conn.generation()), (b"pong", generation));
        // The server alternately closes cleanly and as if it had been killed.
        if generation % 2 == 0 {
            peer.shutdown().await.unwrap();
            assert_eq!(in_time("the end", conn.read(&mut bytes)).await.unwrap(), 0);
        } else {
            drop(peer);
            let error = in_time("the end", conn.read(&mut bytes)).await.unwrap_err();
            assert_eq!((error.kind(), reported_generation(&error)), (io::ErrorKind::UnexpectedEof, generation));
        }
        peer = accept(&server, &acceptor).await.unwrap();
    }
}

#[tokio::test]
async fn login_runs_within_the_session() {
    let (server, authority) = (Server::start().await, Authority::new());
    let acceptor = acceptor(&authority.issue("localhost"), None, &[]);
    let builder = client(server.address, authority.trusted()).and_then(|mut stream| async move {
        stream.write_all(b"LOGIN").await?;
        stream.read_exact(&mut [0; 2]).await?;
        Ok(stream)
    });
    let serve = async {
        let mut peer = accept(&server, &acceptor).await.unwrap();
        let mut login = [0; 5];
        peer.read_exact(&mut login).await.unwrap();
        peer.write_all(b"OK").await.unwrap();
        login
    };
    let (conn, login) = tokio::join!(builder.connect(), serve);
    conn.unwrap();
    assert_eq!(&login, b"LOGIN");
}

#[tokio::test]
async fn certificate_of_another_authority_is_a_failed_dial_that_says_so() {
    let (server, authority) = (Server::start().await, Authority::new());
    let acceptor = acceptor(&authority.issue("localhost"), None, &[]);
    let stranger = Authority::new();
    let (error, peer) =
        tokio::join!(dial_failure(client(server.address, stranger.trusted())), accept(&server, &acceptor));
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    assert!(peer.is_err());
    // The same holds for the roots of the system, if it has any.
    if let Ok(builder) = quick(Conn::builder(("localhost", server.address.port()))).tls(Tls::new()) {
        let (error, _) = tokio::join!(dial_failure(builder), accept(&server, &acceptor));
        assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    }
}

#[tokio::test]
async fn certificate_for_another_name_is_a_failed_dial_that_says_so() {
    let (server, authority) = (Server::start().await, Authority::new());
    let acceptor = acceptor(&authority.issue("other.example"), None, &[]);
    let (error, _) =
        tokio::join!(dial_failure(client(server.address, authority.trusted())), accept(&server, &acceptor));
    assert!(error.to_string().contains("other.example"), "{error}");
    // With that name in `server_name`, the certificate is right.
    let named = client(server.address, authority.trusted().server_name("other.example"));
    let (conn, peer) = tokio::join!(named.connect(), accept(&server, &acceptor));
    assert_eq!(peer.unwrap().get_ref().1.server_name(), Some("other.example"));
    conn.unwrap();
}

#[tokio::test]
async fn ip_address_is_a_server_name() {
    let (server, authority) = (Server::start().await, Authority::new());
    let acceptor = acceptor(&authority.issue("127.0.0.1"), None, &[]);
    let builder = server.client().tls(authority.trusted()).unwrap();
    let (conn, peer) = tokio::join!(builder.connect(), accept(&server, &acceptor));
    conn.unwrap();
    peer.unwrap();
}

#[tokio::test]
async fn client_certificate_is_sent_on_request() {
    let (server, authority) = (Server::start().await, Authority::new());
    let acceptor = acceptor(&authority.issue("localhost"), Some(&authority), &[]);
    let own = authority.issue("agent-7");
    let tls = authority.trusted().client_certificate_pem(own.certificate.as_str(), own.key.as_str());
    let (conn, peer) = tokio::join!(client(server.address, tls).connect(), accept(&server, &acceptor));
    let peer = peer.unwrap();
    let sent = &peer.get_ref().1.peer_certificates().unwrap()[0];
    assert_eq!(sent, &CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap());
    conn.unwrap();
    // Without one, the server refuses, and the first read of the link fails.
    let (conn, peer) = tokio::join!(client(server.address, authority.trusted()).connect(), accept(&server, &acceptor));
    assert!(peer.is_err());
    let error = in_time("read", conn.unwrap().read(&mut [0])).await.unwrap_err();
    assert!(Error::of(&error).is_some(), "{error:?}");
}

#[tokio::test]
async fn alpn_protocol_is_negotiated() {
    let (server, authority) = (Server::start().await, Authority::new());
    let acceptor = acceptor(&authority.issue("localhost"), None, &["http/1.1", "irc"]);
    let offer = |protocols: &[&str]| client(server.address, authority.trusted().alpn(protocols));
    let (conn, _peer) = tokio::join!(offer(&["irc", "xmpp"]).connect(), accept(&server, &acceptor));
    let conn = conn.unwrap();
    assert_eq!(conn.get_ref().unwrap().get_ref().1.alpn_protocol(), Some(&b"irc"[..]));
    let (error, _) = tokio::join!(dial_failure(offer(&["xmpp"])), accept(&server, &acceptor));
    assert!(error.to_string().to_lowercase().contains("protocol"), "{error}");
}

#[tokio::test]
async fn server_that_speaks_no_tls_is_a_failed_dial() {
    let (server, authority) = (Server::start().await, Authority::new());
    let serve = async {
        let mut peer = server.accept().await;
        peer.write_all(b"220 mail.example ESMTP, at your service\r\n").await.unwrap();
        peer
    };
    let (error, _peer) = tokio::join!(dial_failure(client(server.address, authority.trusted())), serve);
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
}

#[tokio::test]
async fn dial_timeout_limits_the_handshake() {
    let (server, authority) = (Server::start().await, Authority::new());
    let builder = client(server.address, authority.trusted()).dial_timeout(Duration::from_millis(50));
    // The server's kernel accepts the connection, and the server sends nothing.
    let error = dial_failure(builder).await;
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn write_fails_when_the_peers_close_has_arrived() {
    let (server, authority) = (Server::start().await, Authority::new());
    let acceptor = acceptor(&authority.issue("localhost"), None, &[]);
    let (conn, peer) = tokio::join!(client(server.address, authority.trusted()).connect(), accept(&server, &acceptor));
    let mut conn = conn.unwrap();
    let mut peer = peer.unwrap();
    peer.shutdown().await.unwrap();
    // The close has arrived once the socket says so.
    let socket = conn.get_ref().unwrap().get_ref().0;
    in_time("the end has arrived", async {
        while !perconn::TcpDialer::is_closed(socket) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let error = in_time("write", conn.write_all(b"lost?")).await.unwrap_err();
    assert_eq!(reported_generation(&error), 1);
}

#[tokio::test]
async fn socket_options_apply_to_the_socket_below() {
    let (server, authority) = (Server::start().await, Authority::new());
    let acceptor = acceptor(&authority.issue("localhost"), None, &[]);
    let builder = client(server.address, authority.trusted()).nodelay(true).keepalive(Duration::from_secs(9));
    let (conn, _peer) = tokio::join!(builder.connect(), accept(&server, &acceptor));
    assert!(conn.unwrap().get_ref().unwrap().get_ref().0.nodelay().unwrap());
}

#[tokio::test]
async fn files_that_are_missing_empty_or_not_pem_are_named() {
    let folder = std::env::temp_dir().join(format!("perconn-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let authority = Authority::new();
    let own = authority.issue("agent");
    let file = |name: &str, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (missing, empty) = (folder.join("missing.pem"), file("empty.pem", ""));
    let text = file("notes.txt", "to whom it may concern\n");
    let torn = file("torn.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let not_der = file("not-der.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let (good, key) = (file("good.pem", &own.certificate), file("key.pem", &own.key));
    let stranger = file("stranger.pem", &authority.issue("other").key);
    let build = |tls: Tls| invalid(Conn::builder("host.example:1").tls(tls));
    let roots = [
        (&missing, "No such file"),
        (&empty, "no certificate in it; expected PEM"),
        (&text, "no certificate in it; expected PEM"),
        (&torn, "a section has no end; expected PEM"),
        (&not_der, "invalid peer certificate"),
    ];
    for (path, why) in roots {
        let text = build(Tls::new().roots_file(path));
        assert!(text.contains(path.to_str().unwrap()) && text.contains(why), "{text}");
    }
    let certificate = authority.trusted().client_certificate_files(&empty, &key);
    assert!(build(certificate).contains("empty.pem\": no certificate in it"));
    let no_key = build(authority.trusted().client_certificate_files(&good, &good));
    assert!(no_key.contains("private key") && no_key.contains("good.pem\": no private key in it"), "{no_key}");
    let mismatch = build(authority.trusted().client_certificate_files(&good, &stranger));
    assert!(mismatch.contains("good.pem") && mismatch.contains("stranger.pem"), "{mismatch}");
    // An error never quotes a PEM text, which may be a secret.
    let secret = build(authority.trusted().client_certificate_pem(own.certificate.as_str(), "secret"));
    assert!(secret.contains("a text of 6 bytes") && !secret.contains("secret"), "{secret}");
    // A key without its line ends is still not quoted.
    let key_in_one_line = own.key.replace('\n', " ");
    for key in [key_in_one_line.as_str(), &key_in_one_line.replace("-----END", "+++++END")] {
        let text = build(authority.trusted().client_certificate_pem(own.certificate.as_str(), key));
        assert!(text.contains("expected PEM") && text.len() < 150, "{text}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn invalid_server_names_are_refused() {
    let authority = Authority::new();
    for name in ["", "two words", "a..b", "https://host.example", "host.example:443"] {
        let text = invalid(Conn::builder("host.example:1").tls(authority.trusted().server_name(name)));
        assert!(text.contains(&format!("{name:?}")), "{text}");
    }
    let text = invalid(Conn::builder("host.example:1").tls(authority.trusted().alpn([""])));
    assert!(text.contains("alpn protocol of 0 bytes"), "{text}");
    let many = (0..400).map(|number| format!("{number:0200}"));
    let text = invalid(Conn::builder("host.example:1").tls(authority.trusted().alpn(many)));
    assert!(text.contains("alpn protocols of 80400 bytes in all"), "{text}");
    // The error names what is wrong with the address, too.
    let text = invalid(Conn::builder("host.example").tls(authority.trusted()));
    assert!(text.contains("it has no port") && text.contains("Tls::server_name"), "{text}");
}
