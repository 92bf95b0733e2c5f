//! The settings of who is let in.

use super::AcceptorBuilder;
use crate::acceptor::Peer;

impl AcceptorBuilder {
    /// Sets a filter of peers: a closure that says whether a connection may go on. Defaults to none: everybody may.
    ///
    /// It runs when a connection is accepted, or when the header of its [proxy](Self#method.proxy_protocol) has arrived, before a
    /// TLS handshake, and must not block. A connection that it rejects is closed silently, and reported by
    /// [`Event::Rejected`](crate::acceptor::Event::Rejected). If it panics, that is a rejection, which the
    /// [`logger`](Self::logger) receives as [`HookPanicked`](crate::acceptor::Error::HookPanicked).
    ///
    /// ```
    /// use std::net::IpAddr;
    /// use perconn::acceptor::Acceptor;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::acceptor::Error> {
    /// let banned: Vec<IpAddr> = vec!["192.0.2.7".parse().unwrap()];
    /// let acceptor = Acceptor::builder("127.0.0.1:0")
    ///     .accept_if(move |peer| peer.addr().is_none_or(|address| !banned.contains(&address.ip())))
    ///     .max_per_peer(10)
    ///     .accept_rate(500)
    ///     .handler(async |_stream, _peer| Ok(()))
    ///     .build()?;
    /// # drop(acceptor);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("allow", "deny", "ban", "firewall"))]
    pub fn accept_if(mut self, filter: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Box::new(filter));
        self
    }

    /// Sets how many connections one address may have at once, TLS handshakes included. Defaults to `None`: no limit. At
    /// least 1.
    ///
    /// One more is closed silently, and reported by [`Event::Rejected`](crate::acceptor::Event::Rejected). Of an IPv6
    /// address, the first 64 bits count, as every site has all that begin with them. Clients behind one router (NAT) have one
    /// address. So have all that come through one proxy, unless it says who they are ([`proxy_protocol`](Self#method.proxy_protocol)).
    /// Peers on Unix sockets have none, and no limit.
    pub fn max_per_peer(mut self, n: impl Into<Option<usize>>) -> Self {
        self.max_per_peer = n.into();
        self
    }

    /// Sets how many connections are accepted in a second, at most. Defaults to `None`: no limit. At least 1.
    ///
    /// After a pause, up to one second of the rate is accepted at once. Clients beyond it wait in the kernel's queue
    /// ([`backlog`](Self::backlog)), so that a rush of them, as after a restart, does not fill the machine with handshakes.
    pub fn accept_rate(mut self, per_second: impl Into<Option<u32>>) -> Self {
        self.accept_rate = per_second.into();
        self
    }
}
