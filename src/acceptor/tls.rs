//! TLS: sessions, and their handshakes, off the accept loop.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

pub(super) use self::handshakes::Entrant;
use self::handshakes::Handshakes;
pub use self::settings::ServerTls;
use super::Error;
use super::io_stream::Io;
use super::socket::Socket;
use crate::sync::Mutex;

mod handshakes;
pub(super) mod reload;
mod settings;

/// TLS at work.
pub(super) struct Sessions {
    settings: ServerTls,
    current: Mutex<Arc<ServerConfig>>,
    pub(super) handshakes: Handshakes,
    timeout: Option<Duration>,
}

impl Sessions {
    pub(super) fn new(settings: ServerTls, max: usize, timeout: Option<Duration>) -> Result<Self, Error> {
        let current = Mutex::new(settings.load()?);
        Ok(Self { settings, current, handshakes: Handshakes::new(max), timeout })
    }

    /// Takes what is in the files now, if it is good.
    fn reload(&self) -> Result<(), Error> {
        let config = self.settings.load()?;
        *self.current.lock() = config;
        Ok(())
    }

    pub(super) async fn handshake(&self, socket: Socket, entrant: &Entrant) -> io::Result<Io> {
        let config = Arc::clone(&self.current.lock());
        let deadline = async {
            match self.timeout {
                Some(limit) => sleep(limit).await,
                None => pending().await,
            }
        };
        let late = |text: String| Err(io::Error::new(io::ErrorKind::TimedOut, text));
        let outcome = tokio::select! {
            biased;
            outcome = TlsAcceptor::from(config).accept(socket) => outcome,
            () = deadline => late(format!("not done within {:?}", self.timeout.unwrap_or_default())),
            () = entrant.given_up() => late("given up for others, which could not begin".into()),
        };
        entrant.is_done();
        Ok(Io::Tls(Box::new(outcome?)))
    }
}
