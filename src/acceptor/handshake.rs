//! What comes between the acceptance of a connection and its slot: the PROXY header and the TLS handshake.
//!
//! Both run in the task of the connection, so the accept loop waits for no client. They share one time limit, and one limit of how
//! many go on at once. A client is asked about as soon as it is known who it is: when it was accepted, or by the header of its
//! proxy. In either case this comes before the TLS handshake.
//!
//! Next: [`limit`], which says how many, and [`super::connection`], which gives the client its slot.

use std::future::{Future, pending};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use self::limit::HandshakeLimit;
pub(super) use self::limit::PendingClient;
use super::Peer;
use super::admission::Admitted;
#[cfg(feature = "proxy-protocol")]
use super::proxy_protocol::{ProxyHeader, TrustedProxies};
use super::registry::Registry;
use super::service::Service;
#[cfg(feature = "tls")]
use super::tls::TlsServer;
use super::transport::{Socket, Transport};

mod limit;

/// A connection that was accepted.
pub(super) struct Arrival {
    /// Nothing has been read from it.
    pub(super) socket: Socket,
    /// The other end of the socket.
    pub(super) peer: Peer,
    /// `None` for a trusted proxy: its header says who the client is.
    pub(super) admitted: Option<Admitted>,
}

/// Makes the handshakes of an acceptor that has some.
pub(super) struct Handshaker {
    /// Where the accept loop gets a permit for each client.
    limit: Arc<HandshakeLimit>,
    /// The limit of one handshake; `None` for no limit.
    timeout: Option<Duration>,
    /// Who sends a PROXY header. `None`: nobody.
    #[cfg(feature = "proxy-protocol")]
    pub(super) proxies: Option<TrustedProxies>,
    /// `None` without TLS.
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Arc<TlsServer>>,
}

impl Handshaker {
    /// Makes no handshake yet.
    pub(super) fn new(max: usize, timeout: Option<Duration>) -> Self {
        Self {
            limit: HandshakeLimit::new(max),
            timeout,
            #[cfg(feature = "proxy-protocol")]
            proxies: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Whether there is anything to do.
    pub(super) fn is_needed(&self) -> bool {
        #[cfg(feature = "proxy-protocol")]
        if self.proxies.is_some() {
            return true;
        }
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return true;
        }
        false
    }

    /// Waits for the permit for one more client.
    pub(super) async fn permit(&self) -> OwnedSemaphorePermit {
        self.limit.permit().await
    }

    /// Counts a client that was accepted.
    pub(super) fn begin(&self, registry: &Registry, permit: OwnedSemaphorePermit) -> PendingClient {
        PendingClient::new(&self.limit, &registry.counters, permit)
    }

    /// Whether this peer sends a PROXY header.
    #[cfg_attr(not(feature = "proxy-protocol"), expect(clippy::unused_self, reason = "nobody does"))]
    pub(super) fn is_proxy(&self, peer: &Peer) -> bool {
        #[cfg(feature = "proxy-protocol")]
        return self.proxies.as_ref().is_some_and(|proxies| proxies.trust(peer));
        #[cfg(not(feature = "proxy-protocol"))]
        {
            let _ = peer;
            false
        }
    }

    /// Makes the handshake of a client. `None` if it is not let in, which is reported already.
    ///
    /// Fails with the kind `TimedOut` after the time limit, and if the handshake is evicted. The peer of an error is the client, or
    /// its proxy if the client is not known.
    pub(super) async fn handshake(
        &self,
        registry: &Registry,
        service: &Service,
        arrival: Arrival,
        client: &PendingClient,
    ) -> Result<Option<(Transport, Admitted)>, (Peer, io::Error)> {
        let mut peer = arrival.peer;
        let handshake = async {
            let Some((socket, admitted)) = Self::admit(registry, service, arrival).await? else { return Ok(None) };
            peer = admitted.peer;
            Ok(Some((self.transport(socket).await?, admitted)))
        };
        let outcome = self.within_limits(handshake, client).await;
        client.handshake_ended();
        outcome.map_err(|error| (peer, error))
    }

    /// Runs a handshake until it ends, its time is over, or it has to make room for another.
    async fn within_limits<T>(
        &self,
        handshake: impl Future<Output = io::Result<T>>,
        client: &PendingClient,
    ) -> io::Result<T> {
        let deadline = async {
            match self.timeout {
                Some(limit) => sleep(limit).await,
                None => pending().await,
            }
        };
        let timed_out = |text: String| Err(io::Error::new(io::ErrorKind::TimedOut, text));
        tokio::select! {
            biased;
            outcome = handshake => outcome,
            () = deadline => timed_out(format!("{} within {:?}", self.missing(), self.timeout.unwrap_or_default())),
            () = client.evicted() => timed_out("the handshake was ended to make room for another".into()),
        }
    }

    /// What has not come in time.
    fn missing(&self) -> &'static str {
        #[cfg(all(feature = "proxy-protocol", feature = "tls"))]
        if self.proxies.is_some() && self.tls.is_some() {
            return "no PROXY header and TLS handshake";
        }
        #[cfg(feature = "proxy-protocol")]
        if self.proxies.is_some() {
            return "no PROXY header";
        }
        "no handshake"
    }

    /// Finds out who a client is and whether it is let in, if the accept loop could not.
    async fn admit(registry: &Registry, service: &Service, arrival: Arrival) -> io::Result<Option<(Socket, Admitted)>> {
        #[cfg_attr(not(feature = "proxy-protocol"), expect(unused_mut, reason = "only a header is read here"))]
        let Arrival { mut socket, peer, admitted } = arrival;
        let admitted = match admitted {
            Some(admitted) => Some(admitted),
            #[cfg(feature = "proxy-protocol")]
            None => {
                let header = Arc::new(ProxyHeader::read(&mut socket, peer).await?);
                let admitted = service.admission.admit(header.peer(), registry);
                admitted.map(|admitted| admitted.with_proxy_header(header))
            }
            #[cfg(not(feature = "proxy-protocol"))]
            None => service.admission.admit(peer, registry),
        };
        Ok(admitted.map(|admitted| (socket, admitted)))
    }

    /// Makes the TLS session, if there is TLS.
    async fn transport(&self, socket: Socket) -> io::Result<Transport> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.session(socket).await;
        }
        Ok(Transport::Plain(socket))
    }
}
