//! The hosts of a configuration, and a dialer for each.
//!
//! Next: [`LoginDialer`](super::login_dialer::LoginDialer), which tries them in order.

use std::fmt;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host as ConfigHost;
use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts, SslMode, SslNegotiation};

use super::Error;
use super::attempt_config::LoginConfig;
#[cfg(feature = "tls")]
use super::connection_string::Certificates;
use super::login::{BoxError, Login};
#[cfg(feature = "tls")]
use super::tls::TlsUpgrade;
#[cfg(unix)]
use crate::UnixDialer;
use crate::dial::{BoxedDialer, BoxedStream, address_if_several};
use crate::{Address, Dial, Keepalive, SocketOptions, TcpDialer};

/// A stream to a server, before the login.
pub(super) struct HostStream {
    /// In plain text or in TLS.
    pub(super) stream: BoxedStream,
    /// With TLS: what the login can be bound to, the channel binding `tls-server-end-point`.
    pub(super) end_point: Option<Vec<u8>>,
}

/// One server, and how it is reached.
///
/// Each host has its own dialer, which keeps its choice of addresses from one attempt to the next.
pub(super) struct Host {
    /// The name in errors: the host and port, or the path of the socket.
    name: String,
    /// Makes the stream in plain text.
    dialer: BoxedDialer,
    /// The limit of a dial, with TLS and the login.
    connect_timeout: Option<Duration>,
    /// `None` for a Unix socket, for a dialer of the program, without settings, and if `sslmode` disables TLS.
    #[cfg(feature = "tls")]
    tls: Option<TlsUpgrade>,
}

impl Host {
    /// The host that a dialer of the program reaches.
    pub(super) fn from_dialer(dialer: BoxedDialer) -> Result<Self, Error> {
        dialer.check().map_err(Error::from_core)?;
        Ok(Self {
            name: "the dialer's server".to_owned(),
            dialer,
            connect_timeout: None,
            #[cfg(feature = "tls")]
            tls: None,
        })
    }

    /// Connects and logs in, within the `connect_timeout`.
    pub(super) async fn log_in(&mut self, config: &LoginConfig) -> Result<Login, BoxError> {
        let Some(limit) = self.connect_timeout else { return Login::new(self.dial().await?, config).await };
        let start = async { Login::new(self.dial().await?, config).await };
        tokio::time::timeout(limit, start).await.unwrap_or_else(|_| {
            let text = format!("no session within {limit:?} (connect_timeout)");
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, text).into())
        })
    }

    /// Connects, and speaks TLS if that applies.
    async fn dial(&mut self) -> Result<HostStream, BoxError> {
        let stream = self.dialer.dial().await?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            return Ok(tls.upgrade(stream).await?);
        }
        Ok(HostStream { stream, end_point: None })
    }

    /// The name, whatever its dialer does.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The addresses that its dialer chooses from. A dialer of the program can have several.
    pub(super) fn addresses(&self) -> &[Address] {
        self.dialer.addresses()
    }

    /// The address that its dialer dialed last, if the dialer knows.
    pub(super) fn dialed_address(&self) -> Option<&Address> {
        self.dialer.dialed_address()
    }

    /// Reports to the dialer that its last dial was of no use.
    pub(super) fn dial_failed(&mut self) {
        self.dialer.dial_failed();
    }

    /// Takes a warning about the last dial.
    pub(super) fn take_warning(&mut self) -> Option<crate::Error> {
        #[cfg(feature = "tls")]
        let tls = self.tls.as_mut().and_then(TlsUpgrade::take_warning);
        #[cfg(not(feature = "tls"))]
        let tls = None;
        tls.or_else(|| self.dialer.take_warning())
    }
}

/// The name. For a dialer of the program with several addresses: the address that it dialed last.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match address_if_several(&self.dialer) {
            Some(address) => f.write_str(&address),
            None => f.write_str(&self.name),
        }
    }
}

/// All hosts of a configuration, each with its dialer.
///
/// The pairs of hosts, addresses and ports follow the rules of libpq: one port for all of them or one for each, and
/// an address in `hostaddr` replaces the look-up of the name at the same position.
pub(super) fn from_config(
    config: &Config,
    #[cfg(feature = "tls")] tls: Option<&crate::Tls>,
) -> Result<Vec<Host>, Error> {
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
    let needs_binding = config.get_channel_binding() == ChannelBinding::Require;
    if needs_binding && (config.get_ssl_mode() == SslMode::Disable || !is_tls_possible) {
        return invalid(
            "channel_binding=require: expected TLS, by ListenerBuilder::tls (feature tls) and no sslmode=disable",
        );
    }
    if config.get_ssl_mode() == SslMode::Require && !is_tls_possible {
        return invalid("sslmode=require: expected TLS settings by ListenerBuilder::tls (feature tls)");
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
        let (dialed, tls_name) = match (hosts.get(index), addresses.get(index)) {
            #[cfg(unix)]
            (Some(ConfigHost::Unix(folder)), None) => {
                let path = folder.join(format!(".s.PGSQL.{port}"));
                if needs_binding {
                    return invalid(format!(
                        "channel_binding=require: {} is a Unix socket, without TLS",
                        path.display()
                    ));
                }
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
        let _ = tls_name;
        all.push(Host {
            name: address.to_string(),
            dialer: BoxedDialer::new(dialer),
            connect_timeout,
            #[cfg(feature = "tls")]
            tls: match tls {
                Some(tls) => TlsUpgrade::new(tls, config, &tls_name)?,
                None => None,
            },
        });
    }
    for host in &all {
        host.dialer.check().map_err(Error::from_core)?;
    }
    Ok(all)
}

/// The settings for TLS: those of the program, with the files that a connection string names.
#[cfg(feature = "tls")]
pub(super) fn tls(given: Option<&crate::Tls>, certificates: &Certificates) -> Option<crate::Tls> {
    if given.is_none() && certificates.wanted_by.is_none() {
        return None;
    }
    let mut tls = given.cloned().unwrap_or_default();
    if let Some(root) = &certificates.root {
        tls = tls.roots_file(root);
    }
    if let Some((certificate, key)) = &certificates.client {
        tls = tls.client_certificate_files(certificate, key);
    }
    Some(tls)
}

/// Whether the hosts are tried in a random order.
pub(super) fn is_random(config: &Config) -> bool {
    config.get_load_balance_hosts() == LoadBalanceHosts::Random
}

/// The options of the sockets. Where the configuration sets no number, the default of Linux applies.
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
        // Other systems have no such option. There the setting has no effect, as tokio-postgres documents.
        if cfg!(any(target_os = "android", target_os = "fuchsia", all(target_os = "linux", not(perconn_portable)))) {
            options = options.user_timeout(limit);
        }
    }
    Ok(options)
}

/// The error of a setting that cannot apply.
fn invalid<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error::InvalidConfig(text.into()))
}

#[cfg(test)]
mod tests;
