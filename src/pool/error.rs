//! The error of a call that asks a pool for a connection or a slot.
//!
//! Next: [`dial`](super::dial_attempt::dial), which makes the most frequent one.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::WaitingFor;
use crate::causes::WithCauses;

/// Why [`Resource::get`](super::Resource::get) and its relatives have nothing to lend.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum GetError {
    /// The dial failed. Every caller that was waiting for this resource gets the same error, and so does every caller
    /// that asks before the next dial may begin.
    #[non_exhaustive]
    Dial {
        /// The address of the resource, or its name.
        name: Arc<str>,
        /// The reason: the error of the last dial.
        source: Arc<io::Error>,
        /// `None` if a dial was made for this call. Otherwise none was made, as the last one had failed a moment ago: the
        /// next one begins when this time has passed, at the earliest.
        retry_in: Option<Duration>,
    },
    /// It took longer than the limit of [`get_timeout`](super::Resource::get_timeout).
    #[non_exhaustive]
    Timeout {
        /// The address of the resource, or its name.
        name: Arc<str>,
        /// The limit.
        limit: Duration,
        /// What the caller was waiting for when the limit was over.
        waiting_for: WaitingFor,
    },
    /// [`try_get`](super::Resource::try_get) would have to wait.
    #[non_exhaustive]
    Busy {
        /// The address of the resource, or its name.
        name: Arc<str>,
        /// What it would have to wait for.
        waiting_for: WaitingFor,
    },
    /// The pool has been closed.
    Closed,
}

impl GetError {
    /// The kind of the [`io::Error`] that this error converts to.
    ///
    /// It is the kind of the dial's error, [`TimedOut`](io::ErrorKind::TimedOut),
    /// [`WouldBlock`](io::ErrorKind::WouldBlock), or [`NotConnected`](io::ErrorKind::NotConnected).
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Dial { source, .. } => source.kind(),
            Self::Timeout { .. } => io::ErrorKind::TimedOut,
            Self::Busy { .. } => io::ErrorKind::WouldBlock,
            Self::Closed => io::ErrorKind::NotConnected,
        }
    }
}

impl GetError {
    /// This error and its causes in one line, for a log.
    ///
    /// ```
    /// use perconn::pool::Pool;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::Error> {
    /// let agent = Pool::new(8)?.resource("127.0.0.1:1")?;
    /// let error = agent.get().await.unwrap_err();
    /// println!("{}", error.with_causes()); // dial to 127.0.0.1:1 failed: Connection refused (os error 111)
    /// # assert!(error.with_causes().to_string().starts_with("dial to 127.0.0.1:1 failed: "));
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_causes(&self) -> impl fmt::Display + '_ {
        WithCauses(self)
    }
}

/// The message says what failed and for which resource. The cause is in [`source`](std::error::Error::source).
impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial { name, retry_in: None, .. } => write!(f, "dial to {name} failed"),
            Self::Dial { name, retry_in: Some(time), .. } => {
                write!(f, "dial to {name} failed, and it is not dialed again for {time:.1?}")
            }
            Self::Timeout { name, limit, waiting_for } => {
                write!(f, "no connection to {name} within {limit:?}: {waiting_for}")
            }
            Self::Busy { name, waiting_for } => write!(f, "{name} is not available without waiting: {waiting_for}"),
            Self::Closed => f.write_str("the pool is closed"),
        }
    }
}

impl std::error::Error for GetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Dial { source, .. } => Some(&**source),
            Self::Timeout { .. } | Self::Busy { .. } | Self::Closed => None,
        }
    }
}

impl From<GetError> for io::Error {
    fn from(error: GetError) -> Self {
        Self::new(error.kind(), error)
    }
}
