//! The program under the connection: tasks that read and write, change their minds, and note all that they are told.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use perconn::{Conn, ReadHalf, SharedConn, WriteHalf};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::choices::Choices;
use crate::journal::{Journal, Note, Outcome, Refusal, What, Who};
use crate::message;
use crate::network::{Network, Stream};

/// What a task works with.
#[derive(Clone)]
pub struct Task {
    pub who: Who,
    pub choices: Choices,
    pub journal: Journal,
    pub network: Network,
    /// How many operations it makes.
    pub operations: usize,
}

/// The message that is being written.
#[derive(Default)]
pub struct Outbox {
    number: u32,
    bytes: Vec<u8>,
    written: usize,
}

impl Outbox {
    /// Messages that nobody is to receive.
    pub fn after_the_end() -> Self {
        Self { number: 1_000_000, ..Self::default() }
    }

    fn next(self) -> Self {
        Self { number: self.number, ..Self::default() }
    }
}

impl Task {
    /// Makes an operation, and notes it. It may be dropped before it is done.
    async fn operate<T>(
        &self,
        what: What,
        future: impl Future<Output = io::Result<T>>,
        outcome: impl FnOnce(T) -> Outcome,
    ) -> Outcome {
        self.journal.write(Note::Began(self.who, what));
        let mut future = pin!(future);
        let result = match self.choices.below(4) {
            0..=1 => Some(future.await),
            2 => {
                let mut polls = 1 + self.choices.below(3);
                poll_fn(|cx| match future.as_mut().poll(cx) {
                    Poll::Ready(result) => Poll::Ready(Some(result)),
                    Poll::Pending => {
                        polls -= 1;
                        if polls == 0 { Poll::Ready(None) } else { Poll::Pending }
                    }
                })
                .await
            }
            _ => timeout(self.choices.time(Duration::from_secs(20)), future).await.ok(),
        };
        let outcome = match result {
            None => Outcome::Cancelled,
            Some(Ok(value)) => outcome(value),
            Some(Err(error)) => Outcome::of_error(&error),
        };
        self.journal.write(Note::Finished(self.who, what, outcome.clone()));
        outcome
    }

    pub async fn read(&self, reader: &mut (impl AsyncRead + Unpin)) -> Outcome {
        let mut buf = vec![0; self.choices.pick(&[1, 7, 64, 500])];
        let read = async {
            let n = reader.read(&mut buf).await?;
            buf.truncate(n);
            Ok(buf)
        };
        self.operate(
            What::Read,
            read,
            |bytes| {
                if bytes.is_empty() { Outcome::EndOfStream } else { Outcome::Bytes(bytes) }
            },
        )
        .await
    }

    /// Writes on at the message in the outbox, or begins another.
    pub async fn write(&self, writer: &mut (impl AsyncWrite + Unpin), outbox: &mut Outbox) -> Outcome {
        if outbox.written == outbox.bytes.len() {
            outbox.number += 1;
            outbox.bytes = message::encode(outbox.number, self.choices.pick(&[0, 1, 20, 255]));
            outbox.written = 0;
        }
        let rest = &outbox.bytes[outbox.written..];
        let outcome = if self.choices.chance(70) {
            self.operate(What::Write, writer.write(rest), Outcome::Wrote).await
        } else {
            let (one, other) = rest.split_at(rest.len() / 2);
            let parts = [IoSlice::new(one), IoSlice::new(other)];
            self.operate(What::Write, writer.write_vectored(&parts), Outcome::Wrote).await
        };
        match outcome {
            Outcome::Wrote(n) => {
                outbox.written += n;
                if outbox.written == outbox.bytes.len() {
                    self.journal.write(Note::MessageWritten(outbox.number));
                }
            }
            // Nothing was accepted, and the message goes on where it was.
            Outcome::Cancelled | Outcome::Refused(Refusal::Passing) => {}
            // The link is gone, and the rest of the message with it.
            _ => outbox.written = outbox.bytes.len(),
        }
        outcome
    }

    pub async fn flush(&self, writer: &mut (impl AsyncWrite + Unpin), outbox: &mut Outbox) -> Outcome {
        let outcome = self.operate(What::Flush, writer.flush(), |()| Outcome::Done).await;
        if matches!(outcome, Outcome::Told(..)) {
            outbox.written = outbox.bytes.len();
        }
        outcome
    }

    pub async fn shutdown(&self, writer: &mut (impl AsyncWrite + Unpin)) -> Outcome {
        self.operate(What::Shutdown, writer.shutdown(), |()| Outcome::Done).await
    }

    async fn pause(&self) {
        self.network.sleep(self.choices.time(Duration::from_secs(5))).await;
    }
}

/// What every handle of this crate can do beside reading and writing.
pub trait Control {
    fn control(&self, task: &Task) -> impl Future<Output = ()>;
}

macro_rules! control {
    ($($handle:ident),*) => {$(
        impl Control for $handle<Stream> {
            async fn control(&self, task: &Task) {
                match task.choices.below(8) {
                    0..=1 => {
                        task.journal.write(Note::Reconnect);
                        self.reconnect();
                    }
                    2..=4 => {
                        let connected = async { self.connected().await.map_err(io::Error::from) };
                        task.operate(What::Connected, connected, |()| Outcome::Done).await;
                    }
                    5 => assert_eq!(self.is_connected(), self.status().is_connected()),
                    6 => drop((self.generation(), format!("{self:?}"))),
                    _ => task.pause().await,
                }
            }
        }
    )*};
}

