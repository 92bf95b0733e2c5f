//! The settings of TLS in the builder.
//!
//! Next: [`super::super::tls`], which follows them.

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
}
