//! What happened in a schedule, in order and with the virtual time, for the judge and for whoever replays a seed.

use std::fmt::{self, Write as _};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perconn::{Error, Event};
use tokio::time::Instant;

/// The common record of one schedule.
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
#[allow(dead_code, reason = "some fields are there for the reader of a journal")]
pub enum Note {
    DialBegan,
    /// It made the wire of this number.
    DialSucceeded(u64),
    DialFailed,
    /// The connection did not wait for its outcome.
    DialDropped,
    /// The server ended a wire.
    Ended(u64, End),
    Event(Event),
    Logged(LogLine),
    HookPanicked,
    /// A handle began an operation.
    Began(Who, What),
    /// And this is what became of it.
    Finished(Who, What, Outcome),
    /// The program finished a message: every byte of it was accepted.
    MessageWritten(u32),
    /// What became of a message that was one job.
    Job(u32, Outcome),
    Reconnect,
    CloseCalled,
    CloseDone,
    /// Everything from here on is in good weather.
    Calm,
}

/// A handle of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    Whole,
    ReadHalf,
    WriteHalf,
    /// The two ends of a whole connection that tokio split.
    SplitRead,
    SplitWrite,
    /// Clones of a shared connection, by number.
    SharedReader(u32),
    SharedWriter(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    Read,
    Write,
    Flush,
    Shutdown,
    Connected,
}

#[derive(Clone, Debug)]
#[allow(dead_code, reason = "some fields are there for the reader of a journal")]
pub enum Outcome {
    Bytes(Vec<u8>),
    Wrote(usize),
    Done,
    EndOfStream,
    /// Told of the break of this generation.
    Told(u64, io::ErrorKind),
    Refused(Refusal),
    Cancelled,
}

/// An error that tells of no break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Closed,
    GaveUp,
    Down,
    WaitTimeout,
    /// `WouldBlock` or `Interrupted`.
    Passing,
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

/// How the server ends a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Close,
    Reset,
    /// The stream itself failed in the program's hands.
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
            Some(Error::IoError { generation, .. }) => return Self::Told(*generation, error.kind()),
            Some(Error::ClosedConnection) if error.kind() == io::ErrorKind::BrokenPipe => Refusal::AfterShutdown,
            Some(Error::ClosedConnection) => Refusal::Closed,
            Some(Error::GaveUp { .. }) => Refusal::GaveUp,
            Some(Error::Down { .. }) => Refusal::Down,
            Some(Error::WaitTimeout { .. }) => Refusal::WaitTimeout,
            None if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Refusal::Passing,
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

/// One line an entry.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>14.6}  ", self.at.as_secs_f64())?;
        match &self.note {
            Note::Finished(who, what, Outcome::Bytes(bytes)) => write!(f, "{who:?} {what:?}: {} bytes", bytes.len()),
            Note::Finished(who, what, outcome) => write!(f, "{who:?} {what:?}: {outcome:?}"),
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
