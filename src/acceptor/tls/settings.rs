//! The settings of TLS sessions.
//!
//! Next: [`super::TlsServer`], which uses them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::expiry::Validity;
use crate::acceptor::Error;
use crate::pem::Pem;

/// The settings of TLS for [`AcceptorBuilder::tls`](crate::acceptor::AcceptorBuilder::tls).
///
/// ```
/// use perconn::acceptor::ServerTls;
///
/// let tls = ServerTls::from_files("/etc/server/chain.pem", "/etc/server/key.pem").alpn(["irc"]);
/// ```
///
/// # New certificates without a restart
///
/// The acceptor looks at the files every five seconds ([`reload_every`](Self::reload_every)). It loads them once they
/// have changed and then stayed the same from one look to the next.
///
/// If they are usable and the key belongs to the certificate, new sessions get them. Open sessions keep what they
/// have. If they are not usable, the old certificates stay in use, and the logger receives an error, once for each
/// change. [`Acceptor::reload_tls`](crate::acceptor::Acceptor::reload_tls) loads the files at once.
///
/// # Certificates that expire
///
/// A certificate that has expired, or has less than 14 days and less than a quarter of its validity left, is reported: to the
/// logger as [`Error::CertificateExpires`], and to the event hook. This happens when the acceptor is built, after each reload, and
/// once a day. It counts for all certificates of the chain, and not for those in a rustls configuration of your own. Sessions go
/// on, and it is up to the client to refuse.
#[derive(Clone)]
#[must_use = "settings do nothing until they are given to `AcceptorBuilder::tls`"]
pub struct ServerTls {
    /// The certificate and its key: from files, which can be reloaded, or fixed.
    source: Source,
    /// The authorities of client certificates. Empty if clients need none.
    client_roots: Vec<Pem>,
    /// The protocols. Empty for none, or for those of the configuration.
    alpn: Vec<Vec<u8>>,
    /// `None` if only the program reloads.
    pub(super) reload_every: Option<Duration>,
}

/// Where the certificate comes from.
#[derive(Clone)]
enum Source {
    /// A chain and a private key.
    Pair {
        /// The server's certificate first, then those of its issuers.
        chain: Pem,
        /// The private key of the first certificate, unencrypted.
        key: Pem,
    },
    /// A configuration of the program.
    Config(Arc<ServerConfig>),
}

/// What the settings have become.
pub(super) struct Loaded {
    /// For rustls.
    pub(super) config: Arc<ServerConfig>,
    /// Of the certificate in it. `None` in a configuration of the program.
    pub(super) validity: Option<Validity>,
}

impl ServerTls {
    /// Takes the certificate from PEM files.
    ///
    /// `chain` has the server's certificate first, and then those of its issuers. `key` has the private key of the
    /// certificate, unencrypted. Sessions speak TLS 1.2 or 1.3, without ALPN and without client certificates, unless
    /// you set them.
    pub fn from_files(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self::new(Source::Pair { chain: Pem::File(chain.into()), key: Pem::File(key.into()) })
    }

