//! The configuration of an attempt: the one that the builder was given, or what a function of the program returns for each.
//!
//! Next: [`LoginDialer`](super::login_dialer::LoginDialer), which dials with it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::hosts::{self, Host};
use super::login::BoxError;
use super::{Error, ServerConfig};

/// A function of the program that returns the configuration of each attempt.
pub(super) struct ConfigSource(Box<dyn FnMut() -> Configured + Send>);

/// The future of a configuration.
type Configured = Pin<Box<dyn Future<Output = Result<ServerConfig, BoxError>> + Send>>;

impl ConfigSource {
    /// Boxes the program's function.
    pub(super) fn new<F, T, C, E>(mut source: F) -> Self
    where
        F: FnMut() -> T + Send + 'static,
        T: Future<Output = Result<C, E>> + Send + 'static,
        C: Into<ServerConfig>,
        E: Into<BoxError>,
    {
        Self(Box::new(move || {
            let configured = source();
            Box::pin(async move { configured.await.map(Into::into).map_err(Into::into) })
        }))
    }
}

impl fmt::Debug for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConfigSource")
    }
}

/// What to log in with, and where.
pub(super) struct Prepared {
    /// For the protocol only: this module deals with TLS and the hosts itself.
    pub(super) config: Config,
    /// At least one.
    pub(super) hosts: Vec<Host>,
}

/// Makes [`Prepared`] from a configuration, for the first attempt and for later ones.
pub(super) struct Preparation {
    /// Asked before each attempt. `None`: the configuration stays as it is.
    source: Option<ConfigSource>,
    /// The last configuration, without what only the login needs: if it is the same, the hosts stay.
    place: Config,
    /// The hosts are those of the configuration, and not the program's dialer.
    has_own_hosts: bool,
    /// Used over TCP, as `sslmode` says.
    #[cfg(feature = "tls")]
    tls: Option<crate::Tls>,
}

impl Preparation {
    /// Checks the configuration of a builder.
    pub(super) fn new(
        config: ServerConfig,
        source: Option<ConfigSource>,
        dialer: Option<crate::dial::BoxedDialer>,
        #[cfg(feature = "tls")] tls: Option<crate::Tls>,
    ) -> Result<(Self, Prepared), Error> {
        let config = config.into_config()?;
        hosts::check(&config)?;
        let mut preparation = Self {
            source,
            place: place(&config),
            has_own_hosts: dialer.is_none(),
            #[cfg(feature = "tls")]
            tls,
        };
        let hosts = match dialer {
            Some(dialer) => vec![Host::from_dialer(dialer)?],
            None => preparation.hosts(&config)?,
        };
        preparation.place = place(&config);
        Ok((preparation, Prepared { config: for_protocol(config), hosts }))
    }

    /// Asks the program for the configuration of an attempt. The hosts are empty if they are the same as before. `None` if there
    /// is nothing to ask.
    pub(super) async fn ask(&mut self) -> Result<Option<Prepared>, BoxError> {
        let Some(source) = &mut self.source else { return Ok(None) };
        let config = (source.0)().await.map_err(NotConfigured)?.into_config()?;
        hosts::check(&config)?;
        let place = place(&config);
        let mut hosts = Vec::new();
        if self.has_own_hosts && place != self.place {
            hosts = self.hosts(&config)?;
            self.place = place;
        }
        Ok(Some(Prepared { config: for_protocol(config), hosts }))
    }

    /// The hosts of a configuration.
    fn hosts(&self, config: &Config) -> Result<Vec<Host>, Error> {
        hosts::from_config(
            config,
            #[cfg(feature = "tls")]
            self.tls.as_ref(),
        )
    }
}

/// A configuration without what only the login needs.
fn place(config: &Config) -> Config {
    let mut place = config.clone();
    place.user("").password("").dbname("").options("").application_name("");
    place
}

/// What the protocol gets. TLS is below it here, so that it has nothing to negotiate.
fn for_protocol(mut config: Config) -> Config {
    config.ssl_mode(SslMode::Disable);
    if config.get_application_name().is_none() {
        config.application_name(APPLICATION_NAME);
    }
    config
}

/// The name of the session, for people who look at the server's list of them.
const APPLICATION_NAME: &str = "perconn";

/// The program's function has returned an error.
#[derive(Debug, thiserror::Error)]
#[error("there is no configuration for this attempt")]
struct NotConfigured(#[source] BoxError);
