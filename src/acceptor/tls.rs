//! TLS: what sessions are to be like, and their handshakes, off the accept loop.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use self::pem::Pem;
use super::io_stream::Io;
use super::shared::{Phase, Shared};
use super::socket::Socket;
use super::stats::count;
use super::{Error, Event, Overflow, Peer, connection};

mod pem;
pub(super) mod reload;

/// The settings of TLS for [`AcceptorBuilder::tls`](super::AcceptorBuilder::tls).
///
/// ```
/// use perconn::acceptor::ServerTls;
///
/// let tls = ServerTls::from_files("/etc/server/chain.pem", "/etc/server/key.pem").alpn(["irc"]);
/// ```
///
/// # New certificates without a restart
///
/// The files are looked at every five seconds ([`reload_every`](Self::reload_every)). When they have changed and then stayed
/// the same from one look to the next, they are read. If they make a whole, with a key that belongs to the certificate, new
/// sessions get them; those that are open keep what they have. If not, the old ones stay, which is told to the logger, once
/// for each change. [`Acceptor::reload_tls`](super::Acceptor::reload_tls) reads them at once.
#[derive(Clone)]
#[must_use = "they do nothing until they are given to `AcceptorBuilder::tls`"]
pub struct ServerTls {
    source: Source,
    client_roots: Vec<Pem>,
    alpn: Vec<Vec<u8>>,
    reload_every: Option<Duration>,
}

#[derive(Clone)]
enum Source {
    Pair { chain: Pem, key: Pem },
    Config(Arc<ServerConfig>),
}

impl ServerTls {
    /// A certificate from PEM files: one with the chain, the own certificate first, and one with its private key, which is not
    /// encrypted. TLS 1.2 and 1.3, no ALPN, no certificates of clients.
    pub fn from_files(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self::new(Source::Pair { chain: Pem::File(chain.into()), key: Pem::File(key.into()) })
    }

