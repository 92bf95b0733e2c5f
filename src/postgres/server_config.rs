//! The configuration of the server to listen to.
//!
//! Next: `hosts`, which turns it into dialers.

use std::fmt;

use tokio_postgres::Config;

use super::Error;
use super::connection_string::{Understood, understand};

/// The server to listen to, and the user to log in as.
///
/// It is made from a [`tokio_postgres::Config`], from a URL (`postgres://user@host/db`), or from a text of
/// `key=value` pairs. `build()` and `connect()` return an error for a text that is neither. A `Config` is used as it is. A
/// text is understood as libpq would, when the listener is built:
///
/// | setting | variable | what becomes of it |
/// |---|---|---|
/// | `host`, `hostaddr`, `port`, `dbname`, `user`, `password`, `options`, `application_name` | `PGHOST`, `PGHOSTADDR`, `PGPORT`, `PGDATABASE`, `PGUSER`, `PGPASSWORD`, `PGOPTIONS`, `PGAPPNAME` | as in libpq; without a host, it is an error |
/// | `service` | `PGSERVICE` | settings from `PGSERVICEFILE`, `~/.pg_service.conf` or `PGSYSCONFDIR` |
/// | `passfile` | `PGPASSFILE` | the password of the first host with one, from this file or `~/.pgpass`; ignored if others may read it |
/// | `sslmode` | `PGSSLMODE` | `disable`, `prefer`, `require`: see [`tls`](super::ListenerBuilder::tls); `verify-full`: `require`, also without settings for TLS; `verify-ca`: the same, so that the name is verified, too; `allow`: `prefer` |
/// | `sslrootcert`, `sslcert`, `sslkey` | `PGSSLROOTCERT`, `PGSSLCERT`, `PGSSLKEY` | files in PEM, beside the roots and in place of the client's certificate in the settings for TLS; `sslrootcert=system`: the roots of the system |
/// | `sslnegotiation`, `connect_timeout`, `tcp_user_timeout`, `keepalives`, `keepalives_idle`, `keepalives_interval`, `keepalives_count`, `load_balance_hosts` | `PGSSLNEGOTIATION`, `PGCONNECT_TIMEOUT`, `PGLOADBALANCEHOSTS` | as in libpq |
/// | `target_session_attrs` | `PGTARGETSESSIONATTRS` | `any`, `read-write`, `read-only`, `primary` as in libpq; `prefer-standby`: `any`, because a standby refuses `LISTEN`; `standby` is an error for that reason |
/// | `channel_binding` | `PGCHANNELBINDING` | as in libpq; `require` needs TLS, also without settings for it |
/// | `fallback_application_name`, `client_encoding` | | the first as in libpq; the second has to be UTF8 |
/// | `gssencmode`, `sslsni`, `sslcompression`, `krbsrvname`, `gsslib`, `gssdelegation`, `sslcertmode` | | nothing; `gssencmode=require` is an error |
///
/// A setting comes from the text, else from the service, else from the variable. Anything else is an error of `build()`, which
/// says what to write instead where that is known.
///
/// # Examples
///
/// ```
/// use perconn::postgres::Listener;
/// use perconn::postgres::tokio_postgres::Config;
///
/// let from_url = Listener::builder("postgres://agent@db.example/orders");
/// let from_pairs = Listener::builder("host=db.example user=agent dbname=orders");
///
/// let mut config = Config::new();
/// config.host("db.example").user("agent").password("secret").dbname("orders");
/// let from_config = Listener::builder(config);
/// # drop((from_url, from_pairs, from_config));
/// ```
#[derive(Clone)]
pub struct ServerConfig(Given);

/// What a program has given.
#[derive(Clone)]
enum Given {
    /// Settings. Boxed, as they are many.
    Config(Box<Config>),
    /// A text, to be understood when it is used.
    Text(String),
}

impl ServerConfig {
    /// The configuration, or the error of its text.
    pub(super) fn understand(self) -> Result<Understood, Error> {
        match self.0 {
            Given::Config(config) => Ok(Understood { config: *config, ..Understood::default() }),
            Given::Text(text) => understand(&text, &|name| std::env::var(name).ok()).map_err(Error::InvalidConfig),
        }
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Given::Config(config) => f.debug_tuple("ServerConfig").field(config).finish(),
            // There may be a password in it.
            Given::Text(_) => f.debug_tuple("ServerConfig").field(&"a text").finish(),
        }
    }
}

impl From<Config> for ServerConfig {
    fn from(config: Config) -> Self {
        Self(Given::Config(Box::new(config)))
    }
}

impl From<&Config> for ServerConfig {
    fn from(config: &Config) -> Self {
        Self(Given::Config(Box::new(config.clone())))
    }
}

/// For the setters of [`Config`], which return a mutable reference.
impl From<&mut Config> for ServerConfig {
    fn from(config: &mut Config) -> Self {
        Self(Given::Config(Box::new(config.clone())))
    }
}

impl From<&str> for ServerConfig {
    fn from(text: &str) -> Self {
        Self(Given::Text(text.to_owned()))
    }
}

impl From<String> for ServerConfig {
    fn from(text: String) -> Self {
        Self(Given::Text(text))
    }
}

impl From<&String> for ServerConfig {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}
