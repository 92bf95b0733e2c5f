//! The name that a server's certificate must be for.
//!
//! Next: [`TlsDialer`](super::TlsDialer), which verifies each server by its name.

use tokio_rustls::rustls::pki_types::ServerName;

use crate::{Address, Error};

/// Where the server's name of each dial comes from.
#[derive(Clone, Debug)]
pub(super) enum ServerNames {
    /// The program has set it. It is the same for all dials.
    Given(ServerName<'static>),
    /// It is the host of the address that is dialed.
    Dialed {
        /// For a dialer that does not say what it dials: the host of the builder's address.
        otherwise: Option<ServerName<'static>>,
    },
}

impl ServerNames {
    /// Checks the name that was given, or else the hosts of all addresses. Without addresses, `otherwise` has to have a
    /// host.
    pub(super) fn new(given: Option<&str>, addresses: &[Address], otherwise: Option<&Address>) -> Result<Self, Error> {
        if let Some(given) = given {
            return Ok(Self::Given(parse(given)?));
        }
        for address in addresses {
            name_of(address)?;
        }
        let otherwise = match otherwise {
            _ if !addresses.is_empty() => None,
            Some(address) => Some(name_of(address)?),
            None => return Err(missing()),
        };
        Ok(Self::Dialed { otherwise })
    }

    /// The name of the server that this address has led to.
    pub(super) fn of(&self, dialed: Option<&Address>) -> Result<ServerName<'static>, Error> {
        match (self, dialed) {
            (Self::Given(name), _) => Ok(name.clone()),
            (Self::Dialed { .. }, Some(address)) => name_of(address),
            (Self::Dialed { otherwise }, None) => otherwise.clone().ok_or_else(missing),
        }
    }
}

/// The error of a dialer whose addresses are not known.
fn missing() -> Error {
    Error::InvalidConfig("server name: expected one set by Tls::server_name, or a dialer with addresses".into())
}

/// The host of an address as a server name.
fn name_of(address: &Address) -> Result<ServerName<'static>, Error> {
    let host = host_name(address).map_err(|error| match error {
        Error::InvalidConfig(text) => {
            Error::InvalidConfig(format!("{text} (the server name is taken from it, unless Tls::server_name sets one)"))
        }
        other => other,
    })?;
    parse(&host)
}

/// Checks a server name.
fn parse(name: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| Error::InvalidConfig(format!("server name {name:?}: expected a DNS name or an IP address")))
}

/// The host of an address as text: without a final dot and without an IPv6 zone.
fn host_name(address: &Address) -> Result<String, Error> {
    let (host, _) = address.parse()?;
    let host = host.split_once('%').map_or(host.as_str(), |(host, _)| host);
    Ok(host.strip_suffix('.').unwrap_or(host).to_owned())
}
