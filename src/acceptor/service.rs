//! The service: the handler of the program, and what a client gets that the handler does not serve.
//!
//! The accept loop and the tasks of connections share it. A stream does not know it, so that a kept stream does not
//! keep the program's handler.
//!
//! Next: [`super::run_handler`], which runs the handler.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::admission::Admission;
use super::handshake::Handshaker;
use super::{Peer, Stream};

/// A handler at work on one connection.
pub(super) type HandlerFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Makes the handler of one connection.
pub(super) type StartHandler = Arc<dyn Fn(Stream, Peer) -> HandlerFuture + Send + Sync>;

/// What serves a connection.
pub(super) struct Handler {
    /// Calls the program's closure.
    pub(super) start: StartHandler,
    /// Whether a write means that everything received so far is handled. Lines say so by `message_done` only.
    pub(super) writes_are_answers: bool,
}

/// How many refused clients are waited for at once. It is more than tokio lets the accept loop accept in one turn
/// (128), so that a burst alone does not reach it.
const MAX_REFUSALS: usize = 256;

/// What an acceptor serves.
pub(super) struct Service {
    /// Makes the handler of each connection that gets a slot.
    pub(super) handler: Handler,
    /// The text for a client that is refused.
    pub(super) refusal: Arc<[u8]>,
    /// One permit for each refused client that is waited for.
    pub(super) refusals: Arc<Semaphore>,
    /// `TCP_NODELAY` of each accepted socket. `None` keeps the system's default.
    pub(super) nodelay: Option<bool>,
    /// Asked as soon as it is known who the client is.
    pub(super) admission: Admission,
    /// How many connections are accepted in a second. `None`: no limit.
    pub(super) accept_rate: Option<u32>,
    /// What comes before the handler. `None` if nothing does.
    pub(super) handshaker: Option<Arc<Handshaker>>,
}

impl Service {
    /// All permits are free.
    pub(super) fn refusals() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(MAX_REFUSALS))
    }
}
