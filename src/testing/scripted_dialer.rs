//! A dialer that plays a script: what becomes of each dial, and when.
//!
//! Next: [`ScriptedStream`], what happens on a link.

use std::collections::VecDeque;
use std::future;
use std::io;
use std::time::Duration;

use super::ScriptedStream;
use crate::Dial;

/// A dialer whose dials fail, wait and succeed as a test says, without sockets.
///
/// Each dial takes the next steps of the script, up to an outcome. After the last outcome, dials never end: the
/// connection stays disconnected.
///
/// With tokio's paused time (`tokio::time::pause`), a test of an hour of backoff takes a millisecond:
///
/// ```
/// use std::io::ErrorKind;
/// use std::time::Duration;
///
/// use perconn::Conn;
/// use perconn::testing::{ScriptedDialer, ScriptedStream};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// tokio::time::pause();
/// let dialer = ScriptedDialer::new()
///     .fails(ErrorKind::ConnectionRefused)
///     .waits(Duration::from_secs(15))
///     .connects(ScriptedStream::new().expects(b"LOGIN\n").sends(b"OK\n").read_fails(ErrorKind::ConnectionReset))
///     .connects(ScriptedStream::new().sends(b"hello again"));
/// let mut conn = Conn::builder("server:1").dialer(dialer).build()?;
///
/// conn.write_all(b"LOGIN\n").await?;
/// let mut answer = [0; 3];
/// conn.read_exact(&mut answer).await?;
/// assert_eq!(conn.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
/// assert_eq!(conn.read_u8().await?, b'h');
/// assert_eq!(conn.generation(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use = "it dials nothing until it is given to a builder"]
pub struct ScriptedDialer {
    /// The steps that are left.
    steps: VecDeque<Step>,
}

/// One step of a dialer's script.
#[derive(Debug)]
enum Step {
    /// The dial takes this much longer.
    Wait(Duration),
    /// It fails.
    Fail(io::Error),
    /// It succeeds.
    Connect(ScriptedStream),
}

impl ScriptedDialer {
    /// An empty script: the first dial never ends.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next dial fails with this error, or with an error of this kind.
    pub fn fails(self, error: impl Into<io::Error>) -> Self {
        self.then(Step::Fail(error.into()))
    }

    /// The next dial succeeds, and its link is this stream.
    pub fn connects(self, stream: ScriptedStream) -> Self {
        self.then(Step::Connect(stream))
    }

    /// The next dial takes this much longer. A [`dial_timeout`](crate::Builder::dial_timeout) that ends it before that
    /// uses up the wait, and the next dial goes on behind it.
    pub fn waits(self, time: Duration) -> Self {
        self.then(Step::Wait(time))
    }

    /// Adds a step.
    fn then(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }
}

impl Dial for ScriptedDialer {
    type Stream = ScriptedStream;

    async fn dial(&mut self) -> io::Result<ScriptedStream> {
        loop {
            match self.steps.pop_front() {
                Some(Step::Wait(time)) => tokio::time::sleep(time).await,
                Some(Step::Fail(error)) => return Err(error),
                Some(Step::Connect(stream)) => return Ok(stream),
                None => future::pending().await,
            }
        }
    }
}
