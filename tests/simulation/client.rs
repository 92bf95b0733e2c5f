//! The program that uses the connection: tasks that read, write and cancel, and record every outcome.
//!
//! Next: `journal.rs`, the record.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use perconn::{Conn, ReadHalf, SharedConn, WriteHalf};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::choices::Choices;
use crate::journal::{HandleId, Journal, Note, Operation, Outcome, Refusal};
use crate::message;
use crate::network::{Network, Stream};

/// One task of the program.
#[derive(Clone)]
pub struct Task {
    pub id: HandleId,
    pub choices: Choices,
    pub journal: Journal,
    pub network: Network,
    /// How many operations it runs.
    pub operations: usize,
}

/// The message that is being written.
#[derive(Default)]
pub struct CurrentMessage {
    number: u32,
    bytes: Vec<u8>,
    written: usize,
}

impl CurrentMessage {
    /// Messages that are written after the end and that no server receives.
    pub fn after_the_end() -> Self {
        Self { number: 1_000_000, ..Self::default() }
    }

    /// No message; the next one gets the next number.
    fn next(self) -> Self {
        Self { number: self.number, ..Self::default() }
    }
}

impl Task {
    /// Runs an operation and records it. By chance, it is dropped before it is done.
    async fn operate<T>(
        &self,
        operation: Operation,
        future: impl Future<Output = io::Result<T>>,
        outcome: impl FnOnce(T) -> Outcome,
    ) -> Outcome {
        self.journal.write(Note::Began(self.id, operation));
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
        self.journal.write(Note::Finished(self.id, operation, outcome.clone()));
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
            Operation::Read,
            read,
            |bytes| {
                if bytes.is_empty() { Outcome::EndOfStream } else { Outcome::Bytes(bytes) }
            },
        )
        .await
    }

    /// Writes the rest of the current message, or begins the next one.
    pub async fn write(&self, writer: &mut (impl AsyncWrite + Unpin), current: &mut CurrentMessage) -> Outcome {
        if current.written == current.bytes.len() {
            current.number += 1;
            current.bytes = message::encode(current.number, self.choices.pick(&[0, 1, 20, 255]));
            current.written = 0;
        }
        let rest = &current.bytes[current.written..];
        let outcome = if self.choices.chance(70) {
            self.operate(Operation::Write, writer.write(rest), Outcome::Wrote).await
        } else {
            let (one, other) = rest.split_at(rest.len() / 2);
            let parts = [IoSlice::new(one), IoSlice::new(other)];
            self.operate(Operation::Write, writer.write_vectored(&parts), Outcome::Wrote).await
        };
        match outcome {
            Outcome::Wrote(n) => {
                current.written += n;
                if current.written == current.bytes.len() {
                    self.journal.write(Note::MessageWritten(current.number));
                }
            }
            // No byte was accepted, and the message continues where it was.
            Outcome::Cancelled | Outcome::Refused(Refusal::TryAgain) => {}
            // The link is gone, and with it the rest of the message.
            _ => current.written = current.bytes.len(),
        }
        outcome
    }

    pub async fn flush(&self, writer: &mut (impl AsyncWrite + Unpin), current: &mut CurrentMessage) -> Outcome {
        let outcome = self.operate(Operation::Flush, writer.flush(), |()| Outcome::Done).await;
        if matches!(outcome, Outcome::Reported(..)) {
            current.written = current.bytes.len();
        }
        outcome
    }

    pub async fn shutdown(&self, writer: &mut (impl AsyncWrite + Unpin)) -> Outcome {
        self.operate(Operation::Shutdown, writer.shutdown(), |()| Outcome::Done).await
    }

    async fn pause(&self) {
        self.network.sleep(self.choices.time(Duration::from_secs(5))).await;
    }
}

/// Methods of every handle besides reading and writing.
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
                        task.operate(Operation::Connected, connected, |()| Outcome::Done).await;
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

