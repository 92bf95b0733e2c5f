//! Settings of how names become addresses.
//!
//! Next: [`TcpDialer`](crate::TcpDialer), which resolves them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use super::Builder;

impl Builder {
    /// Resolves names by a function of your own instead of the system's resolver: DNS over TLS, SRV records, a service
    /// registry, names of tests.
    ///
    /// Each dial calls it with the host and the port of its address. It returns the addresses to dial, with their ports, so SRV
    /// works by it. A literal IP address is not resolved. [`TcpDialer::resolver`](crate::TcpDialer::resolver) has the rules and the
    /// errors. Defaults to the system's resolver (getaddrinfo).
    ///
    /// It belongs to the builder's own [`TcpDialer`](crate::TcpDialer). Set it before a
    /// [`tls`](Builder::tls) or [`and_then`](Builder::and_then); a [`dialer`](Builder::dialer) of your own replaces it.
    ///
    /// The servers of an SRV record:
    ///
    /// ```
    /// use perconn::Conn;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let port = server.local_addr()?.port();
    /// # let look_up_srv = move |_service| async move { Ok::<_, std::io::Error>([("localhost".to_owned(), port)]) };
    /// let builder = Conn::builder("chat.example:5222").resolver(move |host, _| async move {
    ///     let mut addresses = Vec::new();
    ///     for (host, port) in look_up_srv(format!("_xmpp-client._tcp.{host}")).await? { // by a DNS library
    ///         addresses.extend(tokio::net::lookup_host((host, port)).await?);
    ///     }
    ///     Ok(addresses)
    /// });
    /// let conn = builder.connect().await?;
    /// assert_eq!(conn.peer_addr()?.port(), port);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("dns", "dns_resolver", "resolve", "lookup_host", "hickory", "SRV", "service_discovery"))]
    pub fn resolver<F, Fut>(self, resolve: F) -> Self
    where
        F: Fn(String, u16) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        self.map_dialer(|dialer| dialer.resolver(resolve))
    }
}
