//! The server that is listened to.

use std::error::Error as _;

use tokio_postgres::Config;

use super::Error;

/// Which server, and as whom: made from a [`tokio_postgres::Config`], a URL (`postgres://user@host/db`) or a text of
/// `key=value` pairs. A bad text is an error of `build()` and `connect()`.
#[derive(Clone, Debug)]
pub struct ServerConfig(Result<Config, String>);

impl ServerConfig {
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

/// As the methods that set a value return it.
impl From<&mut Config> for ServerConfig {
    fn from(config: &mut Config) -> Self {
        Self(Ok(config.clone()))
    }
}

impl From<&str> for ServerConfig {
    fn from(text: &str) -> Self {
        // The text itself is not shown: there may be a password in it.
        Self(text.parse().map_err(|error: tokio_postgres::Error| {
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            format!("connection string: {why}; expected \"postgres://user@host/database\" or \"host=... user=...\"")
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
