//! The address of a peer: host and port, checked before the first dial.
//!
//! Next: [`TcpDialer`](crate::TcpDialer), which resolves and dials it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::Error;

/// Where to dial: a host and a port.
///
/// Converts from `"host:port"`, `"192.0.2.1:80"`, `"[2001:db8::1]:80"`, a [`SocketAddr`], or a pair of host and port.
/// It is plain text until [`Builder::build`](crate::Builder::build) checks it.
///
/// ```
/// use perconn::Address;
///
/// let text = Address::from("db.example:5432");
/// let pair = Address::from(("db.example", 5432));
/// assert_eq!(text, pair);
/// assert_eq!(pair.to_string(), "db.example:5432");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address(String);

impl Address {
    /// The text of the address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Splits the address into a host without brackets and a port. The error names the address and the reason.
    pub(crate) fn parse(&self) -> Result<(String, u16), Error> {
        let invalid = |reason: &str| {
            Error::InvalidConfig(format!(
                "address {:?}: {reason}; expected \"host:port\", \"192.0.2.1:port\" or \"[2001:db8::1]:port\"",
                self.0
            ))
        };
        if self.0.is_empty() {
            return Err(invalid("it is empty"));
        }
        if self.0.contains("://") {
            return Err(invalid("it is a URL"));
        }
        let (host, port) = self.0.rsplit_once(':').ok_or_else(|| invalid("it has no port"))?;
        if host.starts_with('[') && !host.ends_with(']') {
            return Err(invalid("it has no port, or its bracket is not closed"));
        }
        check_host(host).map_err(invalid)?;
        let port = match port.parse::<u16>() {
            _ if port.is_empty() => return Err(invalid("it has no port")),
            _ if !port.bytes().all(|b| b.is_ascii_digit()) => return Err(invalid("the port is not a number")),
            Ok(0) => return Err(invalid("port 0 cannot be dialed")),
            Ok(port) => port,
            Err(_) => return Err(invalid("the port is above 65535")),
        };
        Ok((host.trim_matches(['[', ']']).to_owned(), port))
    }
}

/// Checks the form of a host: a name, an IPv4 address, or an IPv6 address in brackets with or without a zone (RFC
/// 4007).
///
/// A name has the form of RFC 1123. Underscores are allowed as well, as the resolver decides which names exist.
fn check_host(host: &str) -> Result<(), &'static str> {
    if let Some(inside) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let (address, zone) = inside.split_once('%').unwrap_or((inside, "1"));
        if !is_zone(zone) {
            return Err("its IPv6 zone is neither a number nor the name of an interface");
        }
        return match address.parse::<Ipv6Addr>() {
            Ok(_) => Ok(()),
            Err(_) => Err("the text in brackets is not an IPv6 address"),
        };
    }
    if host.is_empty() {
        return Err("it has no host");
    }
    if host.parse::<Ipv6Addr>().is_ok() || host.contains(':') {
        return Err("a host with colons must be an IPv6 address in brackets");
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err("the host is neither a name nor an IP address");
    }
    let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    if name.rsplit('.').next().is_some_and(is_number) && host.parse::<Ipv4Addr>().is_err() {
        return Err("the host ends in a number but is not an IPv4 address");
    }
    Ok(())
}

/// Whether a text can be an IPv6 zone: the number or the name of a network interface.
///
/// A name has at most 15 bytes on Linux (netdevice(7)); other systems allow longer ones.
fn is_zone(zone: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_graphic() && !b"%[]/:".contains(&b);
    (1..=63).contains(&zone.len()) && zone.bytes().all(allowed)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&String> for Address {
    fn from(text: &String) -> Self {
        Self(text.clone())
    }
}

impl From<&SocketAddr> for Address {
    fn from(address: &SocketAddr) -> Self {
        Self(address.to_string())
    }
}

impl From<(&str, u16)> for Address {
    fn from((host, port): (&str, u16)) -> Self {
        match host.parse::<Ipv6Addr>() {
            Ok(_) => Self(format!("[{host}]:{port}")),
            Err(_) => Self(format!("{host}:{port}")),
        }
    }
}

impl From<(String, u16)> for Address {
    fn from((host, port): (String, u16)) -> Self {
        Self::from((host.as_str(), port))
    }
}

/// Implements `From` for types that cannot be malformed, through their `SocketAddr`.
macro_rules! from_typed {
    ($($address:ty),*) => {$(
        impl From<$address> for Address {
            fn from(address: $address) -> Self {
                Self(SocketAddr::from(address).to_string())
            }
        }
    )*};
}

from_typed!(SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_every_form_are_parsed() {
        for (address, host, port) in [
            ("localhost:80", "localhost", 80),
            ("my_service.ns.svc.cluster.local.:65535", "my_service.ns.svc.cluster.local.", 65535),
            ("192.0.2.1:1", "192.0.2.1", 1),
            ("[::1]:80", "::1", 80),
            ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
            ("1e100.example:80", "1e100.example", 80),
        ] {
            assert_eq!(Address::from(address).parse().unwrap(), (host.to_owned(), port), "{address}");
        }
    }

    #[test]
    fn bad_addresses_are_named_with_the_reason() {
        let long_label = format!("{}.example:80", "a".repeat(64));
        for (address, why) in [
            ("", "empty"),
            ("localhost", "no port"),
            ("localhost:", "no port"),
            (":80", "no host"),
            ("localhost:0", "port 0"),
            ("localhost:65536", "above 65535"),
            ("localhost:99999999999999999999", "above 65535"),
            ("localhost:http", "not a number"),
            ("localhost:+80", "not a number"),
            ("localhost:-1", "not a number"),
            ("localhost: 80", "not a number"),
            ("::1:80", "in brackets"),
            ("::1", "in brackets"),
            ("[::1]", "no port"),
            ("[::1:80", "not closed"),
            ("[localhost]:80", "not an IPv6 address"),
            ("[]:80", "not an IPv6 address"),
            ("[fe80::1%]:80", "zone"),
            ("[fe80::1%%]:80", "zone"),
            ("[fe80::1%a b]:80", "zone"),
            ("[fe80::1%\u{0}]:80", "zone"),
            ("http://localhost:80", "a URL"),
            ("two words:80", "neither a name"),
            ("a..b:80", "neither a name"),
            ("256.0.0.1:80", "not an IPv4 address"),
            ("user@host:80", "neither a name"),
            ("\u{0}:80", "neither a name"),
            (&long_label, "neither a name"),
        ] {
            let text = Address::from(address).parse().unwrap_err().to_string();
            assert!(text.contains(why), "{address:?}: {text}");
            assert!(text.contains(&format!("{address:?}")), "{address:?} is not named in: {text}");
        }
    }

    #[test]
    fn name_has_up_to_253_bytes_without_the_final_dot() {
        for (length, is_name) in [(252, true), (253, true), (254, false), (255, false), (300, false)] {
            let name = "a.".repeat(120) + &"a".repeat(length - 240);
            for address in [format!("{name}:80"), format!("{name}.:80")] {
                assert_eq!(Address::from(address).parse().is_ok(), is_name, "{length} bytes");
            }
        }
    }

    #[test]
    fn pairs_put_ipv6_hosts_in_brackets() {
        assert_eq!(Address::from(("::1", 80)).as_str(), "[::1]:80");
        assert_eq!(Address::from((Ipv6Addr::LOCALHOST, 80)).as_str(), "[::1]:80");
        assert_eq!(Address::from((String::from("host"), 80)).to_string(), "host:80");
    }
}
