//! The counts of the whole run, and their table.

use std::fmt::Write;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

/// Declares what is counted, and under which name the table shows it.
macro_rules! counts {
    ($($count:ident $name:literal,)*) => {
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum Count { $($count,)* }

        const NAMES: &[&str] = &[$($name,)*];
    };
}

counts! {
    Connections "connections",
    Links "links that the server accepted",
    Reset "  ended by the server: reset",
    Closed "  ended by the server: closed",
    HalfClosed "  ended by the server: closed its sending side, and read on",
    Stalled "    of these after a stall",
    ClosedAtOnce "    of these at once, without a read",
    Answered "    of these after one answer",
    InCalm "  not ended by the server: the calm",
    SeenClosed "breaks as the clients' events tell them: the peer closed",
    SeenReset "  reset by the peer",
    SeenRequested "  abandoned or broken on purpose",
    SeenOther "  another reason",
    DialsFailed "dials that failed",
    Reports "breaks reported by handles",
    Repeats "  once more, after a dropped future of a whole connection",
    Abandons "links given up by abandon()",
    BreakLinks "calls of break_link()",
    DialNows "calls of dial_now()",
    Reunions "halves reunited",
    Jobs "jobs begun",
    JobsWritten "  written",
    JobsFailed "  failed, or given up in the middle",
    JobsArrived "  arrived whole",
    JobsInCalm "  begun in the calm",
    BytesReceived "bytes received by the servers",
    BytesRead "bytes read by the clients",
    CancelledReads "reads cancelled",
    CancelledWrites "writes cancelled",
    CancelledJobs "jobs of shared connections cancelled",
    HeldReads "reads held without a poll",
    HeldWrites "writes held without a poll",
    HeldJobs "jobs of shared connections held without a poll",
    MovedJobs "  and moved to another task",
    Closes "connections ended by close()",
    Drops "connections ended by dropping everything in the middle",
    Finishes "connections ended by dropping the handles in order",
    Shutdowns "connections ended by shutdown(), and read to the end",
}

static COUNTS: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];

pub(crate) fn count(count: Count) {
    add(count, 1);
}

pub(crate) fn add(count: Count, n: u64) {
    COUNTS[count as usize].fetch_add(n, Ordering::Relaxed);
}

pub(crate) fn total(count: Count) -> u64 {
    COUNTS[count as usize].load(Ordering::Relaxed)
}

/// Under which count the break of an event is.
pub(crate) fn seen(kind: ErrorKind) -> Count {
    match kind {
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => Count::SeenClosed,
        ErrorKind::ConnectionReset => Count::SeenReset,
        ErrorKind::ConnectionAborted => Count::SeenRequested,
        _ => Count::SeenOther,
    }
}

pub(crate) fn breaks() -> u64 {
    [Count::SeenClosed, Count::SeenReset, Count::SeenRequested, Count::SeenOther].into_iter().map(total).sum()
}

pub(crate) fn cancels() -> u64 {
    [Count::CancelledReads, Count::CancelledWrites, Count::CancelledJobs].into_iter().map(total).sum()
}

pub(crate) fn table() -> String {
    let mut text = String::new();
    for (name, count) in NAMES.iter().zip(&COUNTS) {
        let _ = writeln!(text, "  {name:<62}{:>14}", count.load(Ordering::Relaxed));
    }
    text
}
