//! What is left to chance, drawn from the seed.
//!
//! Each use has a generator of its own, so that its draws do not depend on the timing of the others. Sockets and
//! schedulers are real: a seed repeats the plan, and not every interleaving.

use std::time::Duration;

use perconn::WhenDown;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::frame::LONGEST_PAYLOAD;
use crate::runtimes::Place;

/// The generator of one use, which is named by a few numbers.
pub(crate) fn generator(seed: u64, name: &[u64]) -> SmallRng {
    let mix = |state: u64, word: &u64| {
        let state = (state ^ word).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        state ^ state >> 29
    };
    SmallRng::seed_from_u64(name.iter().fold(seed, mix))
}

/// Which handles the client uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole `Conn` in one task.
    Whole,
    /// Halves in two tasks, reunited now and then.
    Halves,
    /// Clones of a `SharedConn` in several tasks.
    Shared,
    /// Clones of a `SharedConn` made of the `WriteHalf`, and the `ReadHalf`.
    Beside,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Whole, Self::Halves, Self::Shared, Self::Beside];
}

/// How the client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// `close()`, from another task, while everything is at work.
    Close,
    /// Everything is dropped at once, with the futures that are under way.
    Drop,
    /// Each task finishes its call and drops its handle.
    Finish,
    /// The writing side is shut down, and the reader reads to the end.
    Shutdown,
}

/// One connection: its client, its server, and how long they last.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// For the generators of its tasks and links.
    pub(crate) seed: u64,
    pub(crate) kind: Kind,
    /// Where the actor runs.
    pub(crate) actor: Place,
    pub(crate) server: Place,
    /// How many tasks write and read, where the kind does not say.
    pub(crate) writers: u32,
    pub(crate) readers: usize,
    pub(crate) connects_first: bool,
    /// A whole connection calls `abandon` after each error.
    pub(crate) abandons: bool,
    pub(crate) close_as_error: bool,
    pub(crate) when_down: WhenDown,
    pub(crate) job_queue_size: usize,
    pub(crate) retry_min: Duration,
    pub(crate) retry_max: Duration,
    pub(crate) nodelay: bool,
    /// Of both ends. Small ones soon stop a writer whose peer does not read.
    pub(crate) buffers: Option<u32>,
    pub(crate) storm: Duration,
    /// Whether a calm follows the storm.
    pub(crate) has_calm: bool,
    pub(crate) ending: Ending,
}

impl Plan {
    /// The connection of this kind; `storm` says how long the server breaks its links.
    pub(crate) fn draw(random: &mut SmallRng, kind: Kind, storm: Duration, has_calm: bool) -> Self {
        let retry_min = Duration::from_millis(random.random_range(1..=5));
        let when_down = match random.random_range(0..5) {
            0 => WhenDown::Fail,
            1 => WhenDown::WaitFor(Duration::from_millis(random.random_range(1..20))),
            _ => WhenDown::Wait,
        };
        let ending = match random.random_range(0..4) {
            0 => Ending::Close,
            1 => Ending::Drop,
            2 if kind != Kind::Shared => Ending::Shutdown,
            _ => Ending::Finish,
        };
        Self {
            seed: random.random(),
            kind,
            actor: place(random),
            server: place(random),
            writers: random.random_range(2..=5),
            readers: if kind == Kind::Shared { random.random_range(0..=3) } else { 1 },
            connects_first: random.random(),
            abandons: random.random(),
            close_as_error: random.random(),
            when_down,
            job_queue_size: random.random_range(1..=10),
            retry_min,
            retry_max: retry_min * random.random_range(1..=4),
            nodelay: random.random(),
            buffers: random.random_bool(0.6).then(|| 1024 << random.random_range(2..=5)),
            storm,
            has_calm,
            ending,
        }
    }

    pub(crate) fn generator(&self, use_of: Use, number: u64) -> SmallRng {
        generator(self.seed, &[use_of as u64, number])
    }
}

/// What a generator of a connection is for.
#[derive(Clone, Copy)]
pub(crate) enum Use {
    Writer,
    Reader,
    Link,
    Places,
    Jitter,
}

pub(crate) fn place(random: &mut SmallRng) -> Place {
    if random.random() { Place::Pool } else { Place::Single }
}

/// What the server does to a link in the storm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkPlan {
    pub(crate) course: Course,
    pub(crate) end: LinkEnd,
    /// How many bytes it reads before.
    pub(crate) bytes: usize,
    /// When it does so at the latest: the client may send less.
    pub(crate) limit: Duration,
}

/// What the server does before it ends the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// Nothing: it ends the link at once.
    AtOnce,
    /// It reads and answers.
    Serve,
    /// The same, with a stall in the middle.
    Stall(Duration),
    /// It answers once.
    AnswerOnce,
}

/// How the server ends a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkEnd {
    Reset,
    /// With unread bytes, the kernel makes it a reset.
    Close,
    /// Only its sending side: it reads to the end of what the client sends.
    HalfClose,
}

impl LinkPlan {
    pub(crate) fn draw(random: &mut SmallRng) -> Self {
        let course = match random.random_range(0..10) {
            0 => Course::AtOnce,
            1 => Course::AnswerOnce,
            2..=3 => Course::Stall(Duration::from_millis(random.random_range(2..40))),
            _ => Course::Serve,
        };
        let end = match random.random_range(0..3) {
            0 => LinkEnd::Reset,
            1 => LinkEnd::Close,
            _ => LinkEnd::HalfClose,
        };
        let most = [100, 5_000, 50_000, 400_000][random.random_range(0..4)];
        let limit = Duration::from_millis(random.random_range(5..80));
        Self { course, end, bytes: random.random_range(0..most), limit }
    }
}

/// The length of the next job's payload: mostly short, sometimes more than a socket takes at once.
pub(crate) fn length(random: &mut SmallRng) -> usize {
    let most = match random.random_range(0..20) {
        0..=11 => 200,
        12..=16 => 4_000,
        17..=18 => 20_000,
        _ => LONGEST_PAYLOAD + 1,
    };
    random.random_range(0..most)
}

/// How long a caller stays with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    Endless,
    /// It drops the future after this many other turns of the runtime.
    Turns(u32),
    /// It drops the future after this time.
    Time(Duration),
    /// It polls the future once and keeps it without a poll; then it goes on with it or drops it.
    Hold {
        time: Duration,
        is_dropped: bool,
    },
}

impl Patience {
    pub(crate) fn draw(random: &mut SmallRng) -> Self {
        match random.random_range(0..20) {
            0..=1 => Self::Turns(random.random_range(0..4)),
            2..=3 => Self::Time(Duration::from_micros(random.random_range(0..3_000))),
            4 => Self::Hold { time: Duration::from_millis(random.random_range(0..10)), is_dropped: random.random() },
            _ => Self::Endless,
        }
    }
}

/// The pause between two calls. In a burst there is none.
pub(crate) fn pause(random: &mut SmallRng) -> Duration {
    match random.random_range(0..20) {
        0..=14 => Duration::ZERO,
        15..=18 => Duration::from_micros(random.random_range(0..3_000)),
        _ => Duration::from_millis(random.random_range(0..20)),
    }
}
