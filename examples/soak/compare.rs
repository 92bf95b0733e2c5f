//! One link, when it is over: what its witnesses say is held against each other.

use std::time::{Duration, Instant};

use crate::totals::{BreakKind, Totals};

/// How long after the server's close its end must be known at the other end of the loopback. The kernel needs some
/// microseconds, and on a busy machine a few turns of the scheduler.
const GRACE: Duration = Duration::from_millis(100);

/// More than one write takes at once. (A write that was under way while the link broke is in the client's own count,
/// and may be missing in the event's.)
const ONE_WRITE: u64 = 128 * 1024;

/// What the event of the break said.
pub(crate) struct Loss {
    pub(crate) kind: BreakKind,
    pub(crate) unacknowledged: Option<u64>,
    pub(crate) written: u64,
    pub(crate) read: u64,
}

/// What the client counted.
#[derive(Default)]
pub(crate) struct Client {
    pub(crate) writing: Option<Writing>,
    pub(crate) reading: Option<Reading>,
}

/// What the writer did on one link.
#[derive(Default)]
pub(crate) struct Writing {
    pub(crate) bytes: u64,
    /// The numbers of the records that it began, from the first to the last: `first..first + begun`.
    pub(crate) first: u64,
    pub(crate) begun: u64,
    /// Those that it wrote whole.
    pub(crate) whole: u64,
    /// When the last write that succeeded began.
    pub(crate) last_success: Option<Instant>,
}

/// What the reader got on one link.
#[derive(Default)]
pub(crate) struct Reading {
    pub(crate) bytes: u64,
    /// Whether it must have got all that had arrived: it is a half, and kept up with the links.
    pub(crate) must_be_complete: bool,
}

/// What the server saw of a link.
pub(crate) struct Served {
    pub(crate) accepted: Instant,
    /// What its program read.
    pub(crate) bytes: u64,
    /// Whole records among that, and the numbers of the first and the last.
    pub(crate) records: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The generation that the records said.
    pub(crate) generation: u64,
    /// The program read to the end, so it has all that its kernel got.
    pub(crate) is_complete: bool,
    /// What it sent, greetings left aside.
    pub(crate) sent: u64,
    /// When it had closed the link, or its own side.
    pub(crate) closed: Option<Instant>,
}

impl Served {
    pub(crate) fn new(accepted: Instant) -> Self {
        Self {
            accepted,
            bytes: 0,
            records: 0,
            first: 0,
            last: 0,
            generation: 0,
            is_complete: false,
            sent: 0,
            closed: None,
        }
    }
}

/// Adds a link to the totals, and returns which promises were not kept on it.
pub(crate) fn compare(
    generation: u64,
    loss: Option<&Loss>,
    client: Client,
    served: Option<Served>,
    totals: &mut Totals,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let (writing, reading) = (client.writing.unwrap_or_default(), client.reading.unwrap_or_default());
    totals.bytes_written += writing.bytes;
    totals.bytes_read += reading.bytes;
    totals.records_written += writing.whole;
    totals.records_cut += writing.begun - writing.whole;
    let is_accepted = served.is_some();
    totals.never_accepted += u64::from(!is_accepted);
    let served = served.unwrap_or_else(|| Served::new(Instant::now()));

    totals.bytes_received += served.bytes;
    totals.records_arrived += served.records;

    if let Some(loss) = loss {
        // The count of an event is not behind by more than a call that was under way, and never ahead.
        if !(loss.written..=loss.written + ONE_WRITE).contains(&writing.bytes) {
            wrong.push(format!("{} bytes written, the event says {}", writing.bytes, loss.written));
        }
        if loss.read > reading.bytes {
            wrong.push(format!("{} bytes read, the event says {}", reading.bytes, loss.read));
        }
    }
    check_records(generation, &writing, &served, &mut wrong);
    check_writes(&writing, &served, totals, &mut wrong);
    check_reads(loss, &reading, &served, is_accepted, &mut wrong);
    check_bytes(loss, &writing, &served, totals, &mut wrong);
    wrong
}

/// The server must have the records that the client began on this link, from the first one on. The client's numbers
/// are never given twice, so no record can have arrived twice, either.
fn check_records(generation: u64, writing: &Writing, served: &Served, wrong: &mut Vec<String>) {
    if served.records == 0 {
        return;
    }
    if served.generation != generation {
        wrong.push(format!("its records were written for generation {}", served.generation));
    }
    if served.first != writing.first {
        wrong.push(format!("the first record was {}, not {}", served.first, writing.first));
    }
    if served.last >= writing.first + writing.begun {
        let end = writing.first + writing.begun;
        wrong.push(format!("record {} arrived, but only those before {end} were begun", served.last));
    }
}

/// No write may succeed once the server's close has reached this machine.
fn check_writes(writing: &Writing, served: &Served, totals: &mut Totals, wrong: &mut Vec<String>) {
    let (Some(closed), Some(success)) = (served.closed, writing.last_success) else { return };
    let late = success.saturating_duration_since(closed);
    if late > GRACE {
        totals.silently_lost += 1;
        wrong.push(format!("a write succeeded {late:.1?} after the server's close"));
    }
}

fn check_reads(loss: Option<&Loss>, reading: &Reading, served: &Served, is_accepted: bool, wrong: &mut Vec<String>) {
    if reading.bytes > served.sent {
        wrong.push(format!("{} bytes read of {} that the server sent", reading.bytes, served.sent));
    }
    // When an orderly end has come, so has everything before it.
    let has_all_arrived = is_accepted && loss.is_some_and(|loss| loss.kind == BreakKind::PeerClosed);
    if has_all_arrived && reading.must_be_complete && reading.bytes < served.sent {
        wrong.push(format!("only {} bytes read of {} before the orderly end", reading.bytes, served.sent));
    }
}

/// Where the written bytes have gone.
fn check_bytes(loss: Option<&Loss>, writing: &Writing, served: &Served, totals: &mut Totals, wrong: &mut Vec<String>) {
    totals.links_counted += u64::from(served.is_complete);
    let Some(missing) = writing.bytes.checked_sub(served.bytes) else {
        return wrong.push(format!("{} bytes received of {} that were written", served.bytes, writing.bytes));
    };
    let Some(loss) = loss else {
        totals.cut_by_close += missing;
        return;
    };
    let Some(unacknowledged) = loss.unacknowledged else {
        totals.unknown += missing;
        return;
    };
    totals.unacknowledged += unacknowledged;
    if missing > unacknowledged {
        totals.never_read += missing - unacknowledged;
        if served.is_complete {
            wrong.push(format!(
                "of {} bytes written, {} arrived and {unacknowledged} were announced as unacknowledged",
                writing.bytes, served.bytes,
            ));
        }
    } else if missing < unacknowledged {
        totals.unacknowledged_arrived += unacknowledged - missing;
        totals.links_with_late_arrival += 1;
    }
}
