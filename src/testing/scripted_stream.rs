//! A stream that plays a script: what the peer sends, and what it expects.
//!
//! Next: [`ScriptedDialer`](super::ScriptedDialer), which makes links of it.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// The client's end of a link without a socket: it sends, expects and fails as a test says.
///
/// Reads take one step after the other, and wait behind an [`expects`](Self::expects) until the program has written that.
/// Writes take the next `expects`, whatever the peer has still to send before it. Behind the script the peer is silent:
/// reads wait, and writes are an error.
///
/// A write that differs from the script is an [`InvalidData`](io::ErrorKind::InvalidData) that names both. It breaks the
/// link: every later read and write returns the same error.
///
/// It can be polled outside of a [`Conn`](crate::Conn), too. [`waits`](Self::waits) needs a tokio runtime with time.
///
/// ```
/// use perconn::testing::ScriptedStream;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let mut stream = ScriptedStream::new().expects(b"ping").sends(b"pong").closes();
/// stream.write_all(b"ping").await?;
/// let mut answer = Vec::new();
/// stream.read_to_end(&mut answer).await?;
/// assert_eq!(answer, b"pong");
///
/// let error = stream.write_all(b"more").await.unwrap_err();
/// assert_eq!(error.to_string(), r#"the script ends here, and the program wrote "more""#);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use = "it does nothing until it is read or written"]
pub struct ScriptedStream {
    /// The steps that are left.
    steps: VecDeque<Step>,
    /// The wait that is under way.
    sleep: Option<Pin<Box<Sleep>>>,
    /// The reader, while it waits for a write.
    reader: Option<Waker>,
    /// How the program has differed from the script.
    mismatch: Option<String>,
}

/// One step of a stream's script.
#[derive(Debug)]
enum Step {
    /// The peer sends this.
    Read(Vec<u8>),
    /// The peer ends the stream. The last step that a read takes.
    Close,
    /// A read fails.
    ReadError(io::ErrorKind),
    /// The peer does nothing for this long.
    Wait(Duration),
    /// The program has to write this.
    Write(Vec<u8>),
    /// The program may write anything from here on.
    WriteAnything,
    /// A write fails.
    WriteError(io::ErrorKind),
}

impl Step {
    /// Whether writes take it.
    fn is_for_writes(&self) -> bool {
        matches!(self, Self::Write(_) | Self::WriteAnything | Self::WriteError(_))
    }
}

impl ScriptedStream {
    /// An empty script: a silent peer.
    pub fn new() -> Self {
        Self::default()
    }

    /// The peer sends these bytes.
    pub fn sends(self, bytes: impl AsRef<[u8]>) -> Self {
        match bytes.as_ref() {
            // A read that returns nothing would be the end of the stream.
            [] => self,
            bytes => self.then(Step::Read(bytes.to_vec())),
        }
    }

    /// The peer closes: reads return the end of the stream from here on.
    pub fn closes(self) -> Self {
        self.then(Step::Close)
    }

    /// A read fails with an error of this kind.
    pub fn read_fails(self, kind: io::ErrorKind) -> Self {
        self.then(Step::ReadError(kind))
    }

    /// Reads wait this long.
    pub fn waits(self, time: Duration) -> Self {
        self.then(Step::Wait(time))
    }

    /// The program has to write these bytes, in as many writes as it likes. Reads wait for that.
    pub fn expects(self, bytes: impl AsRef<[u8]>) -> Self {
        match bytes.as_ref() {
            [] => self,
            bytes => self.then(Step::Write(bytes.to_vec())),
        }
    }

    /// The program may write anything from here on. Reads do not wait for it.
    pub fn expects_anything(self) -> Self {
        self.then(Step::WriteAnything)
    }

    /// A write fails with an error of this kind.
    pub fn write_fails(self, kind: io::ErrorKind) -> Self {
        self.then(Step::WriteError(kind))
    }

    /// Adds a step.
    fn then(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }

    /// The error after a write that differs from the script.
    fn check(&self) -> io::Result<()> {
        self.mismatch.as_ref().map_or(Ok(()), |text| Err(io::Error::new(io::ErrorKind::InvalidData, text.clone())))
    }

    /// Notes a write that differs from the script, and wakes the reader.
    fn set_mismatch(&mut self, text: String) -> io::Result<usize> {
        self.mismatch = Some(text);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        self.check().map(|()| 0)
    }

    /// Takes a step for writes out of the script, and wakes the read that waits behind it.
    fn finish_write_step(&mut self, index: usize) {
        self.steps.remove(index);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl AsyncRead for ScriptedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        me.check()?;
        loop {
            // Anything may be written from there on, or nothing: reads go on behind it.
            let index = me.steps.iter().position(|step| !matches!(step, Step::WriteAnything));
            match index.map(|index| (index, &mut me.steps[index])) {
                Some((index, Step::Read(bytes))) => {
                    let n = bytes.len().min(buf.remaining());
                    buf.put_slice(&bytes[..n]);
                    bytes.drain(..n);
                    if bytes.is_empty() {
                        me.steps.remove(index);
                    }
                    return Poll::Ready(Ok(()));
                }
                Some((_, Step::Close)) => return Poll::Ready(Ok(())),
                Some((index, Step::ReadError(kind))) => {
                    let error = (*kind).into();
                    me.steps.remove(index);
                    return Poll::Ready(Err(error));
                }
                Some((index, Step::Wait(time))) => {
                    let time = *time;
                    let sleep = me.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
                    ready!(sleep.as_mut().poll(cx));
                    me.sleep = None;
                    me.steps.remove(index);
                }
                Some((_, Step::Write(_) | Step::WriteError(_) | Step::WriteAnything)) | None => {
                    me.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }
}

impl AsyncWrite for ScriptedStream {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let me = &mut *self;
        me.check()?;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let index = me.steps.iter().position(Step::is_for_writes);
        Poll::Ready(match index.map(|index| (index, &mut me.steps[index])) {
            Some((index, Step::Write(expected))) => {
                let n = bytes.len().min(expected.len());
                if bytes[..n] != expected[..n] {
                    let (expected, wrote) = (Text(expected), Text(bytes));
                    let text = format!("the script expects {expected}, and the program wrote {wrote}");
                    return Poll::Ready(me.set_mismatch(text));
                }
                expected.drain(..n);
                if expected.is_empty() {
                    me.finish_write_step(index);
                }
                Ok(n)
            }
            Some((index, Step::WriteError(kind))) => {
                let error = (*kind).into();
                me.finish_write_step(index);
                Err(error)
            }
            Some(_) => Ok(bytes.len()),
            None => me.set_mismatch(format!("the script ends here, and the program wrote {}", Text(bytes))),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The first bytes of some, for an error.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 40;
        let shown = &self.0[..self.0.len().min(SHOWN)];
        write!(f, "\"{}\"", shown.escape_ascii())?;
        match self.0.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, " and {more} bytes more"),
        }
    }
}
