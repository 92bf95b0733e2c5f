//! TLS sessions, with certificates that can be replaced.
//!
//! Next: [`reload`], which replaces the certificates, [`expiry`], which says when they end, and [`super::handshake`], which limits
//! how long a session may take.

use std::io;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use self::expiry::Validity;
use self::settings::Loaded;
pub use self::settings::ServerTls;
use super::Error;
use super::transport::{Socket, Transport};
use crate::sync::Mutex;

pub(super) mod expiry;
pub(super) mod reload;
mod settings;

/// Makes TLS sessions, with the certificates of the moment.
pub(super) struct TlsServer {
    /// Kept to read the files again for each reload.
    settings: ServerTls,
    /// The configuration of new sessions. A leaf lock.
    current: Mutex<Arc<ServerConfig>>,
    /// Of the certificate in it. `None` if it is not known. A leaf lock.
    validity: Mutex<Option<Validity>>,
}

impl TlsServer {
    /// Loads the certificates for the first time.
    pub(super) fn new(settings: ServerTls) -> Result<Self, Error> {
        let Loaded { config, validity } = settings.load()?;
        Ok(Self { settings, current: Mutex::new(config), validity: Mutex::new(validity) })
    }

    /// Takes what is in the files now, if it is usable.
    fn reload(&self) -> Result<(), Error> {
        let Loaded { config, validity } = self.settings.load()?;
        *self.current.lock() = config;
        *self.validity.lock() = validity;
        Ok(())
    }

    /// Makes a session.
    pub(super) async fn session(&self, socket: Socket) -> io::Result<Transport> {
        let config = Arc::clone(&self.current.lock());
        Ok(Transport::Tls(Box::new(TlsAcceptor::from(config).accept(socket).await?)))
    }
}
