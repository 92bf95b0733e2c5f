//! The settings of an acceptor that speaks TLS.

use std::time::Duration;

use super::AcceptorBuilder;
use crate::acceptor::ServerTls;

impl AcceptorBuilder {
    /// Makes each connection a TLS session. The files are read when the acceptor is built.
    ///
    /// A handshake takes no acceptor. The accept loop does not wait for it, but for one to end if
    /// [`max_handshakes`](Self::max_handshakes) are going on. A client that is refused is told so within its session.
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How many TLS handshakes go on at the same time. Defaults to 256. Those beyond wait in the kernel's queue.
    ///
    /// Each takes a descriptor. Clients that say nothing, or a byte now and then, keep theirs for the whole of
    /// [`handshake_timeout`](Self::handshake_timeout); but when no further handshake can begin, those that have taken longer
    /// than a second are given up, the oldest first.
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn max_handshakes(mut self, n: usize) -> Self {
        self.max_handshakes = n;
        self
    }

    /// How long a TLS handshake may take, however many bytes come. Defaults to 10 s; `None` for no limit.
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn handshake_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.handshake_timeout = limit.into();
        self
    }
}
