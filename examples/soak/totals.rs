//! What is counted.

use std::io::ErrorKind;
use std::time::Duration;

/// Why a link broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BreakKind {
    PeerClosed,
    Reset,
    TimedOut,
    Requested,
    Other,
}

impl BreakKind {
    pub(crate) const NAMES: [&str; 5] = ["peer closed", "reset", "timed out", "requested", "other"];

    pub(crate) fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => Self::PeerClosed,
            ErrorKind::ConnectionReset => Self::Reset,
            ErrorKind::TimedOut => Self::TimedOut,
            ErrorKind::ConnectionAborted => Self::Requested,
            _ => Self::Other,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum DialFailure {
    Refused,
    SetUp,
    TimedOut,
}

impl DialFailure {
    pub(crate) const NAMES: [&str; 3] = ["refused", "set-up failed", "timed out"];
}

/// The kinds of handle that report breaks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HandleKind {
    Whole,
    ReadHalf,
    WriteHalf,
}

impl HandleKind {
    pub(crate) const NAMES: [&str; 3] = ["whole", "read half", "write half"];
}

/// The breaks that handles of one kind have reported.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReportCounts {
    pub(crate) reports: [u64; 5],
    /// The exception for whole connections: once more, by the call after a cancelled one.
    pub(crate) repeated: u64,
    /// More than 16 breaks ago.
    pub(crate) slept_through: u64,
    /// It was closed first.
    pub(crate) closed_first: u64,
}

impl ReportCounts {
    /// The breaks of their connections.
    pub(crate) fn all(&self) -> u64 {
        self.reports.iter().sum::<u64>() + self.slept_through + self.closed_first
    }
}

/// The numbers of one connection, or of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) links: u64,
    pub(crate) breaks: [u64; 5],
    /// Links that were up when the program closed the connection.
    pub(crate) links_closed: u64,
    /// Links that the server's program never got: the kernel made them just before the listener was closed.
    pub(crate) never_accepted: u64,
    pub(crate) dials_failed: [u64; 3],
    pub(crate) longest_outage: Duration,
    pub(crate) reports: [ReportCounts; 3],

    /// Reads and writes that came to an end, and those that were dropped.
    pub(crate) operations: u64,
    pub(crate) cancelled: u64,
    pub(crate) reconnects: u64,

    pub(crate) bytes_written: u64,
    pub(crate) bytes_received: u64,
    pub(crate) unacknowledged: u64,
    /// Of these, what the server's program read all the same.
    pub(crate) unacknowledged_arrived: u64,
    /// Links on which that was so.
    pub(crate) links_with_late_arrival: u64,
    pub(crate) never_read: u64,
    /// Not received of what was written on the links that `close()` ended.
    pub(crate) cut_by_close: u64,
    /// Not received, and not known how much of it was acknowledged.
    pub(crate) unknown: u64,
    /// Links on which the server's program read everything that its kernel got.
    pub(crate) links_counted: u64,
    pub(crate) bytes_read: u64,

    pub(crate) records_written: u64,
    pub(crate) records_cut: u64,
    pub(crate) records_arrived: u64,
    pub(crate) requests: u64,
    pub(crate) requests_sent: u64,
    pub(crate) answered: u64,
    pub(crate) waiting: u64,
    /// Writes that succeeded on a link whose end had reached this machine.
    pub(crate) silently_lost: u64,

    pub(crate) violations: u64,
}

impl Totals {
    /// Records that were written whole, but that the server's program did not get whole.
    pub(crate) fn records_lost(&self) -> u64 {
        self.records_written.saturating_sub(self.records_arrived)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let sum = |mine: &mut [u64], others: &[u64]| mine.iter_mut().zip(others).for_each(|(a, b)| *a += b);
        sum(&mut self.breaks, &other.breaks);
        sum(&mut self.dials_failed, &other.dials_failed);
        for (mine, others) in self.reports.iter_mut().zip(&other.reports) {
            sum(&mut mine.reports, &others.reports);
            mine.repeated += others.repeated;
            mine.slept_through += others.slept_through;
            mine.closed_first += others.closed_first;
        }
        self.longest_outage = self.longest_outage.max(other.longest_outage);
        macro_rules! add {
            ($($name:ident)*) => { $(self.$name += other.$name;)* };
        }
        add!(links links_closed never_accepted operations cancelled reconnects);
        add!(bytes_written bytes_received unacknowledged unacknowledged_arrived links_with_late_arrival never_read);
        add!(cut_by_close unknown links_counted bytes_read);
        add!(records_written records_cut records_arrived requests requests_sent answered waiting);
        add!(silently_lost violations);
    }
}
