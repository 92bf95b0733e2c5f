//! Who is let in: the program's filter, and a limit of connections for each address.
//!
//! Both are asked as soon as it is known who the client is: when its connection is accepted, or when the header of its proxy has
//! arrived. What they reject takes no slot and no TLS handshake.
//!
//! Next: [`super::accept_rate`], which limits how many are accepted in a second.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

#[cfg(feature = "proxy-protocol")]
use super::proxy_protocol::ProxyHeader;
use super::registry::Registry;
use super::stats::count;
use super::{Error, Event, Peer};
use crate::panics::catch;
use crate::sync::Mutex;

/// Why a client was not let in; by [`Event::Rejected`](super::Event::Rejected).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectReason {
    /// [`AcceptorBuilder::accept_if`](super::AcceptorBuilder::accept_if) said no, or panicked.
    Filter,
    /// Its address has as many connections as
    /// [`AcceptorBuilder::max_per_peer`](super::AcceptorBuilder::max_per_peer) allows.
    MaxPerPeer,
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filter => "not let in by the filter",
            Self::MaxPerPeer => "its address has too many connections",
        })
    }
}

/// The program's filter. `false`: the peer is not let in.
pub(super) type Filter = Box<dyn Fn(&Peer) -> bool + Send + Sync>;

/// The checks of a new connection.
#[derive(Default)]
pub(super) struct Admission {
    /// `None` lets everybody in.
    pub(super) filter: Option<Filter>,
    /// `None`: no limit.
    pub(super) per_peer: Option<Arc<PeerLimit>>,
}

impl Admission {
    /// Lets a client in. `None` if not, which is counted and reported.
    pub(super) fn admit(&self, peer: Peer, registry: &Registry) -> Option<Admitted> {
        match self.place(peer, registry) {
            Ok(place) => Some(Admitted {
                peer,
                #[cfg(feature = "proxy-protocol")]
                proxy_header: None,
                _place: place,
            }),
            Err(reason) => {
                count(&registry.counters.rejected);
                registry.settings.hooks.emit(|| Event::Rejected { peer, reason });
                None
            }
        }
    }

    /// Asks the filter, and takes a place where there is a limit.
    fn place(&self, peer: Peer, registry: &Registry) -> Result<Option<Arc<PeerPlace>>, RejectReason> {
        if let Some(filter) = &self.filter {
            let is_let_in = catch(|| filter(&peer)).unwrap_or_else(|message| {
                registry.settings.hooks.log(&Arc::new(Error::HookPanicked { hook: "accept_if", message }));
                false
            });
            if !is_let_in {
                return Err(RejectReason::Filter);
            }
        }
        match (&self.per_peer, peer.addr()) {
            (Some(limit), Some(address)) => limit.take(address.ip()).map(Some).ok_or(RejectReason::MaxPerPeer),
            _ => Ok(None),
        }
    }
}

/// How many connections each address has, and may have.
pub(super) struct PeerLimit {
    /// At least 1.
    max: usize,
    /// Only addresses that have some.
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl PeerLimit {
    /// No connections.
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, open: Mutex::default() })
    }

    /// Counts one more connection, unless that would be one too many.
    fn take(self: &Arc<Self>, address: IpAddr) -> Option<Arc<PeerPlace>> {
        let network = network(address);
        let mut all = self.open.lock();
        let open = all.entry(network).or_default();
        if *open >= self.max {
            return None;
        }
        *open += 1;
        drop(all);
        Some(Arc::new(PeerPlace { limit: Arc::clone(self), network }))
    }
}

/// What counts as one address: an IPv4 address, or the first 64 bits of an IPv6 address. A site has at least that many
/// (RFC 6177), so that the other 64 tell nothing.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

/// A client that was let in. It counts for its address until its last clone is dropped.
#[derive(Clone)]
pub(super) struct Admitted {
    /// The client; behind a proxy, as that says.
    pub(super) peer: Peer,
    /// What the proxy has sent. `None` without one.
    #[cfg(feature = "proxy-protocol")]
    pub(super) proxy_header: Option<Arc<ProxyHeader>>,
    /// `None` if no limit holds for it.
    _place: Option<Arc<PeerPlace>>,
}

#[cfg(feature = "proxy-protocol")]
impl Admitted {
    /// Of whom a proxy has said this.
    pub(super) fn with_proxy_header(mut self, header: Arc<ProxyHeader>) -> Self {
        self.proxy_header = Some(header);
        self
    }
}

#[cfg(test)]
impl Admitted {
    /// A client on this machine.
    pub(super) fn local() -> Self {
        Self {
            peer: Peer::Tcp(([127, 0, 0, 1], 1).into()),
            #[cfg(feature = "proxy-protocol")]
            proxy_header: None,
            _place: None,
        }
    }
}

/// One connection of an address.
struct PeerPlace {
    /// Where it is counted.
    limit: Arc<PeerLimit>,
    /// For which address.
    network: IpAddr,
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        let mut all = self.limit.open.lock();
        if let Some(open) = all.get_mut(&self.network) {
            *open -= 1;
            if *open == 0 {
                all.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_limit() {
        let limit = PeerLimit::new(2);
        let take = |address: &str| limit.take(address.parse().unwrap());
        let first = take("192.0.2.1").unwrap();
        let second = take("::ffff:192.0.2.1").unwrap();
        assert!(take("192.0.2.1").is_none());
        let other = take("192.0.2.2").unwrap();
        drop(second);
        let third = take("192.0.2.1").unwrap();
        assert!(take("192.0.2.1").is_none());
        let clone = first.clone();
        drop(first);
        assert!(take("192.0.2.1").is_none());
        drop((clone, third, other));
        assert!(limit.open.lock().is_empty());
    }

    #[test]
    fn addresses_of_one_ipv6_site_count_together() {
        let limit = PeerLimit::new(1);
        let take = |address: &str| limit.take(address.parse().unwrap());
        let _first = take("2001:db8::1").unwrap();
        assert!(take("2001:db8::ffff:ffff:ffff:ffff").is_none());
        assert!(take("2001:db8:0:1::1").is_some());
    }
}
