//! The settings of handshakes: what comes before the handler.
//!
//! Next: [`super::super::handshake`], which follows them.

use std::time::Duration;

use super::AcceptorBuilder;

impl AcceptorBuilder {
    /// Sets how many handshakes go on at once: TLS handshakes, and PROXY headers that have not arrived. Defaults to 256; at least
    /// 1. Further clients wait in the kernel's queue, also those that need no handshake, as it is not known who they are.
    ///
    /// Each handshake takes a file descriptor. A silent client keeps its own for the whole
    /// [`handshake_timeout`](Self::handshake_timeout). But while this limit is reached, handshakes that have taken
    /// longer than one second are ended, the oldest first.
    pub fn max_handshakes(mut self, n: usize) -> Self {
        self.max_handshakes = n;
        self
    }

    /// Sets how long a handshake may take in all: the PROXY header and the TLS handshake. Defaults to 10 seconds; `None` for no
    /// limit. It must not be zero.
    pub fn handshake_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.handshake_timeout = limit.into();
        self
    }
}
