//! Which peers are proxies whose header is believed.
//!
//! Next: [`super::ProxyHeader`], which they send.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::acceptor::{Error, Peer};

/// The proxies of an acceptor; at least one.
pub(in crate::acceptor) struct TrustedProxies {
    /// On the network.
    networks: Vec<IpNet>,
    /// Whether all peers on Unix sockets are proxies.
    unix: bool,
}

impl TrustedProxies {
    /// Reads addresses, networks, and the word `unix`.
    pub(in crate::acceptor) fn parse(proxies: &[String]) -> Result<Self, Error> {
        let mut trusted = Self { networks: Vec::new(), unix: false };
        for proxy in proxies {
            if proxy == "unix" {
                trusted.unix = true;
                continue;
            }
            let network = proxy.parse::<IpNet>().or_else(|_| proxy.parse::<IpAddr>().map(IpNet::from));
            let Ok(network) = network.map(canonical) else {
                return Error::invalid(format!(
                    "proxy_protocol {proxy:?}: expected an IP address, a network such as 10.0.0.0/8, or unix"
                ));
            };
            if network != network.trunc() {
                // It may be meant to be one address.
                return Error::invalid(format!(
                    "proxy_protocol {proxy:?}: expected {} for the network, or {} for the address",
                    network.trunc(),
                    network.addr()
                ));
            }
            trusted.networks.push(network);
        }
        if proxies.is_empty() {
            return Error::invalid("proxy_protocol without a proxy: expected at least one that is trusted");
        }
        Ok(trusted)
    }

    /// Whether this peer is one of them. (Its address is in the canonical form.)
    pub(in crate::acceptor) fn trust(&self, peer: &Peer) -> bool {
        match peer {
            Peer::Tcp(address) => self.networks.iter().any(|network| network.contains(&address.ip())),
            Peer::Unix { .. } => self.unix,
        }
    }
}

/// An IPv4 network that is given as a part of IPv6 (`::ffff:10.0.0.0/104`), as addresses of a listener for both look.
fn canonical(network: IpNet) -> IpNet {
    match (network.addr().to_canonical(), network.prefix_len().checked_sub(96)) {
        (IpAddr::V4(address), Some(prefix)) if network.addr().is_ipv6() => {
            Ipv4Net::new(address, prefix).map_or(network, IpNet::V4)
        }
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proxies of a list.
    fn parse(proxies: &[&str]) -> Result<TrustedProxies, Error> {
        TrustedProxies::parse(&proxies.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn addresses_networks_and_unix_sockets() {
        let trusted = parse(&["10.1.0.0/16", "192.0.2.7", "2001:db8::/32", "::1"]).unwrap();
        let trusts = |address: &str| trusted.trust(&Peer::tcp((address.parse::<IpAddr>().unwrap(), 7).into()));
        for address in ["10.1.255.255", "::ffff:10.1.0.1", "192.0.2.7", "2001:db8:7::1", "::1"] {
            assert!(trusts(address), "{address}");
        }
        for address in ["10.2.0.0", "192.0.2.8", "2001:db9::1", "::2", "127.0.0.1"] {
            assert!(!trusts(address), "{address}");
        }
        let mapped = parse(&["::ffff:10.1.0.0/112", "::ffff:192.0.2.7"]).unwrap();
        for (address, is_trusted) in
            [("10.1.7.7", true), ("192.0.2.7", true), ("::ffff:10.1.0.1", true), ("10.2.0.0", false)]
        {
            let peer = Peer::tcp((address.parse::<IpAddr>().unwrap(), 7).into());
            assert_eq!(mapped.trust(&peer), is_trusted, "{address}");
        }
        let on_unix = Peer::Unix { uid: None, pid: None };
        assert!(!trusted.trust(&on_unix));
        assert!(parse(&["unix"]).unwrap().trust(&on_unix));
    }

    #[test]
    fn what_is_no_proxy_is_named() {
        for bad in ["", "10.0.0.0/33", "10.0.0", "localhost", "10.0.0.1:80", "Unix"] {
            let error = parse(&["::1", bad]).err().unwrap().to_string();
            assert!(error.contains(&format!("proxy_protocol {bad:?}: expected an IP address")), "{error}");
        }
        let error = parse(&["10.0.0.1/8"]).err().unwrap().to_string();
        assert!(error.ends_with("expected 10.0.0.0/8 for the network, or 10.0.0.1 for the address"), "{error}");
        assert!(parse(&[]).err().unwrap().to_string().contains("at least one"));
    }
}
