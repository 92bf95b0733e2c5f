//! The journal of a schedule: what happened, in order and with the virtual time.
//!
//! The checker reads it, and so does a person who replays a seed. Next: `checker.rs`.

use std::fmt::{self, Write as _};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perconn::{Error, Event};
use tokio::time::Instant;

/// The journal of one schedule; a clone writes into the same one.
#[derive(Clone)]
pub struct Journal {
    began: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
}

#[derive(Clone)]
pub struct Entry {
    pub at: Duration,
    pub note: Note,
}

#[derive(Clone, Debug)]
#[allow(dead_code, reason = "some fields are only printed")]
pub enum Note {
    /// A dial began, to the server of this number.
    DialBegan(usize),
    /// The dial made the link of this number.
    DialSucceeded(u64),
    DialFailed,
    /// The connection dropped the dial.
    DialDropped,
    /// The first bytes of the program are on a link.
    FirstBytes(u64),
    /// The server ended a link.
    Ended(u64, End),
    Event(Event),
    Logged(LogLine),
    HookPanicked,
    /// A handle began an operation.
    Began(HandleId, Operation),
    /// The outcome of an operation.
    Finished(HandleId, Operation, Outcome),
    /// The program finished a message: every byte of it was accepted.
    MessageWritten(u32),
    /// The outcome of a message that was one job.
    Job(u32, Outcome),
    Abandoned(HandleId, Abandoned),
    /// A handle took the link that was up, without an operation.
    TookLink(HandleId),
    BreakLink(BreakLink),
    /// `dial_now` was called, while a link was up or not.
    DialNow {
        is_up: bool,
    },
    /// A request got this answer. Both are numbers of requests.
    Answer {
        request: u32,
        answer: u32,
    },
    CloseCalled,
    CloseDone,
    /// From here on everything works.
    FaultsStopped,
}

/// One call of `abandon`, and the links at that moment.
#[derive(Clone, Debug)]
pub struct Abandoned {
    /// The link that was up before and after the call.
    pub before: Option<u64>,
    pub after: Option<u64>,
    /// The number of the newest link.
    pub newest: u64,
    /// What the handle has reported, by its own account after the call.
    pub last_reported: u64,
    /// The bytes that have passed until now, on all links that the handle has reported or given up.
    pub passed: Passed,
    /// Which of these links still have a stream.
    pub kept: Vec<u64>,
}

/// How many bytes have passed on some links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    pub written: usize,
    pub read: usize,
}

/// One call of `break_link`.
#[derive(Clone, Copy, Debug)]
pub struct BreakLink {
    pub generation: u64,
    /// The link that was up before and after the call.
    pub before: Option<u64>,
    pub after: Option<u64>,
}

/// A handle of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandleId {
    Whole,
    ReadHalf,
    WriteHalf,
    /// The two ends of a whole connection after `tokio::io::split`.
    SplitRead,
    SplitWrite,
    /// Clones of a shared connection, by number.
    SharedReader(u32),
    SharedWriter(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Read,
    Write,
    Flush,
    Shutdown,
    Connected,
}

#[derive(Clone, Debug)]
#[allow(dead_code, reason = "some fields are only printed")]
pub enum Outcome {
    Bytes(Vec<u8>),
    Wrote(usize),
    Done,
    EndOfStream,
    /// The break of this generation.
    Reported(u64, io::ErrorKind),
    /// The jobs on this link may be lost, and this one was not sent.
    ShortLink(u64),
    Refused(Refusal),
    Cancelled,
}

/// An error that reports no break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Closed,
    GaveUp,
    Down,
    WaitTimeout,
    /// `WouldBlock` or `Interrupted`.
    TryAgain,
    AfterShutdown,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLine {
    DialFailure,
    Break(u64),
    GaveUp,
    HookPanicked,
    Other,
}

/// How the server ends a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Close,
    Reset,
    /// A call on the client end failed.
    Broke,
}

impl Journal {
    pub fn new() -> Self {
        Self { began: Instant::now(), entries: Arc::default() }
    }

    pub fn write(&self, note: Note) {
        self.entries.lock().unwrap().push(Entry { at: self.began.elapsed(), note });
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }
}

impl Outcome {
    pub fn of_error(error: &io::Error) -> Self {
        let refusal = match Error::of(error) {
            Some(Error::IoError { generation, .. }) => return Self::Reported(*generation, error.kind()),
            Some(Error::ShortLink { generation, .. }) => return Self::ShortLink(*generation),
            Some(Error::ClosedConnection) if error.kind() == io::ErrorKind::BrokenPipe => Refusal::AfterShutdown,
            Some(Error::ClosedConnection) => Refusal::Closed,
            Some(Error::GaveUp { .. }) => Refusal::GaveUp,
            Some(Error::Down { .. }) => Refusal::Down,
            Some(Error::WaitTimeout { .. }) => Refusal::WaitTimeout,
            None if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Refusal::TryAgain,
            _ => Refusal::Other,
        };
        Self::Refused(refusal)
    }
}

impl LogLine {
    pub fn of(error: &Error) -> Self {
        match error {
            Error::DialFailure { .. } => Self::DialFailure,
            Error::IoError { generation, .. } => Self::Break(*generation),
            Error::GaveUp { .. } => Self::GaveUp,
            Error::HookPanicked { .. } => Self::HookPanicked,
            _ => Self::Other,
        }
    }
}

/// One line.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>14.6}  ", self.at.as_secs_f64())?;
        match &self.note {
            Note::Finished(id, operation, Outcome::Bytes(bytes)) => {
                write!(f, "{id:?} {operation:?}: {} bytes", bytes.len())
            }
            Note::Finished(id, operation, outcome) => write!(f, "{id:?} {operation:?}: {outcome:?}"),
            Note::Event(event) => write!(f, "event: {event}"),
            note => write!(f, "{note:?}"),
        }
    }
}

/// The whole journal as text.
pub fn text(entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let _ = writeln!(text, "{entry}");
    }
    text
}
