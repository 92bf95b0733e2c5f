//! The settings of TLS in the builder.
//!
//! Next: [`super::super::tls`], which follows them.

use std::time::Duration;

use super::AcceptorBuilder;
use crate::acceptor::ServerTls;

impl AcceptorBuilder {
    /// Makes each connection a TLS session. The files are read when the acceptor is built. Defaults to no TLS.
    ///
    /// A handshake takes no acceptor slot, and the accept loop does not wait for it. Only while
    /// [`max_handshakes`](Self::max_handshakes) are going on does the loop wait for one of them to end. A client that
    /// is refused receives the [`refusal`](Self::refusal) within its session.
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets how many TLS handshakes go on at once. Defaults to 256; at least 1. Further clients wait in the kernel's
    /// queue.
    ///
    /// Each handshake takes a file descriptor. A silent client keeps its own for the whole
    /// [`handshake_timeout`](Self::handshake_timeout). But while this limit is reached, handshakes that have taken
    /// longer than one second are ended, the oldest first.
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn max_handshakes(mut self, n: usize) -> Self {
        self.max_handshakes = n;
        self
    }

    /// Sets how long a TLS handshake may take in all. Defaults to 10 seconds; `None` for no limit. It must not be zero.
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn handshake_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.handshake_timeout = limit.into();
        self
    }
}
