//! A certificate authority, and other helpers that the tests of TLS share.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use perconn::acceptor::{Acceptor, AcceptorBuilder, ServerTls};
use perconn::tokio_rustls::TlsConnector;
use perconn::tokio_rustls::client::TlsStream;
use perconn::tokio_rustls::rustls::crypto::ring;
use perconn::tokio_rustls::rustls::pki_types::pem::PemObject;
use perconn::tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use perconn::tokio_rustls::rustls::{ClientConfig, RootCertStore};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{client, echo, local};
use crate::support::in_time;

/// A certificate authority, and a folder for its files.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: String,
    pub folder: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
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

    /// Issues a certificate for `localhost`; returns it and its key, in PEM.
    pub fn issue(&self) -> (String, String) {
        self.issue_with(|_| {})
    }

    /// The same for a certificate that is valid from `since` days ago and for `days` days from now.
    pub fn issue_valid(&self, since: u64, days: i64) -> (String, String) {
        const DAY: Duration = Duration::from_secs(86_400);
        let (now, span) = (SystemTime::now(), DAY * u32::try_from(days.abs()).unwrap());
        self.issue_with(|params| {
            params.not_before = (now - DAY * u32::try_from(since).unwrap()).into();
            params.not_after = if days < 0 { now - span } else { now + span }.into();
        })
    }

    fn issue_with(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        change(&mut params);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// Writes a file in the folder.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Settings with a new certificate.
    pub fn server(&self) -> ServerTls {
        let (certificate, key) = self.issue();
        ServerTls::from_files(self.file("chain.pem", &certificate), self.file("key.pem", &key))
    }

    /// A client that trusts the authority.
    pub fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    pub async fn session(&self, acceptor: &Acceptor) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        in_time("a handshake", self.connector().connect(name, client(acceptor).await)).await
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// One request and its echo.
pub async fn exchange(session: &mut TlsStream<TcpStream>) {
    session.write_all(b"ping").await.unwrap();
    session.flush().await.unwrap();
    let mut answer = [0; 4];
    in_time("an echo", session.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"ping");
}

/// Everything until the end of the session.
pub async fn session_rest(session: &mut TlsStream<TcpStream>) -> io::Result<String> {
    let mut text = String::new();
    in_time("the end of the session", session.read_to_string(&mut text)).await?;
    Ok(text)
}

/// An acceptor that echoes over TLS.
pub fn with(tls: ServerTls) -> AcceptorBuilder {
    local().tls(tls).handler(echo)
}
