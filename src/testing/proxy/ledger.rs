//! What has happened: one record for each link.
//!
//! Next: [`wait`](super::wait), which waits for it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::plan::{Cut, Direction};

/// What the proxy knows of one link.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkRecord {
    /// Its number, from 1, in the order in which the links were accepted.
    pub number: usize,
    /// When it was accepted, since the start of the proxy.
    pub accepted_at: Duration,
    /// When it ended, since the start of the proxy; `None` while it goes on.
    pub ended_at: Option<Duration>,
    /// How many bytes of the client the proxy has sent to the server. Its program need not have read them.
    pub to_server: u64,
    /// How many bytes of the server the proxy has sent to the client. Its program need not have read them.
    pub to_client: u64,
    /// How it ended; `None` while it goes on. A link that was stalled goes on.
    pub end: Option<LinkEnd>,
    /// Whether it was cut by a [`Cut::Stall`].
    pub is_stalled: bool,
}

impl LinkRecord {
    /// How many bytes have passed in this direction.
    pub fn bytes(&self, direction: Direction) -> u64 {
        match direction {
            Direction::ToServer => self.to_server,
            Direction::ToClient => self.to_client,
        }
    }
}

/// One line: the number, the times, the bytes, and the end.
impl fmt::Display for LinkRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, accepted_at, to_server, to_client, .. } = self;
        write!(
            f,
            "link {number}: accepted at {accepted_at:.3?}, {to_server} bytes to the server, {to_client} bytes back, "
        )?;
        match (&self.end, self.ended_at) {
            (Some(end), Some(at)) => write!(f, "{end} at {at:.3?}"),
            _ if self.is_stalled => f.write_str("stalled"),
            _ => f.write_str("still open"),
        }
    }
}

/// How a link ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LinkEnd {
    /// The proxy cut it: by the script, which includes [`accept_and_close`](super::Link::accept_and_close) and
    /// [`accept_and_reset`](super::Link::accept_and_reset), or by [`cut`](super::FaultProxy::cut).
    Cut(Cut),
    /// Both peers had closed their sides; this one began.
    ClosedBy(Peer),
    /// This peer reset it, or its socket failed.
    ResetBy(Peer),
    /// The server could not be dialed, for this reason. The client was reset.
    NoServer(Arc<io::Error>),
}

impl fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(cut) => write!(f, "cut ({cut})"),
            Self::ClosedBy(peer) => write!(f, "closed by the {peer}"),
            Self::ResetBy(peer) => write!(f, "reset by the {peer}"),
            Self::NoServer(error) => write!(f, "no server: {error}"),
        }
    }
}

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// The program under test.
    Client,
    /// The real server.
    Server,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// All records. Each change wakes those that wait for it.
#[derive(Debug)]
pub(super) struct Ledger {
    /// When the proxy started.
    began: Instant,
    /// In the order of their numbers.
    records: watch::Sender<Vec<LinkRecord>>,
}

impl Ledger {
    /// No link yet.
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), records: watch::Sender::new(Vec::new()) }
    }

    /// All records at this moment.
    pub(super) fn records(&self) -> Vec<LinkRecord> {
        self.records.borrow().clone()
    }

    /// For waiting.
    pub(super) fn subscribe(&self) -> watch::Receiver<Vec<LinkRecord>> {
        self.records.subscribe()
    }

    /// The number of the next link.
    pub(super) fn next_number(&self) -> usize {
        self.records.borrow().len() + 1
    }

    /// A link was accepted.
    pub(super) fn add(&self) {
        let (number, accepted_at) = (self.next_number(), self.began.elapsed());
        self.records.send_modify(|records| {
            let (ended_at, end, is_stalled) = (None, None, false);
            records.push(LinkRecord { number, accepted_at, ended_at, to_server: 0, to_client: 0, end, is_stalled });
        });
    }

    /// Bytes have passed.
    pub(super) fn passed(&self, number: usize, direction: Direction, bytes: usize) {
        self.records.send_modify(|records| {
            let record = &mut records[number - 1];
            match direction {
                Direction::ToServer => record.to_server += bytes as u64,
                Direction::ToClient => record.to_client += bytes as u64,
            }
        });
    }

    /// A link was stalled.
    pub(super) fn stalled(&self, number: usize) {
        self.records.send_modify(|records| records[number - 1].is_stalled = true);
    }

    /// A link has ended.
    pub(super) fn ended(&self, number: usize, end: LinkEnd) {
        let ended_at = Some(self.began.elapsed());
        self.records.send_modify(|records| {
            let record = &mut records[number - 1];
            (record.ended_at, record.end) = (ended_at, Some(end));
        });
    }
}
