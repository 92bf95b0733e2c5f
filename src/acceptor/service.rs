//! What is served, and how. The accept loop and a connection's task know it; a stream does not.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{Peer, Stream};

/// What a handler is at work with.
pub(super) type Work = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

pub(super) type Start = Arc<dyn Fn(Stream, Peer) -> Work + Send + Sync>;

/// What serves a connection.
pub(super) struct Handler {
    pub(super) start: Start,
    /// See `Stream`.
    pub(super) writes_are_answers: bool,
}

/// So many refused clients are seen off at the same time; those beyond are not waited for. More than tokio lets the accept loop
/// accept in one go (128), so that a burst alone does not reach it.
const REFUSED_AT_ONCE: usize = 256;

pub(super) struct Service {
    pub(super) handler: Handler,
    pub(super) refusal: Vec<u8>,
    pub(super) refusing: Arc<Semaphore>,
    pub(super) nodelay: Option<bool>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Arc<super::tls::Sessions>>,
}

impl Service {
    pub(super) fn refusing() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(REFUSED_AT_ONCE))
    }
}
