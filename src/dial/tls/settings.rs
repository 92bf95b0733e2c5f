//! The settings of TLS.
//!
//! Next: `src/pem.rs`, which reads the files.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::client::{ResolvesClientCert, WantsClientCert};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, ConfigBuilder, RootCertStore};

use super::TlsHandle;
use crate::Error;
use crate::pem::Pem;

/// The settings of TLS for [`Builder::tls`](crate::Builder::tls).
///
/// # New certificates without a restart
///
/// Files are read and checked by `Builder::tls`, and read again at each dial, off the runtime's threads. If they have
/// changed and are usable, this dial and all later ones use them. An open link keeps what it has.
///
/// If they have changed and are not usable, the old ones stay in use, and the connection's logger gets an
/// [`Error::CertificatesKept`], once for each such change: a file is missing or has no certificate, or the key does not
/// belong to the certificate. A file that is written in place can be seen half-written. To replace it in one step,
/// write another file and rename it.
///
/// PEM texts change through a [`handle`](Self::handle). The system's roots, and files that are not regular (pipes) are read only
/// once. So is a configuration of [`from_config`](Self::from_config).
///
/// ```
/// use perconn::Tls;
///
/// let tls = Tls::new()
///     .roots_file("/etc/ssl/private-ca.pem")
///     .client_certificate_files("/etc/agent/cert.pem", "/etc/agent/key.pem")
///     .server_name("gateway.internal");
/// ```
#[derive(Clone, Default)]
#[must_use = "it does nothing until it is passed to `Builder::tls`"]
#[doc(alias("ssl", "rustls", "https", "certificate"))]
pub struct Tls {
    /// The program's own configuration, which replaces `roots` and `client`. `None`: one is built.
    config: Option<Arc<ClientConfig>>,
    /// Trusted roots; empty: the system's.
    roots: Vec<Pem>,
    /// The system's roots, once they were read.
    system_roots: Option<Arc<RootCertStore>>,
    /// The client's certificate chain and its private key.
    client: Option<(Pem, Pem)>,
    /// Chooses the client's certificate in each handshake, in place of `client`.
    resolver: Option<Arc<dyn ResolvesClientCert>>,
    /// Replaces roots and client, if the program has asked for a handle.
    handle: Option<TlsHandle>,
    /// Protocols in order of preference. Empty for none, or for those of `config`.
    alpn: Vec<Vec<u8>>,
    /// The name that the certificate must be for. `None`: the host of the address that is dialed.
    server_name: Option<String>,
}

impl Tls {
    /// The defaults: TLS 1.2 and 1.3, the roots that the operating system trusts, no client certificate, no ALPN, and
    /// the host of the address that is dialed as server name.
    ///
    /// The environment variables `SSL_CERT_FILE` and `SSL_CERT_DIR` override where the system's roots are read from.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses your own rustls configuration.
    ///
    /// Set roots and client certificate in it: setting them here as well, or a [`handle`](Self::handle), is an error. ALPN protocols given here replace
    /// those of the configuration.
    pub fn from_config(config: impl Into<Arc<ClientConfig>>) -> Self {
        Self { config: Some(config.into()), ..Self::default() }
    }

