//! The setting of the PROXY protocol.
//!
//! Next: [`super::super::proxy_protocol`], which follows it.

use super::AcceptorBuilder;

impl AcceptorBuilder {
    /// Takes the client's address from the PROXY header of these proxies, as HAProxy, nginx, Envoy and the load balancers of clouds
    /// send it (versions 1 and 2). Defaults to none: a header would be data like any other.
    ///
    /// Give the addresses (`192.0.2.7`) or networks (`10.0.0.0/8`, `2001:db8::/32`) of your proxies; `unix` stands for all peers on
    /// Unix sockets. These peers have to send a header, of up to 4096 bytes. The acceptor believes it: the handler, the events,
    /// [`accept_if`](Self::accept_if) and [`max_per_peer`](Self::max_per_peer) get the client's address. Everybody else is served
    /// without a header, under their own address. So only your proxies can say that they speak for another client.
    ///
    /// The header comes before the TLS handshake, if there is one, and within the
    /// [`handshake_timeout`](Self::handshake_timeout). It takes no acceptor slot. What else it says is in
    /// [`Stream::proxy_header`](crate::acceptor::Stream::proxy_header). If the proxy speaks for itself, as in a health check, the
    /// peer is the proxy, and so it is if the proxy does not know the client (`UNKNOWN`): for
    /// [`max_per_peer`](Self::max_per_peer), all of these are one address. A proxy that sends no header, or closes before, is
    /// reported by [`Event::HandshakeFailed`](crate::acceptor::Event::HandshakeFailed).
    ///
    /// If the proxy runs on the same machine as direct clients, give it an address of its own (`source 127.0.0.9` in HAProxy) or a
    /// Unix socket: else all clients of this machine would have to send a header.
    ///
    /// ```
    /// use perconn::acceptor::Acceptor;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::acceptor::Error> {
    /// let acceptor = Acceptor::builder("127.0.0.1:0")
    ///     .proxy_protocol(["10.0.0.0/8", "fd00::/8"])
    ///     .handler(async |_stream, peer| {
    ///         println!("a request of {peer}"); // the client, not the load balancer
    ///         Ok(())
    ///     })
    ///     .build()?;
    /// # drop(acceptor);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("haproxy", "send-proxy", "load balancer", "X-Forwarded-For", "real ip"))]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
    pub fn proxy_protocol<P: Into<String>>(mut self, trusted: impl IntoIterator<Item = P>) -> Self {
        self.proxies = Some(trusted.into_iter().map(Into::into).collect());
        self
    }
}
