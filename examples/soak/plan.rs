//! What is left to chance, drawn from the seed: the clients' habits and the server's faults.

use std::time::Duration;

use perconn::WhenDown;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::record::MAX_PAYLOAD;

/// What a generator is for. Each use has its own, so that one's draws do not depend on the others' timing.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    Server,
    Writer,
    Reader,
    Jitter,
}

/// The generator of one role of one connection.
pub(crate) fn generator(seed: u64, connection: usize, role: Role) -> SmallRng {
    let stream = (connection as u64) << 2 | role as u64;
    SmallRng::seed_from_u64(seed ^ stream.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// How a client uses its connection. It follows from the connection's number, so that eight have all of the mix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Two tasks with a half each; otherwise one task that waits for the answer to each request.
    pub(crate) has_halves: bool,
    /// The session begins with the server's greeting.
    pub(crate) has_greeting: bool,
    /// Drops operations that take long, and goes on.
    pub(crate) cancels: bool,
    /// Breaks the link itself at times.
    pub(crate) reconnects: bool,
    pub(crate) when_down: WhenDown,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) user_timeout: Option<Duration>,
    has_small_buffers: bool,
}

impl Habits {
    pub(crate) fn of(connection: usize) -> Self {
        Self {
            has_halves: connection % 2 == 1,
            has_greeting: connection / 2 % 2 == 1,
            cancels: connection / 4 % 2 == 1,
            reconnects: connection % 3 != 1,
            when_down: match connection % 3 {
                0 => WhenDown::Wait,
                1 => WhenDown::WaitFor(Duration::from_millis(50)),
                _ => WhenDown::Fail,
            },
            idle_timeout: (connection % 5 == 2).then_some(Duration::from_millis(400)),
            user_timeout: (cfg!(target_os = "linux") && connection % 5 == 3).then_some(Duration::from_millis(400)),
            has_small_buffers: connection % 4 == 0 || connection % 5 == 3,
        }
    }

    /// With buffers this small at both ends, a server that does not read soon stops a client's write, even in the
    /// middle.
    pub(crate) fn buffer(&self) -> Option<u32> {
        self.has_small_buffers.then_some(8 * 1024)
    }
}

/// What the server does to a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// How many records it takes before.
    pub(crate) after: u64,
    /// Where there is a choice: an orderly close instead of a reset.
    pub(crate) is_orderly: bool,
    /// For how long, where that matters.
    pub(crate) time: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum FaultKind {
    /// Ends its side and reads what is still to come.
    Close,
    /// Closes with bytes unread, which the kernel makes a reset.
    CloseUnread,
    Reset,
    /// Does not read for a while; then it goes on, or resets.
    Stall,
    AcceptAndClose,
    /// Sends a part of the greeting.
    CutGreeting,
    /// Refuses all dials for a while afterwards.
    Absence,
    /// Sends a half of a record of its own, then resets.
    HalfRecord,
    /// Reads little at a time.
    SlowReads,
    /// Leaves the end to the client, or to a time limit.
    TimeLimit,
}

impl Fault {
    pub(crate) fn draw(random: &mut SmallRng, has_greeting: bool) -> Self {
        let kind = match random.random_range(0..22) {
            0..=3 => FaultKind::Close,
            4..=6 => FaultKind::CloseUnread,
            7..=9 => FaultKind::Reset,
            10..=12 => FaultKind::Stall,
            13 => FaultKind::AcceptAndClose,
            14 if has_greeting => FaultKind::CutGreeting,
            14 => FaultKind::AcceptAndClose,
            15 => FaultKind::Absence,
            16..=17 => FaultKind::HalfRecord,
            18..=19 => FaultKind::SlowReads,
            _ => FaultKind::TimeLimit,
        };
        // Now and then a link lives for long, so that the delays start over.
        let most = if random.random_bool(0.1) { 300 } else { 30 };
        Self {
            kind,
            after: random.random_range(0..most),
            is_orderly: random.random_bool(0.5),
            time: Duration::from_millis(random.random_range(50..900)),
        }
    }
}

/// The length of the next record's payload: mostly short, sometimes more than a socket takes at once.
pub(crate) fn payload(random: &mut SmallRng) -> usize {
    match random.random_range(0..10) {
        0..=5 => random.random_range(0..200),
        6..=8 => random.random_range(0..4_000),
        _ => random.random_range(0..MAX_PAYLOAD),
    }
}

/// The pause before the next record. In a burst there is none.
pub(crate) fn pause(random: &mut SmallRng) -> Duration {
    match random.random_range(0..100) {
        0..=79 => Duration::ZERO,
        80..=98 => Duration::from_millis(random.random_range(1..8)),
        _ => Duration::from_millis(random.random_range(50..200)),
    }
}
