//! Channel binding: the login of PostgreSQL is bound to the certificate of the server.
//!
//! Next: `postgres`, for TLS itself.

use std::net::SocketAddr;
use std::sync::Arc;

use perconn::Tls;
use perconn::postgres::{Error, ListenerBuilder};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SignatureAlgorithm};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::helpers::{connected, on_one_and_two_threads, outage, payload, quick, terminate};
use crate::server::{DATABASE, PASSWORD, Postgres, Setup, USER};
use crate::support::in_time;

/// A self-signed certificate for the loopback address, signed by this algorithm, and its key.
fn certificate(algorithm: &'static SignatureAlgorithm) -> (String, String) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// A listener with these parameters in its URL, which trusts these certificates.
fn listener(address: SocketAddr, user: &str, parameters: &str, roots: &str) -> ListenerBuilder {
    let url = format!("postgres://{user}:{PASSWORD}@{address}/{DATABASE}?application_name=bound&{parameters}");
    quick(url).tls(Tls::new().roots_pem(roots.to_owned()))
}

/// The error of an attempt, with its causes.
async fn refusal(builder: ListenerBuilder) -> String {
    in_time("connect", builder.connect()).await.unwrap_err().with_causes().to_string()
}

#[test]
fn require_is_served_before_and_after_a_loss_by_the_hash_of_each_signature() {
    let test = "require_is_served_before_and_after_a_loss_by_the_hash_of_each_signature";
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384] {
        let (certificate, key) = certificate(algorithm);
        let Some(server) = Setup::of(test).tls(certificate.clone(), key).start() else { return };
        on_one_and_two_threads(async || {
            let mut listener = connected(listener(server.address, USER, "channel_binding=require", &certificate)).await;
            in_time("listen", listener.listen("a")).await.unwrap();
            let client = server.client().await;
            client.notify("a", "before").await.unwrap();
            assert_eq!(payload(&mut listener).await, "before");
            terminate(&client, "bound").await;
            outage(&mut listener).await;
            client.notify("a", "after").await.unwrap();
            assert_eq!(payload(&mut listener).await, "after");
            in_time("close", listener.close()).await;
        });
    }
}

/// Decrypts what a client sends to a server of the same name, and encrypts it again: it has another certificate.
async fn stand_between(server: SocketAddr, certificate: &str, key: &str, roots: &str) -> SocketAddr {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let acceptor = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_slice(roots.as_bytes()).unwrap()).unwrap();
    let connector = ClientConfig::builder().with_root_certificates(trusted).with_no_client_auth();
    let (acceptor, connector) = (TlsAcceptor::from(Arc::new(acceptor)), TlsConnector::from(Arc::new(connector)));
    let sockets = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = sockets.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = sockets.accept().await {
            let (acceptor, connector) = (acceptor.clone(), connector.clone());
            tokio::spawn(async move {
                let mut request = [0; 8];
                client.read_exact(&mut request).await?;
                client.write_all(b"S").await?;
                let mut client = acceptor.accept(client).await?;
                let mut server = TcpStream::connect(server).await?;
                server.write_all(&request).await?;
                assert_eq!(server.read_u8().await?, b'S');
                let mut server = connector.connect(ServerName::try_from("127.0.0.1").unwrap(), server).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    address
}

#[test]
fn login_through_another_certificate_is_refused_unless_binding_is_disabled() {
    let test = "login_through_another_certificate_is_refused_unless_binding_is_disabled";
    let (good, good_key) = certificate(&PKCS_ECDSA_P256_SHA256);
    let (other, other_key) = certificate(&PKCS_ECDSA_P256_SHA256);
    let Some(server) = Setup::of(test).tls(good.clone(), good_key).start() else { return };
    on_one_and_two_threads(async || {
        drop(server.client().await);
        let between = stand_between(server.address, &other, &other_key, &good).await;
        for parameters in ["channel_binding=require", "channel_binding=prefer", "sslmode=require"] {
            let error = refusal(listener(between, USER, parameters, &other)).await;
            assert!(error.contains("channel binding check failed"), "{parameters}: {error}");
        }
        let builder = listener(between, USER, "sslmode=require&channel_binding=disable", &other);
        in_time("close", in_time("connect", builder.connect()).await.unwrap().close()).await;
    });
}

#[test]
fn require_names_what_is_missing_where_it_cannot_be_served() {
    let test = "require_names_what_is_missing_where_it_cannot_be_served";
    let rules = "local all all scram-sha-256\n\
        host all trusting all trust\nhost all clear all password\nhost all hashed all md5\n\
        host all all all scram-sha-256\n";
    let (good, key) = certificate(&PKCS_ECDSA_P256_SHA256);
    let setup = Setup::of(test).tls(good.clone(), key).file("pg_hba.conf", rules.to_owned());
    let Some(server) = setup.start() else { return };
    let Some(plain) = Postgres::start(test) else { return };
    on_one_and_two_threads(async || {
        let client = server.client().await;
        let roles = format!(
            "SET password_encryption = md5;
             DROP ROLE IF EXISTS trusting, clear, hashed;
             CREATE ROLE trusting LOGIN; CREATE ROLE clear LOGIN PASSWORD '{PASSWORD}';
             CREATE ROLE hashed LOGIN PASSWORD '{PASSWORD}'"
        );
        client.batch(&roles).await.unwrap();
        for user in ["trusting", "clear", "hashed"] {
            let error = refusal(listener(server.address, user, "channel_binding=require", &good)).await;
            assert!(error.contains("did not use channel binding"), "{user}: {error}");
            let builder = listener(server.address, user, "channel_binding=prefer", &good);
            in_time("close", in_time("connect", builder.connect()).await.unwrap().close()).await;
        }
        drop(plain.client().await);
        let error = refusal(listener(plain.address, USER, "channel_binding=require", &good)).await;
        assert!(error.contains("speaks no TLS") && error.contains("channel_binding is require"), "{error}");
        let error =
            listener(plain.address, USER, "channel_binding=require&sslmode=disable", &good).build().unwrap_err();
        assert!(matches!(&error, Error::InvalidConfig(text) if text.contains("channel_binding=require")), "{error:?}");
        // Without settings for TLS, it asks for a verified server.
        let error = refusal(quick(format!("{}?channel_binding=require", server.url()))).await;
        assert!(error.contains("certificate"), "{error}");
    });
}
