//! The servers of a configuration, and how each is reached.

use std::fmt;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host as ConfigHost;
use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts, SslMode, SslNegotiation};

use super::Error;
use super::login::BoxError;
#[cfg(feature = "tls")]
use super::tls::TlsUpgrade;
#[cfg(unix)]
use crate::UnixDialer;
use crate::dial::{BoxedDialer, BoxedStream};
use crate::{Address, Dial, Keepalive, SocketOptions, TcpDialer};

/// One server.
pub(super) struct Host {
    name: String,
    dialer: BoxedDialer,
    connect_timeout: Option<Duration>,
    #[cfg(feature = "tls")]
    tls: Option<TlsUpgrade>,
}

impl Host {
    /// One that a dialer of the user's reaches.
    pub(super) fn of(dialer: BoxedDialer) -> Self {
        Self {
            name: "the dialer's server".to_owned(),
            dialer,
            connect_timeout: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// A stream to it, on which TLS was agreed if it is to be spoken.
    pub(super) async fn dial(&mut self) -> Result<BoxedStream, BoxError> {
        let stream = match self.connect_timeout {
            None => self.dialer.dial().await?,
            Some(limit) => tokio::time::timeout(limit, self.dialer.dial()).await.map_err(|_| {
                std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no connection within {limit:?}"))
            })??,
        };
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            return Ok(tls.upgrade(stream).await?);
        }
        Ok(stream)
    }

    pub(super) fn dial_failed(&mut self) {
        self.dialer.dial_failed();
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Finds what cannot be honoured, whoever dials.
pub(super) fn check(config: &Config) -> Result<(), Error> {
    if config.get_channel_binding() == ChannelBinding::Require {
        return invalid("channel_binding=require: expected prefer or disable, as TLS is below tokio-postgres here");
    }
    Ok(())
}

/// All servers of a configuration.
pub(super) fn of_config(config: &Config, #[cfg(feature = "tls")] tls: Option<&crate::Tls>) -> Result<Vec<Host>, Error> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    if count == 0 {
        return invalid("no host: expected host or hostaddr");
    }
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return invalid(format!(
            "hostaddr: {} of them, expected one for each of {} hosts",
            addresses.len(),
            hosts.len()
        ));
    }
    if ports.len() > 1 && ports.len() != count {
        return invalid(format!("port: {} of them, expected one, or one for each of {count} hosts", ports.len()));
    }
    #[cfg(feature = "tls")]
    let is_tls_possible = tls.is_some();
    #[cfg(not(feature = "tls"))]
    let is_tls_possible = false;
    if config.get_ssl_mode() == SslMode::Require && !is_tls_possible {
        return invalid("sslmode=require: expected settings of TLS by ListenerBuilder::tls (feature tls)");
    }
    if config.get_ssl_mode() == SslMode::Prefer
        && config.get_ssl_negotiation() == SslNegotiation::Direct
        && is_tls_possible
    {
        return invalid("sslnegotiation=direct with sslmode=prefer: expected sslmode=require");
    }
    let options = socket_options(config)?;
    let connect_timeout = config.get_connect_timeout().copied().filter(|limit| !limit.is_zero());
    let mut all = Vec::with_capacity(count);
    for index in 0..count {
        let port = ports.get(index).or_else(|| ports.first()).copied().unwrap_or(5432);
        let (dialed, certified) = match (hosts.get(index), addresses.get(index)) {
            #[cfg(unix)]
            (Some(ConfigHost::Unix(folder)), None) => {
                let path = folder.join(format!(".s.PGSQL.{port}"));
                all.push(Host {
                    name: path.display().to_string(),
                    dialer: BoxedDialer::new(UnixDialer::new(path)),
                    connect_timeout,
                    #[cfg(feature = "tls")]
                    tls: None,
                });
                continue;
            }
            (Some(ConfigHost::Tcp(host)), None) => (host.clone(), host.clone()),
            (Some(ConfigHost::Tcp(host)), Some(address)) => (address.to_string(), host.clone()),
            (_, Some(address)) => (address.to_string(), address.to_string()),
            (_, None) => return invalid(format!("host {index}: expected a name, an address or a path")),
        };
        let address = match dialed.contains(':') && !dialed.starts_with('[') {
            true => Address::from(format!("[{dialed}]:{port}")),
            false => Address::from(format!("{dialed}:{port}")),
        };
        let mut dialer = TcpDialer::new(address.clone());
        dialer.take_socket_options(&options);
        #[cfg(not(feature = "tls"))]
        let _ = certified;
        all.push(Host {
            name: address.to_string(),
            dialer: BoxedDialer::new(dialer),
            connect_timeout,
            #[cfg(feature = "tls")]
            tls: match tls {
                Some(tls) => TlsUpgrade::new(tls, config, &certified)?,
                None => None,
            },
        });
    }
    for host in &all {
        host.dialer.check().map_err(Error::from_core)?;
    }
    Ok(all)
}

impl Host {
    /// What the user's dialer says of its settings.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.dialer.check().map_err(Error::from_core)
    }
}

/// Whether the hosts are tried in a random order.
pub(super) fn is_random(config: &Config) -> bool {
    config.get_load_balance_hosts() == LoadBalanceHosts::Random
}

/// The settings of the sockets; where the configuration leaves a number open, Linux's own.
fn socket_options(config: &Config) -> Result<SocketOptions, Error> {
    let mut options = SocketOptions::new().nodelay(true);
    if config.get_keepalives() {
        let idle = config.get_keepalives_idle();
        let interval = config.get_keepalives_interval().unwrap_or(Duration::from_secs(75));
        let probes = config.get_keepalives_retries().filter(|probes| *probes > 0).unwrap_or(9);
        let seconds = Duration::from_secs(1)..=Duration::from_secs(32_767);
        for (name, time) in [("keepalives_idle", idle), ("keepalives_interval", interval)] {
            if !seconds.contains(&time) {
                return invalid(format!("{name} {time:?}: expected 1s to 32767s"));
            }
        }
        if probes > 127 {
            return invalid(format!("keepalives_retries {probes}: expected 127 at most"));
        }
        options = options.keepalive(Keepalive::new(idle).interval(interval).probes(probes));
    }
    if let Some(limit) = config.get_tcp_user_timeout().copied().filter(|limit| !limit.is_zero()) {
        if limit < Duration::from_millis(1) || Duration::from_millis(i32::MAX as u64) < limit {
            return invalid(format!("tcp_user_timeout {limit:?}: expected 1ms to 24 days"));
        }
        // Elsewhere there is none, and tokio-postgres says that it has no effect then.
        if cfg!(any(target_os = "android", target_os = "fuchsia", target_os = "linux")) {
            options = options.user_timeout(limit);
        }
    }
    Ok(options)
}

fn invalid<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error::InvalidConfig(text.into()))
}

#[cfg(test)]
mod tests;
