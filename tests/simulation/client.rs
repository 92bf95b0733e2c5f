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
use crate::journal::{Abandoned, BreakLink, HandleId, Journal, Note, Operation, Outcome, Refusal};
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
    /// It drops no single operation. A whole exchange may be dropped.
    pub is_patient: bool,
}

/// Records an operation that was dropped.
struct OperationGuard<'a> {
    task: &'a Task,
    operation: Operation,
    is_done: bool,
}

impl Drop for OperationGuard<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.task.journal.write(Note::Finished(self.task.id, self.operation, Outcome::Cancelled));
        }
    }
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
    pub fn next(self) -> Self {
        Self { number: self.number, ..Self::default() }
    }

    /// Whether every byte of it was accepted.
    fn is_done(&self) -> bool {
        self.written == self.bytes.len()
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
        let mut guard = OperationGuard { task: self, operation, is_done: false };
        let result = if self.is_patient { Some(future.await) } else { self.drop_by_chance(future).await };
        let outcome = match result {
            None => return Outcome::Cancelled,
            Some(Ok(value)) => outcome(value),
            Some(Err(error)) => Outcome::of_error(&error),
        };
        guard.is_done = true;
        self.journal.write(Note::Finished(self.id, operation, outcome.clone()));
        outcome
    }

    /// Waits for a future. By chance, drops it before it is done: after some polls, or after some time.
    async fn drop_by_chance<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        match self.choices.below(4) {
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
        }
    }

    pub async fn read(&self, reader: &mut (impl AsyncRead + Unpin)) -> Outcome {
        self.read_up_to(self.choices.pick(&[1, 7, 64, 500]), reader).await
    }

    /// Reads up to `n` bytes.
    async fn read_up_to(&self, n: usize, reader: &mut (impl AsyncRead + Unpin)) -> Outcome {
        let mut buf = vec![0; n];
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
        if current.is_done() {
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
                if current.is_done() {
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
    /// The link that is up.
    fn live(&self) -> Option<u64>;

    fn control(&self, task: &Task) -> impl Future<Output = ()>;
}

macro_rules! control {
    ($($handle:ident),*) => {$(
        impl Control for $handle<Stream> {
            fn live(&self) -> Option<u64> {
                self.is_connected().then(|| self.generation())
            }

            async fn control(&self, task: &Task) {
                match task.choices.below(12) {
                    0..=1 => {
                        let newest = self.generation();
                        let others = [newest, newest.saturating_sub(1), newest + 1, self.last_reported(), 0, u64::MAX];
                        let (generation, before) = (task.choices.pick(&others), self.live());
                        self.break_link(generation);
                        let after = self.live();
                        task.journal.write(Note::BreakLink(BreakLink { generation, before, after }));
                    }
                    2..=4 => {
                        for _ in 0..task.choices.pick(&[1, 1, 2, 5]) {
                            task.journal.write(Note::DialNow { is_up: self.is_connected() });
                            self.dial_now();
                            if task.choices.chance(50) {
                                task.pause().await;
                            }
                        }
                    }
                    5..=7 => {
                        let connected = async { self.connected().await.map_err(io::Error::from) };
                        task.operate(Operation::Connected, connected, |()| Outcome::Done).await;
                    }
                    8 => assert_eq!(self.is_connected(), self.status().is_connected()),
                    9 => drop((self.generation(), format!("{self:?}"))),
                    _ => task.pause().await,
                }
            }
        }
    )*};
}

control!(Conn, ReadHalf, WriteHalf, SharedConn);

/// Handles that can give their link up.
pub trait Abandon: Control {
    /// Gives the link up and records what that did.
    fn give_up_link(&mut self, task: &Task);
}

macro_rules! abandon {
    ($($handle:ident),*) => {$(
        impl Abandon for $handle<Stream> {
            fn give_up_link(&mut self, task: &Task) {
                let before = self.live();
                self.abandon();
                let (after, newest, last_reported) = (self.live(), self.generation(), self.last_reported());
                let (passed, kept) = task.network.passed(last_reported);
                let abandoned = Abandoned { before, after, newest, last_reported, passed, kept };
                task.journal.write(Note::Abandoned(task.id, abandoned));
            }
        }
    )*};
}

abandon!(Conn, ReadHalf, WriteHalf);

/// A task with a whole connection.
pub async fn use_whole(task: Task, mut conn: Conn<Stream>, mut current: CurrentMessage) -> Conn<Stream> {
    // What the connection had reported at the last write, and whether it still knows of that write.
    let (mut reported_at_write, mut knows_write) = (0, true);
    for _ in 0..task.operations {
        let reported_before = conn.last_reported();
        let (outcome, is_read) = match task.choices.below(22) {
            0..=7 => (task.read(&mut conn).await, true),
            8..=15 => (task.write(&mut conn, &mut current).await, false),
            16 => (task.flush(&mut conn, &mut current).await, false),
            17 => {
                // What the halves have reported counts for the whole. Here they report nothing.
                task.journal.write(Note::TookLink(task.id));
                let (read, write) = conn.into_split();
                conn = read.reunite(write).expect("they belong together");
                // From here on, no write reports a break because an earlier write took only a part of a message.
                knows_write = false;
                if reported_at_write != reported_before {
                    current = current.next();
                }
                continue;
            }
            18 => {
                conn.give_up_link(&task);
                current = current.next();
                continue;
            }
            _ => {
                conn.control(&task).await;
                if task.choices.chance(40) {
                    conn.give_up_link(&task);
                    current = current.next();
                }
                continue;
            }
        };
        if matches!(outcome, Outcome::Cancelled) && task.choices.chance(30) {
            conn.give_up_link(&task);
            current = current.next();
            continue;
        }
        if matches!(outcome, Outcome::Wrote(_)) {
            (reported_at_write, knows_write) = (conn.last_reported(), true);
        }
        // An older break can be reported again because an operation was cancelled. It does not concern this message.
        let is_new_break = conn.last_reported() > reported_before;
        // After a read has reported the break, a program may drop the message that it had partly written. Or it may go on
        // with it, as a `write_all` beside the read would, and then the write has to report the break, too.
        if is_new_break && is_read && (task.choices.chance(50) || !knows_write) {
            current = current.next();
        }
    }
    conn
}

/// A task that sends requests on a whole connection and waits for their answers. It drops some exchanges.
pub async fn use_requests(task: Task, mut conn: Conn<Stream>) -> Conn<Stream> {
    let mut current = CurrentMessage::default();
    for _ in 0..task.operations {
        match task.choices.below(10) {
            0..=7 => current = task.request(&mut conn, current).await,
            8 => task.pause().await,
            _ => conn.control(&task).await,
        }
    }
    conn
}

impl Task {
    /// Sends a request and waits for the answer. Gives the link up if it has lost its place.
    async fn request(&self, conn: &mut Conn<Stream>, mut current: CurrentMessage) -> CurrentMessage {
        let patient = Self { is_patient: true, ..self.clone() };
        let outcome = self.drop_by_chance(patient.exchange(conn, &mut current)).await;
        match outcome {
            Some(Ok(answer)) => self.journal.write(Note::Answer { request: current.number, answer }),
            // The connection has reported that the link is gone, or that there is none.
            Some(Err(
                Outcome::Reported(..) | Outcome::EndOfStream | Outcome::Refused(Refusal::Down | Refusal::WaitTimeout),
            )) if self.choices.chance(50) => {}
            _ => conn.give_up_link(self),
        }
        current.next()
    }

    /// One request and its answer. An error is any other outcome of a write or read.
    async fn exchange(&self, conn: &mut Conn<Stream>, current: &mut CurrentMessage) -> Result<u32, Outcome> {
        loop {
            match self.write(conn, current).await {
                Outcome::Wrote(_) if current.is_done() => break,
                Outcome::Wrote(_) => {}
                outcome => return Err(outcome),
            }
        }
        let mut answer = Vec::new();
        while answer.len() < 4 {
            match self.read_up_to(4 - answer.len(), conn).await {
                Outcome::Bytes(bytes) => answer.extend(bytes),
                outcome => return Err(outcome),
            }
        }
        Ok(u32::from_be_bytes(answer.try_into().expect("an answer has four bytes")))
    }

    /// Reads until the end of the stream or an error.
    pub async fn read_to_end(&self, reader: &mut (impl AsyncRead + Unpin)) {
        for _ in 0..1_000 {
            if !matches!(self.read(reader).await, Outcome::Bytes(_) | Outcome::Cancelled) {
                return;
            }
        }
    }
}

/// A task with a read half.
pub async fn use_reader(task: Task, mut reader: ReadHalf<Stream>) -> ReadHalf<Stream> {
    for _ in 0..task.operations {
        match task.choices.below(20) {
            0..=14 => {
                let outcome = task.read(&mut reader).await;
                if matches!(outcome, Outcome::Cancelled) && task.choices.chance(20) {
                    reader.give_up_link(&task);
                }
            }
            15 => reader.give_up_link(&task),
            _ => reader.control(&task).await,
        }
    }
    reader
}

/// A task with a write half.
pub async fn use_writer(task: Task, mut writer: WriteHalf<Stream>) -> WriteHalf<Stream> {
    let mut current = CurrentMessage::default();
    for _ in 0..task.operations {
        match task.choices.below(20) {
            0..=12 => {
                let outcome = task.write(&mut writer, &mut current).await;
                if matches!(outcome, Outcome::Cancelled) && task.choices.chance(20) {
                    writer.give_up_link(&task);
                    current = current.next();
                }
            }
            13..=14 => drop(task.flush(&mut writer, &mut current).await),
            15 => {
                writer.give_up_link(&task);
                current = current.next();
            }
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

/// A task that writes on one. Returns the message that it was writing, too.
pub async fn use_split_writer<W: AsyncWrite + Unpin>(task: Task, mut writer: W) -> (W, CurrentMessage) {
    let mut current = CurrentMessage::default();
    for _ in 0..task.operations {
        match task.choices.below(10) {
            0..=6 => drop(task.write(&mut writer, &mut current).await),
            7 => drop(task.flush(&mut writer, &mut current).await),
            _ => task.pause().await,
        }
    }
    (writer, current)
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