    /// Trusts the certificates in a PEM file instead of the system's. Each call adds a file.
    pub fn roots_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots.push(Pem::File(path.into()));
        self
    }

    /// Trusts the certificates in a PEM text instead of the system's. Each call adds a text.
    pub fn roots_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots.push(Pem::Text(pem.into()));
        self
    }

    /// Sends a client certificate to a server that asks for one (mutual TLS).
    ///
    /// Both are PEM files: the chain with the client's own certificate first, and its private key, not encrypted.
    #[doc(alias("mtls", "mutual_tls", "client_auth"))]
    pub fn client_certificate_files(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.client = Some((Pem::File(chain.into()), Pem::File(key.into())));
        self
    }

    /// [`client_certificate_files`](Self::client_certificate_files), from PEM texts.
    pub fn client_certificate_pem(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.client = Some((Pem::Text(chain.into()), Pem::Text(key.into())));
        self
    }

    /// Asks `resolver` for the client certificate in each handshake: for keys in a hardware module, or a certificate for each
    /// server.
    ///
    /// It replaces the other client certificates; setting both is an error. It runs within the dial, on a thread of the runtime:
    /// it must not block.
    pub fn client_certificate_resolver(mut self, resolver: Arc<dyn ResolvesClientCert>) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// A handle to replace the roots and the client certificate later, while connections use these settings.
    ///
    /// All clones of these settings made after this call share it.
    #[doc(alias("rotate", "reload", "renew"))]
    pub fn handle(&mut self) -> TlsHandle {
        self.handle.get_or_insert_default().clone()
    }

    /// The protocols to offer (ALPN, RFC 7301), the preferred one first. Each has 1 to 255 bytes.
    ///
    /// A server that knows none of them may fail the handshake or go on without one. The stream's
    /// `get_ref().1.alpn_protocol()` returns the server's choice. Defaults to none.
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        self
    }

    /// The DNS name or IP address that the server's certificate must be for.
    ///
    /// Defaults to the host of the address that is dialed. If you set it, it is the name of every server, also with
    /// several [`addresses`](crate::Builder::addresses).
    #[doc(alias("sni", "domain"))]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Sets the server name if the program has set none.
    #[cfg(feature = "postgres")]
    pub(crate) fn server_name_or(mut self, name: &str) -> Self {
        self.server_name.get_or_insert_with(|| name.to_owned());
        self
    }

    /// The server name that the program has set.
    pub(super) fn given_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The same settings with what is in the files now. It may block.
    pub(super) fn snapshot(&self) -> Self {
        let mut copy = self.clone();
        let replaced = self.handle.as_ref().map(TlsHandle::replaced).unwrap_or_default();
        if let Some(roots) = replaced.roots {
            copy.roots = vec![roots];
        }
        if let Some(client) = replaced.client {
            copy.client = Some(client);
        }
        copy.roots.iter_mut().for_each(|pem| *pem = pem.snapshot());
        copy.client = copy.client.map(|(chain, key)| (chain.snapshot(), key.snapshot()));
        copy
    }

    /// Whether a later snapshot can differ from this one.
    pub(super) fn can_change(&self) -> bool {
        let client = self.client.iter().flat_map(|(chain, key)| [chain, key]);
        self.handle.is_some() || self.roots.iter().chain(client).any(Pem::can_change)
    }

    /// Whether the files were the same in both snapshots.
    pub(super) fn has_same_files(&self, other: &Self) -> bool {
        self.roots == other.roots && self.client == other.client
    }

    /// The configuration for rustls.
    pub(super) fn config(&mut self) -> Result<ClientConfig, Error> {
        let mut config = match &self.config {
            Some(config) => {
                let is_set = !self.roots.is_empty() || self.client.is_some() || self.resolver.is_some();
                if is_set || self.handle.is_some() {
                    let text =
                        "tls: expected roots and client certificate within the rustls configuration that was given";
                    return Err(Error::InvalidConfig(text.into()));
                }
                ClientConfig::clone(config)
            }
            None => self.build()?,
        };
        if !self.alpn.is_empty() {
            if let Some(bad) = self.alpn.iter().find(|protocol| !(1..=255).contains(&protocol.len())) {
                let text = format!("alpn protocol of {} bytes: expected 1 to 255 (RFC 7301)", bad.len());
                return Err(Error::InvalidConfig(text));
            }
            let length: usize = self.alpn.iter().map(|protocol| 1 + protocol.len()).sum();
            if length > usize::from(u16::MAX) {
                let text = format!("alpn protocols of {length} bytes in all: expected at most 65535 (RFC 7301)");
                return Err(Error::InvalidConfig(text));
            }
            config.alpn_protocols.clone_from(&self.alpn);
        }
        Ok(config)
    }

    /// A configuration from the roots and the client certificate.
    fn build(&mut self) -> Result<ClientConfig, Error> {
        let roots = match (&self.roots[..], &self.system_roots) {
            ([], Some(roots)) => Arc::clone(roots),
            ([], None) => Arc::clone(self.system_roots.insert(Arc::new(system_roots()?))),
            (given, _) => Arc::new(given_roots(given)?),
        };
        let builder = with_roots(roots)?;
        match (&self.client, &self.resolver) {
            (None, None) => Ok(builder.with_no_client_auth()),
            (None, Some(resolver)) => Ok(builder.with_client_cert_resolver(Arc::clone(resolver))),
            (Some((chain, key)), None) => with_client(builder, chain, key),
            (Some((chain, _)), Some(_)) => {
                let text =
                    format!("client certificate {chain}: expected either it or a resolver of client certificates");
                Err(Error::InvalidConfig(text))
            }
        }
    }
}

/// A configuration that is complete but for the client's certificate.
type WithoutClient = ConfigBuilder<ClientConfig, WantsClientCert>;

/// Begins a configuration.
fn with_roots(roots: Arc<RootCertStore>) -> Result<WithoutClient, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions();
    Ok(builder.map_err(|error| Error::InvalidConfig(format!("tls: {error}")))?.with_root_certificates(roots))
}

/// Completes a configuration with a client's certificate and its key.
fn with_client(builder: WithoutClient, chain: &Pem, key: &Pem) -> Result<ClientConfig, Error> {
    let certificates = chain.certificates("client certificate").map_err(Error::InvalidConfig)?;
    let private_key = key.private_key().map_err(Error::InvalidConfig)?;
    builder
        .with_client_auth_cert(certificates, private_key)
        .map_err(|error| Error::InvalidConfig(format!("client certificate {chain} with private key {key}: {error}")))
}

/// Checks that there is a certificate and the key that belongs to it.
pub(super) fn check_client(chain: &Pem, key: &Pem) -> Result<(), Error> {
    with_client(with_roots(Arc::new(RootCertStore::empty()))?, chain, key).map(drop)
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// The roots that the operating system trusts; at least one.
fn system_roots() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some systems trust certificates that rustls cannot parse; those are left out.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(roots);
    }
    let reason = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
    Err(Error::InvalidConfig(format!("the system's root certificates: {reason}; expected some, or Tls::roots_file")))
}

/// The roots from the files and texts of the program.
pub(super) fn given_roots(sources: &[Pem]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for source in sources {
        for certificate in source.certificates("root certificates").map_err(Error::InvalidConfig)? {
            let invalid = |error| Error::InvalidConfig(format!("root certificates {source}: {error}"));
            roots.add(certificate).map_err(invalid)?;
        }
    }
    Ok(roots)
}
