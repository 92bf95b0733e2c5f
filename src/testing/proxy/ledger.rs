//! What has happened: one record for each link.
//!
//! Next: [`wait`](super::wait), which waits for it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
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
    /// The client's end: the `local_addr` of its socket. `None` on a Unix socket.
    pub client: Option<SocketAddr>,
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
    pub(super) fn add(&self, client: Option<SocketAddr>) {
        let (number, accepted_at) = (self.next_number(), self.began.elapsed());
        self.records.send_modify(|records| {
            let (ended_at, end, is_stalled) = (None, None, false);
            records.push(LinkRecord {
                number,
                client,
                accepted_at,
                ended_at,
                to_server: 0,
                to_client: 0,
                end,
                is_stalled,
            });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_link_has_a_record_from_its_first_byte_to_its_end() {
        let ledger = Ledger::new();
        for number in 1..=3 {
            assert_eq!(ledger.next_number(), number);
            ledger.add(None);
        }
        for (direction, bytes) in [(Direction::ToServer, 5), (Direction::ToClient, 7), (Direction::ToServer, 6)] {
            ledger.passed(2, direction, bytes);
        }
        ledger.stalled(1);
        ledger.ended(2, LinkEnd::ClosedBy(Peer::Server));
        let records = ledger.records();
        let numbers: Vec<_> = records.iter().map(|record| record.number).collect();
        let bytes = records.iter().map(|record| [Direction::ToServer, Direction::ToClient].map(|of| record.bytes(of)));
        assert_eq!((numbers, bytes.collect::<Vec<_>>()), (vec![1, 2, 3], vec![[0, 0], [11, 7], [0, 0]]));
        assert!(records.iter().is_sorted_by_key(|record| record.accepted_at));
        assert!(records[1].ended_at.is_some_and(|at| at >= records[1].accepted_at));
        for number in [1, 3] {
            let record = &records[number - 1];
            assert!(record.end.is_none() && record.ended_at.is_none() && record.is_stalled == (number == 1));
        }
    }

    #[test]
    fn line_of_a_record_says_how_the_link_ended() {
        let refused = Arc::new(io::Error::other("refused"));
        for (end, text) in [
            (LinkEnd::Cut(Cut::Close), "cut (close)"),
            (LinkEnd::Cut(Cut::Reset), "cut (reset)"),
            (LinkEnd::Cut(Cut::HalfClose), "cut (half-close)"),
            (LinkEnd::Cut(Cut::Stall), "cut (stall)"),
            (LinkEnd::ClosedBy(Peer::Client), "closed by the client"),
            (LinkEnd::ResetBy(Peer::Server), "reset by the server"),
            (LinkEnd::NoServer(refused), "no server: refused"),
        ] {
            let (number, accepted_at, ended_at) = (4, Duration::from_millis(20), Duration::from_secs(1));
            let ended_at = Some(ended_at);
            let end = Some(end);
            let record = LinkRecord {
                number,
                client: None,
                accepted_at,
                ended_at,
                to_server: 5,
                to_client: 0,
                end,
                is_stalled: true,
            };
            let line = format!("link 4: accepted at 20.000ms, 5 bytes to the server, 0 bytes back, {text} at 1.000s");
            assert_eq!(record.to_string(), line);
            let open = LinkRecord { end: None, ended_at: None, ..record };
            assert!(open.to_string().ends_with("stalled"), "{open}");
            let open = LinkRecord { is_stalled: false, ..open };
            assert!(open.to_string().ends_with("still open"), "{open}");
        }
    }

    #[test]
    fn each_change_wakes_those_that_wait_for_the_ledger() {
        let ledger = Ledger::new();
        let mut waiter = ledger.subscribe();
        for change in [
            &(|| ledger.add(None)) as &dyn Fn(),
            &|| ledger.passed(1, Direction::ToClient, 1),
            &|| ledger.stalled(1),
            &|| ledger.ended(1, LinkEnd::Cut(Cut::Reset)),
        ] {
            assert!(!waiter.has_changed().unwrap());
            change();
            assert!(waiter.has_changed().unwrap());
            waiter.mark_unchanged();
        }
    }
}