/// A task with a whole connection.
pub async fn use_whole(task: Task, mut conn: Conn<Stream>) -> Conn<Stream> {
    let mut current = CurrentMessage::default();
    let mut last_reported = 0;
    for _ in 0..task.operations {
        let (outcome, is_read) = match task.choices.below(20) {
            0..=7 => (task.read(&mut conn).await, true),
            8..=15 => (task.write(&mut conn, &mut current).await, false),
            16 => (task.flush(&mut conn, &mut current).await, false),
            17 => {
                // What the halves have reported counts for the whole. Here they report nothing.
                let (read, write) = conn.into_split();
                conn = read.reunite(write).expect("they belong together");
                continue;
            }
            _ => {
                conn.control(&task).await;
                continue;
            }
        };
        let is_new_break = match outcome {
            // An older break is reported again because an operation was cancelled. It does not concern this message.
            Outcome::Reported(generation, _) if generation <= last_reported => false,
            Outcome::Reported(generation, _) => {
                last_reported = generation;
                true
            }
            Outcome::EndOfStream => {
                last_reported += 1;
                true
            }
            _ => false,
        };
        // After a read has reported the break, a program may drop the message that it had partly written. Or it may go on
        // with it, as a `write_all` beside the read would, and then the write has to report the break, too.
        if is_new_break && is_read && task.choices.chance(50) {
            current = current.next();
        }
    }
    conn
}

/// A task with a read half.
pub async fn use_reader(task: Task, mut reader: ReadHalf<Stream>) -> ReadHalf<Stream> {
    for _ in 0..task.operations {
        match task.choices.below(10) {
            0..=7 => drop(task.read(&mut reader).await),
            _ => reader.control(&task).await,
        }
    }
    reader
}

/// A task with a write half.
pub async fn use_writer(task: Task, mut writer: WriteHalf<Stream>) -> WriteHalf<Stream> {
    let mut current = CurrentMessage::default();
    for _ in 0..task.operations {
        match task.choices.below(10) {
            0..=6 => drop(task.write(&mut writer, &mut current).await),
            7 => drop(task.flush(&mut writer, &mut current).await),
            _ => writer.control(&task).await,
        }
    }
    writer
}

/// A task that reads from a whole connection that `tokio::io::split` has split.
pub async fn use_split_reader<R: AsyncRead + Unpin>(task: Task, mut reader: R) -> R {
    for _ in 0..task.operations {
        match task.choices.below(10) {
            0..=7 => drop(task.read(&mut reader).await),
            _ => task.pause().await,
        }
    }
    reader
}

/// A task that writes on one.
pub async fn use_split_writer<W: AsyncWrite + Unpin>(task: Task, mut writer: W) -> W {
    let mut current = CurrentMessage::default();
    for _ in 0..task.operations {
        match task.choices.below(10) {
            0..=6 => drop(task.write(&mut writer, &mut current).await),
            7 => drop(task.flush(&mut writer, &mut current).await),
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
                task.operate(Operation::Read, read, |bytes| {
                    if bytes.is_empty() { Outcome::EndOfStream } else { Outcome::Bytes(bytes) }
                })
                .await;
            }
            _ => conn.control(&task).await,
        }
    }
    conn
}

/// A task that writes messages on a shared connection, with numbers of its own.
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
    /// Writes one message as one job.
    pub async fn write_job(&self, number: u32, conn: &SharedConn<Stream>) {
        // A few are so large that they are not copied. Through a narrow link they would take too long.
        let is_large = self.network.is_wide() && self.choices.chance(2);
        let length = if is_large { 17_000 } else { self.choices.pick(&[0, 1, 20, 255]) };
        let bytes = message::encode(number, length);
        let outcome = self.operate(Operation::Write, conn.write_all(&bytes), |()| Outcome::Done).await;
        if matches!(outcome, Outcome::Done) {
            self.journal.write(Note::MessageWritten(number));
        }
        self.journal.write(Note::Job(number, outcome));
    }
}
