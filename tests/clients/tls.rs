//! TLS with rustls on top of a connection, and HTTP on top of that, against nginx.

use std::sync::Arc;

use perconn::{Session, Sessions};
use rcgen::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::http::Http;
use crate::servers::{self, RealServer, SLOW_FILE};
use crate::support::in_time;
use crate::through_kills::{AnyError, Client, on_one_and_two_threads, through_kills};

/// nginx with a certificate of its own, and a connector that trusts nothing else.
fn tls_server(test: &str) -> Option<(RealServer, TlsConnector)> {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let server = servers::nginx(test, "ssl", |folder| {
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        std::fs::write(&certificate, cert.pem()).unwrap();
        std::fs::write(&key, signing_key.serialize_pem()).unwrap();
        format!("ssl_certificate {}; ssl_certificate_key {};", certificate.display(), key.display())
    })?;
    Some((server, connector(cert.der())))
}

fn connector(certificate: &CertificateDer<'static>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    TlsConnector::from(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

async fn handshake(connector: &TlsConnector, sessions: &mut Sessions) -> Result<TlsStream<Session>, AnyError> {
    let name = ServerName::try_from("localhost")?;
    Ok(connector.connect(name, sessions.next().await?).await?)
}

struct Https(Http);

impl Client for Https {
    type Config = TlsConnector;

    async fn connect(connector: &TlsConnector, sessions: &mut Sessions) -> Result<Self, AnyError> {
        Ok(Self(Http::over(handshake(connector, sessions).await?).await?))
    }

    async fn ask(&mut self, number: u32) -> Result<(), AnyError> {
        self.0.ask(number).await
    }

    async fn ask_for_long(&mut self, kill: impl FnOnce()) -> Result<(), AnyError> {
        self.0.ask_for_long(kill).await
    }

    async fn ended(self) {
        self.0.ended().await;
    }
}

#[test]
fn https_requests_are_answered_through_kills_of_nginx() {
    let Some((server, connector)) = tls_server("https") else { return };
    on_one_and_two_threads(async || {
        for error in through_kills::<Https>(&connector, &server).await {
            let error = error.downcast_ref::<hyper::Error>().expect("an error of hyper");
            assert!(!error.is_parse() && !error.is_user(), "{error:?}");
        }
    });
}

#[tokio::test]
async fn tls_stream_that_is_cut_off_is_an_error_and_no_end() {
    let Some((server, connector)) = tls_server("tls") else { return };
    let mut sessions = server.sessions();
    for _ in 0..5 {
        // Without a length, the body would last to the end of the stream.
        let mut stream = in_time("handshake", handshake(&connector, &mut sessions)).await.unwrap();
        in_time("write", stream.write_all(b"GET /slow HTTP/1.0\r\n\r\n")).await.unwrap();
        let mut received = vec![0];
        in_time("the first byte", stream.read_exact(&mut received)).await.unwrap();
        server.kill_and_restart();
        let error = in_time("the end", stream.read_to_end(&mut received)).await.unwrap_err();
        println!("seen: {:?}: {error}", error.kind());
        assert!(received.len() < SLOW_FILE);
        // What the client still says, it does not say to the next server.
        let late = async {
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
            stream.flush().await
        };
        assert!(in_time("the late words", late).await.is_err());
    }
}