    /// The same from PEM texts, which are never read again.
    pub fn from_pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self::new(Source::Pair { chain: Pem::Text(chain.into()), key: Pem::Text(key.into()) })
    }

    /// A rustls configuration of your own. ALPN protocols, if given here, take the place of its.
    pub fn from_config(config: impl Into<Arc<ServerConfig>>) -> Self {
        Self::new(Source::Config(config.into()))
    }

    fn new(source: Source) -> Self {
        Self { source, client_roots: Vec::new(), alpn: Vec::new(), reload_every: Some(Duration::from_secs(5)) }
    }

    /// Demands of each client a certificate by one of the authorities in a PEM file. Can be called several times.
    pub fn client_roots_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.client_roots.push(Pem::File(path.into()));
        self
    }

    /// The protocols that are spoken (ALPN, RFC 7301), the preferred one first. A client that offers others only is refused.
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        self
    }

    /// How often the files are looked at. Defaults to 5 s; with `None`, only [`reload_tls`](super::Acceptor::reload_tls)
    /// does.
    pub fn reload_every(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.reload_every = interval.into();
        self
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        match self.reload_every {
            Some(Duration::ZERO) => Error::invalid("reload_every 0ns: expected more than zero, or None for never"),
            _ => Ok(()),
        }
    }

    /// The files that can change.
    fn files(&self) -> Vec<PathBuf> {
        let pair = match &self.source {
            Source::Pair { chain, key } => vec![chain, key],
            Source::Config(_) => Vec::new(),
        };
        pair.into_iter().chain(&self.client_roots).filter_map(Pem::path).collect()
    }

    /// The configuration for rustls, from what the files have in them now.
    fn load(&self) -> Result<Arc<ServerConfig>, Error> {
        let mut config = match &self.source {
            Source::Config(_) if !self.client_roots.is_empty() => {
                return Error::invalid("tls: the clients' roots belong to the rustls configuration that was given");
            }
            Source::Config(config) => ServerConfig::clone(config),
            Source::Pair { chain, key } => self.with_pair(chain, key)?,
        };
        if let Some(bad) = self.alpn.iter().find(|protocol| !(1..=255).contains(&protocol.len())) {
            return Error::invalid(format!("alpn protocol of {} bytes: expected 1 to 255 (RFC 7301)", bad.len()));
        }
        if !self.alpn.is_empty() {
            config.alpn_protocols.clone_from(&self.alpn);
        }
        Ok(Arc::new(config))
    }

    fn with_pair(&self, chain: &Pem, key: &Pem) -> Result<ServerConfig, Error> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::InvalidConfig(format!("tls: {error}")))?;
        let builder = match self.client_roots() {
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots?), provider).build();
                let wrong = |error| Error::InvalidConfig(format!("the clients' roots: {error}"));
                builder.with_client_cert_verifier(verifier.map_err(wrong)?)
            }
            None => builder.with_no_client_auth(),
        };
        let (certificates, private_key) = (chain.certificates("certificate")?, key.private_key()?);
        builder
            .with_single_cert(certificates, private_key)
            .map_err(|error| Error::InvalidConfig(format!("certificate {chain} with private key {key}: {error}")))
    }

    fn client_roots(&self) -> Option<Result<RootCertStore, Error>> {
        let read = || {
            let mut roots = RootCertStore::empty();
            for source in &self.client_roots {
                for certificate in source.certificates("the clients' roots")? {
                    let wrong = |error| Error::InvalidConfig(format!("the clients' roots {source}: {error}"));
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

/// TLS at work.
pub(super) struct Sessions {
    settings: ServerTls,
    current: Mutex<Arc<ServerConfig>>,
    handshakes: Arc<Semaphore>,
    timeout: Option<Duration>,
}

impl Sessions {
    pub(super) fn new(settings: ServerTls, max: usize, timeout: Option<Duration>) -> Result<Self, Error> {
        let current = Mutex::new(settings.load()?);
        let handshakes = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
        Ok(Self { settings, current, handshakes, timeout })
    }

    /// Takes what is in the files now, if it is good.
    fn reload(&self) -> Result<(), Error> {
        let config = self.settings.load()?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Waits for the right to a handshake.
    pub(super) async fn permit(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.handshakes).acquire_owned().await {
            Ok(permit) => permit,
            Err(_) => unreachable!("it is never closed"),
        }
    }

    async fn handshake(&self, socket: Socket) -> io::Result<Io> {
        let config = Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner));
        let handshake = TlsAcceptor::from(config).accept(socket);
        let stream = match self.timeout {
            Some(limit) => timeout(limit, handshake)
                .await
                .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("not done within {limit:?}")))),
            None => handshake.await,
        };
        Ok(Io::Tls(Box::new(stream?)))
    }
}

/// A connection from its acceptance on. Until it has an acceptor, it has the permit.
pub(super) fn serve(
    shared: Arc<Shared>,
    socket: Socket,
    peer: Peer,
    permit: OwnedSemaphorePermit,
) -> impl Future<Output = ()> + Send {
    let underway = Underway::new(&shared, permit);
    async move {
        let mut phase = shared.phase.subscribe();
        let (io, seat) = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Accepting) => return,
            ready = get_ready(&shared, socket, peer) => match ready {
                Some(ready) => ready,
                None => return,
            },
        };
        drop(underway);
        match seat {
            Some(seat) => connection::run(io, seat).await,
            None => connection::refuse(&shared, io, peer),
        }
    }
}

/// The session, and the place of it, if there is one.
async fn get_ready(shared: &Arc<Shared>, socket: Socket, peer: Peer) -> Option<(Io, Option<Arc<super::seat::Seat>>)> {
    let sessions = shared.settings.tls.as_ref()?;
    match sessions.handshake(socket).await {
        Ok(io) if shared.settings.overflow == Overflow::Wait => Some((io, Some(shared.enter_when_free(peer).await))),
        Ok(io) => Some((io, shared.enter(peer).ok())),
        Err(error) => {
            count(&shared.tally.handshakes_failed);
            shared.settings.hooks.tell(|| Event::HandshakeFailed { peer, cause: Arc::new(error) });
            None
        }
    }
}

/// A handshake, as long as it counts as one.
struct Underway {
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Underway {
    fn new(shared: &Arc<Shared>, permit: OwnedSemaphorePermit) -> Self {
        shared.tally.handshaking.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(shared), _permit: permit }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.shared.tally.handshaking.fetch_sub(1, Ordering::Relaxed);
    }
}
