//! TLS: handshakes off the accept loop, and certificates that can be replaced.
//!
//! Next: [`handshakes`], which limits them, [`reload`], which replaces the certificates, and [`expiry`], which says when they end.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use self::expiry::Validity;
use self::handshakes::HandshakeLimit;
pub(super) use self::handshakes::PendingSession;
use self::settings::Loaded;
pub use self::settings::ServerTls;
use super::Error;
use super::transport::{Socket, Transport};
use crate::sync::Mutex;

pub(super) mod expiry;
mod handshakes;
pub(super) mod reload;
mod settings;

/// Makes TLS sessions, with the certificates of the moment.
pub(super) struct Handshaker {
    /// Kept to read the files again for each reload.
    settings: ServerTls,
    /// The configuration of new sessions. A leaf lock.
    current: Mutex<Arc<ServerConfig>>,
    /// Of the certificate in it. `None` if it is not known. A leaf lock.
    validity: Mutex<Option<Validity>>,
    /// Where the accept loop gets a permit for each session.
    pub(super) limit: HandshakeLimit,
    /// The limit of one handshake; `None` for no limit.
    timeout: Option<Duration>,
}

impl Handshaker {
    /// Loads the certificates for the first time.
    pub(super) fn new(settings: ServerTls, max: usize, timeout: Option<Duration>) -> Result<Self, Error> {
        let Loaded { config, validity } = settings.load()?;
        let (current, validity) = (Mutex::new(config), Mutex::new(validity));
        Ok(Self { settings, current, validity, limit: HandshakeLimit::new(max), timeout })
    }

    /// Takes what is in the files now, if it is usable.
    fn reload(&self) -> Result<(), Error> {
        let Loaded { config, validity } = self.settings.load()?;
        *self.current.lock() = config;
        *self.validity.lock() = validity;
        Ok(())
    }

    /// Makes a session, within the time limit. Fails with the kind `TimedOut` after it, and if the handshake is
    /// evicted.
    pub(super) async fn handshake(&self, socket: Socket, pending_session: &PendingSession) -> io::Result<Transport> {
        let config = Arc::clone(&self.current.lock());
        let deadline = async {
            match self.timeout {
                Some(limit) => sleep(limit).await,
                None => pending().await,
            }
        };
        let timed_out = |text: String| Err(io::Error::new(io::ErrorKind::TimedOut, text));
        let outcome = tokio::select! {
            biased;
            outcome = TlsAcceptor::from(config).accept(socket) => outcome,
            () = deadline => timed_out(format!("no handshake within {:?}", self.timeout.unwrap_or_default())),
            () = pending_session.evicted() => timed_out("the handshake was ended to make room for another".into()),
        };
        pending_session.handshake_ended();
        Ok(Transport::Tls(Box::new(outcome?)))
    }
}