    /// The same from PEM texts. They are never reloaded: [`reload_tls`](crate::acceptor::Acceptor::reload_tls) is an error.
    pub fn from_pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self::new(Source::Pair { chain: Pem::Text(chain.into()), key: Pem::Text(key.into()) })
    }

    /// Takes a rustls configuration of your own, which is never reloaded.
    ///
    /// Protocols given to [`alpn`](Self::alpn) replace those in it. Set the roots of client certificates in the
    /// configuration.
    pub fn from_config(config: impl Into<Arc<ServerConfig>>) -> Self {
        Self::new(Source::Config(config.into()))
    }

    /// The defaults of the other settings.
    fn new(source: Source) -> Self {
        Self { source, client_roots: Vec::new(), alpn: Vec::new(), reload_every: Some(Duration::from_secs(5)) }
    }

    /// Requires each client to have a certificate that an authority in this PEM file has issued.
    ///
    /// Call it again to add the authorities of another file. By default, clients need no certificate.
    pub fn client_roots_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.client_roots.push(Pem::File(path.into()));
        self
    }

    /// Sets the protocols of the server (ALPN, RFC 7301), the preferred one first. Defaults to none.
    ///
    /// A client that offers only other protocols is refused. A name has 1 to 255 bytes.
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        self
    }

    /// Sets how often the acceptor looks at the files. Defaults to 5 seconds.
    ///
    /// With `None`, only [`reload_tls`](crate::acceptor::Acceptor::reload_tls) loads them.
    pub fn reload_every(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.reload_every = interval.into();
        self
    }

    /// Rejects settings that cannot work.
    pub(in crate::acceptor) fn check(&self) -> Result<(), Error> {
        match self.reload_every {
            Some(Duration::ZERO) => Error::invalid("reload_every 0ns: expected more than zero, or None for never"),
            _ => Ok(()),
        }
    }

    /// Rejects a reload that could change nothing.
    pub(super) fn check_reload(&self) -> Result<(), Error> {
        if !self.files().is_empty() {
            return Ok(());
        }
        let given = match &self.source {
            Source::Pair { .. } => "as PEM in memory",
            Source::Config(_) => "by a rustls configuration",
        };
        Error::invalid(format!(
            "reload_tls: the certificate was given {given}, which cannot change: expected files, by ServerTls::from_files"
        ))
    }

    /// What to call the certificate in a report.
    pub(super) fn certificate_name(&self) -> String {
        match &self.source {
            Source::Pair { chain, .. } => chain.to_string(),
            Source::Config(_) => "of a rustls configuration".into(),
        }
    }

    /// The files that can change.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let pair = match &self.source {
            Source::Pair { chain, key } => vec![chain, key],
            Source::Config(_) => Vec::new(),
        };
        pair.into_iter().chain(&self.client_roots).filter_map(Pem::path).collect()
    }

    /// Makes the configuration for rustls from what is in the files now.
    pub(super) fn load(&self) -> Result<Loaded, Error> {
        let (mut config, validity) = match &self.source {
            Source::Config(_) if !self.client_roots.is_empty() => {
                return Error::invalid(
                    "tls: client roots beside a rustls configuration: expected them in that configuration",
                );
            }
            Source::Config(config) => (ServerConfig::clone(config), None),
            Source::Pair { chain, key } => self.with_pair(chain, key)?,
        };
        if let Some(bad) = self.alpn.iter().find(|protocol| !(1..=255).contains(&protocol.len())) {
            return Error::invalid(format!("alpn protocol of {} bytes: expected 1 to 255 (RFC 7301)", bad.len()));
        }
        if !self.alpn.is_empty() {
            config.alpn_protocols.clone_from(&self.alpn);
        }
        Ok(Loaded { config: Arc::new(config), validity })
    }

    /// A configuration with a certificate from PEM, and the validity of that.
    fn with_pair(&self, chain: &Pem, key: &Pem) -> Result<(ServerConfig, Option<Validity>), Error> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::InvalidConfig(format!("tls: {error}")))?;
        let builder = match self.client_roots() {
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots?), provider).build();
                let wrong = |error| Error::InvalidConfig(format!("client roots: {error}"));
                builder.with_client_cert_verifier(verifier.map_err(wrong)?)
            }
            None => builder.with_no_client_auth(),
        };
        let certificates = chain.certificates("certificate").map_err(Error::InvalidConfig)?;
        let private_key = key.private_key().map_err(Error::InvalidConfig)?;
        let validity = Validity::of_chain(&certificates);
        let config = builder
            .with_single_cert(certificates, private_key)
            .map_err(|error| Error::InvalidConfig(format!("certificate {chain} with private key {key}: {error}")))?;
        Ok((config, validity))
    }

    /// The authorities of client certificates. `None` if clients need none.
    fn client_roots(&self) -> Option<Result<RootCertStore, Error>> {
        let read = || {
            let mut roots = RootCertStore::empty();
            for source in &self.client_roots {
                for certificate in source.certificates("client roots").map_err(Error::InvalidConfig)? {
                    let wrong = |error| Error::InvalidConfig(format!("client roots {source}: {error}"));
                    roots.add(certificate).map_err(wrong)?;
                }
            }
            Ok(roots)
        };
        (!self.client_roots.is_empty()).then(read)
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files()).finish_non_exhaustive()
    }
}
