//! The configuration of the server to listen to.
//!
//! Next: `hosts`, which turns it into dialers.

use std::error::Error as _;

use tokio_postgres::Config;

use super::Error;

/// The server to listen to, and the user to log in as.
///
/// It is made from a [`tokio_postgres::Config`], from a URL (`postgres://user@host/db`), or from a text of
/// `key=value` pairs. `build()` and `connect()` return an error for a text that is neither.
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
#[derive(Clone, Debug)]
pub struct ServerConfig(Result<Config, String>);

impl ServerConfig {
    /// The configuration, or the error of its text.
    pub(super) fn into_config(self) -> Result<Config, Error> {
        self.0.map_err(Error::InvalidConfig)
    }
}

impl From<Config> for ServerConfig {
    fn from(config: Config) -> Self {
        Self(Ok(config))
    }
}

impl From<&Config> for ServerConfig {
    fn from(config: &Config) -> Self {
        Self(Ok(config.clone()))
    }
}

/// For the setters of [`Config`], which return a mutable reference.
impl From<&mut Config> for ServerConfig {
    fn from(config: &mut Config) -> Self {
        Self(Ok(config.clone()))
    }
}

impl From<&str> for ServerConfig {
    fn from(text: &str) -> Self {
        // The text itself is not shown: there may be a password in it.
        Self(text.parse().map_err(|error: tokio_postgres::Error| {
            let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            format!("connection string: {reason}; expected \"postgres://user@host/database\" or \"host=... user=...\"")
        }))
    }
}

impl From<String> for ServerConfig {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&String> for ServerConfig {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}
