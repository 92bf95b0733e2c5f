//! What the tests of TLS share.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

use crate::support::in_time;
use crate::world::{client, echo, local};

/// An authority, and a folder for what it issues.
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

    /// A certificate and its key, in PEM.
    pub fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn server(&self) -> ServerTls {
        let (certificate, key) = self.issue();
        ServerTls::from_files(self.file("chain.pem", &certificate), self.file("key.pem", &key))
    }

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

pub async fn exchange(session: &mut TlsStream<TcpStream>) {
    session.write_all(b"ping").await.unwrap();
    session.flush().await.unwrap();
    let mut answer = [0; 4];
    in_time("an echo", session.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"ping");
}

pub async fn session_rest(session: &mut TlsStream<TcpStream>) -> io::Result<String> {
    let mut text = String::new();
    in_time("the end of the session", session.read_to_string(&mut text)).await?;
    Ok(text)
}

pub fn with(tls: ServerTls) -> AcceptorBuilder {
    local().tls(tls).handler(echo)
}
