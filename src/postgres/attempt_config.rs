//! The configuration of an attempt: the one that the builder was given, or what a function of the program returns for each.
//!
//! Next: [`LoginDialer`](super::login_dialer::LoginDialer), which dials with it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};

use super::connection_string::{Certificates, Understood};
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
    /// What to log in with.
    pub(super) login: LoginConfig,
    /// At least one.
    pub(super) hosts: Vec<Host>,
}

/// What to log in with.
pub(super) struct LoginConfig {
    /// For the protocol only: this module deals with TLS and the hosts itself.
    pub(super) config: Config,
    /// A standby is refused.
    pub(super) needs_primary: bool,
}

/// Makes [`Prepared`] from a configuration, for the first attempt and for later ones.
pub(super) struct Preparation {
    /// Asked before each attempt. `None`: the configuration stays as it is.
    source: Option<ConfigSource>,
    /// The last configuration, without what only the login needs: if it is the same, the hosts stay.
    place: (Config, Certificates),
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
        let understood = config.understand()?;
        let preparation = Self {
            source,
            place: place(&understood),
            has_own_hosts: dialer.is_none(),
            #[cfg(feature = "tls")]
            tls,
        };
        let hosts = match dialer {
            Some(dialer) => {
                check_binding(&understood.config)?;
                vec![Host::from_dialer(dialer)?]
            }
            None => preparation.hosts(&understood)?,
        };
        Ok((preparation, Prepared { login: for_protocol(understood), hosts }))
    }

    /// Asks the program for the configuration of an attempt. The hosts are empty if they are the same as before. `None` if there
    /// is nothing to ask.
    pub(super) async fn ask(&mut self) -> Result<Option<Prepared>, BoxError> {
        let Some(source) = &mut self.source else { return Ok(None) };
        let understood = (source.0)().await.map_err(NotConfigured)?.understand()?;
        let place = place(&understood);
        let mut hosts = Vec::new();
        if !self.has_own_hosts {
            check_binding(&understood.config)?;
        } else if place != self.place {
            hosts = self.hosts(&understood)?;
            self.place = place;
        }
        Ok(Some(Prepared { login: for_protocol(understood), hosts }))
    }

    /// The hosts of a configuration.
    fn hosts(&self, understood: &Understood) -> Result<Vec<Host>, Error> {
        #[cfg(feature = "tls")]
        let tls = hosts::tls(self.tls.as_ref(), &understood.certificates);
        #[cfg(not(feature = "tls"))]
        if let Some(wanted_by) = &understood.certificates.wanted_by {
            return Err(Error::InvalidConfig(format!("{wanted_by}: expected the feature tls of this crate")));
        }
        hosts::from_config(
            &understood.config,
            #[cfg(feature = "tls")]
            tls.as_ref(),
        )
    }
}

/// A configuration without what only the login needs.
fn place(understood: &Understood) -> (Config, Certificates) {
    let mut place = understood.config.clone();
    place.user("").password("").dbname("").options("").application_name("");
    (place, understood.certificates.clone())
}

/// Checks that a dialer of the program does not have to serve channel binding: its certificate is not known here.
fn check_binding(config: &Config) -> Result<(), Error> {
    match config.get_channel_binding() {
        ChannelBinding::Require => Err(Error::InvalidConfig(
            "channel_binding=require: expected ListenerBuilder::tls in place of a dialer of your own".into(),
        )),
        _ => Ok(()),
    }
}

/// What the protocol gets. TLS is below it here, if there is any, so that it has nothing to negotiate: it takes the stream as it
/// is from [`TlsBelow`](super::stream::TlsBelow).
fn for_protocol(understood: Understood) -> LoginConfig {
    let Understood { mut config, needs_primary, .. } = understood;
    config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    if config.get_application_name().is_none() {
        config.application_name(APPLICATION_NAME);
    }
    LoginConfig { config, needs_primary }
}

/// The name of the session, for people who look at the server's list of them.
const APPLICATION_NAME: &str = "perconn";

/// The program's function has returned an error.
#[derive(Debug, thiserror::Error)]
#[error("there is no configuration for this attempt")]
struct NotConfigured(#[source] BoxError);