control!(Conn, ReadHalf, WriteHalf, SharedConn);

/// One task with a whole connection.
pub async fn use_whole(task: Task, mut conn: Conn<Stream>) -> Conn<Stream> {
    let mut outbox = Outbox::default();
    let mut told = 0;
    for _ in 0..task.operations {
        let (outcome, is_read) = match task.choices.below(20) {
            0..=7 => (task.read(&mut conn).await, true),
            8..=15 => (task.write(&mut conn, &mut outbox).await, false),
            16 => (task.flush(&mut conn, &mut outbox).await, false),
            17 => {
                // What halves were told, the whole was: here they are told of nothing.
                let (read, write) = conn.into_split();
                conn = read.reunite(write).expect("they belong together");
                continue;
            }
            _ => {
                conn.control(&task).await;
                continue;
            }
        };
        let is_news = match outcome {
            // An older one is told again because an operation was cancelled, and says nothing of this message.
            Outcome::Told(generation, _) if generation <= told => false,
            Outcome::Told(generation, _) => {
                told = generation;
                true
            }
            Outcome::EndOfStream => {
                told += 1;
                true
            }
            _ => false,
        };
        // A program that is told by a read may forget the message of which it had written a part; or it may go on with
        // it, as a `write_all` beside the read would, and has to be told then.
        if is_news && is_read && task.choices.chance(50) {
            outbox = outbox.next();
        }
    }
    conn
}

/// One task that reads.
pub async fn use_reader(task: Task, mut reader: ReadHalf<Stream>) -> ReadHalf<Stream> {
    for _ in 0..task.operations {
        match task.choices.below(10) {
            0..=7 => drop(task.read(&mut reader).await),
            _ => reader.control(&task).await,
        }
    }
    reader
}

/// And one that writes.
pub async fn use_writer(task: Task, mut writer: WriteHalf<Stream>) -> WriteHalf<Stream> {
    let mut outbox = Outbox::default();
    for _ in 0..task.operations {
        match task.choices.below(10) {
            0..=6 => drop(task.write(&mut writer, &mut outbox).await),
            7 => drop(task.flush(&mut writer, &mut outbox).await),
            _ => writer.control(&task).await,
        }
    }
    writer
}

/// The same on a whole connection that tokio split.
pub async fn use_split_reader<R: AsyncRead + Unpin>(task: Task, mut reader: R) -> R {
    for _ in 0..task.operations {
        match task.choices.below(10) {
            0..=7 => drop(task.read(&mut reader).await),
            _ => task.pause().await,
        }
    }
    reader
}

pub async fn use_split_writer<W: AsyncWrite + Unpin>(task: Task, mut writer: W) -> W {
    let mut outbox = Outbox::default();
    for _ in 0..task.operations {
        match task.choices.below(10) {
            0..=6 => drop(task.write(&mut writer, &mut outbox).await),
            7 => drop(task.flush(&mut writer, &mut outbox).await),
            _ => task.pause().await,
        }
    }
    writer
}

pub type Reader = ReadHalf<Stream>;
pub type Writer = WriteHalf<Stream>;

/// A task that reads from a shared connection.
pub async fn use_shared_reader(task: Task, conn: SharedConn<Stream>) -> SharedConn<Stream> {
    for _ in 0..task.operations {
        match task.choices.below(10) {
            0..=7 => {
                let mut buf = vec![0; task.choices.pick(&[1, 7, 64, 500])];
                let read = async {
                    let n = conn.read(&mut buf).await?;
                    buf.truncate(n);
                    Ok(buf)
                };
                task.operate(What::Read, read, |bytes| {
                    if bytes.is_empty() { Outcome::EndOfStream } else { Outcome::Bytes(bytes) }
                })
                .await;
            }
            _ => conn.control(&task).await,
        }
    }
    conn
}

/// A task that writes on one, messages with numbers of its own.
pub async fn use_shared_writer(task: Task, number: u32, conn: SharedConn<Stream>) -> SharedConn<Stream> {
    for message in 1..=task.operations as u32 {
        match task.choices.below(10) {
            0..=7 => task.write_job(number << message::WRITER_SHIFT | message, &conn).await,
            8 => task.pause().await,
            _ => conn.control(&task).await,
        }
    }
    conn
}

impl Task {
    pub async fn write_job(&self, number: u32, conn: &SharedConn<Stream>) {
        // A few are so large that they are not copied; through a narrow wire they would take for ever.
        let is_large = self.network.is_wide() && self.choices.chance(2);
        let length = if is_large { 17_000 } else { self.choices.pick(&[0, 1, 20, 255]) };
        let bytes = message::encode(number, length);
        let outcome = self.operate(What::Write, conn.write_all(&bytes), |()| Outcome::Done).await;
        if matches!(outcome, Outcome::Done) {
            self.journal.write(Note::MessageWritten(number));
        }
        self.journal.write(Note::Job(number, outcome));
    }
}
