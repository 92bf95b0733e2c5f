//! Numbered messages through a server that is killed again and again, and what arrived of them.

use std::fmt;
use std::time::{Duration, Instant};

use perconn::codec::tokio_util::bytes::Bytes;
use perconn::outbox::{Outbox, Tally};
use tokio::time::sleep;

use crate::real_server::RealServer;
use crate::support::HANG_LIMIT;

/// How many messages a test sends, and how often it kills the server.
#[derive(Clone, Copy)]
pub struct Plan {
    pub messages: u64,
    pub kills: u64,
}

impl Plan {
    /// What the environment says, or these.
    pub fn from_env(messages: u64, kills: u64) -> Self {
        let variable = |name: &str| std::env::var(name).ok().map(|value| value.parse().expect(name));
        Self {
            messages: variable("PERCONN_DELIVERY_MESSAGES").unwrap_or(messages),
            kills: variable("PERCONN_DELIVERY_KILLS").unwrap_or(kills),
        }
    }
}

/// How long a stop of all progress may take: the server starts again, and loads its data.
const STALL_LIMIT: Duration = HANG_LIMIT.saturating_mul(6);

/// Sends all messages of the plan, and kills the server each time that another part of them has met its fate. The last
/// message is sent after the last kill, so that it arrives in any case. Closes the outbox and returns its tally.
pub async fn ship(outbox: Outbox, server: &RealServer, plan: Plan, message: fn(u64) -> Bytes) -> Tally {
    let begin = Instant::now();
    let sender = tokio::spawn({
        let outbox = outbox.clone();
        async move {
            for number in 1..plan.messages {
                outbox.send(message(number)).await.unwrap();
            }
        }
    });
    for kill in 1..=plan.kills {
        settled(&outbox, kill * plan.messages / (plan.kills + 1)).await;
        server.kill_and_restart();
    }
    sender.await.unwrap();
    outbox.send(message(plan.messages)).await.unwrap();
    settled(&outbox, plan.messages).await;
    let tally = outbox.close(HANG_LIMIT).await;
    println!("{} kills in {:.0} s: {tally}", plan.kills, begin.elapsed().as_secs_f64());
    assert_eq!(tally.accepted, plan.messages);
    assert_eq!(tally.waiting, 0);
    tally
}

/// Waits until this many messages have met their fate. There is no event for a count.
pub async fn settled(outbox: &Outbox, count: u64) {
    let mut progress = (0, Instant::now());
    loop {
        let tally = outbox.tally();
        if tally.settled() >= count {
            return;
        }
        if tally.settled() > progress.0 {
            progress = (tally.settled(), Instant::now());
        }
        assert!(progress.1.elapsed() < STALL_LIMIT, "hangs: {outbox:?}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// What arrived.
pub struct Arrived {
    pub distinct: u64,
    pub lost: u64,
    pub twice: u64,
    /// Whether the first arrivals have ascending numbers.
    pub in_order: bool,
}

impl Arrived {
    /// Counts the numbers of what arrived, in the order of their arrival.
    pub fn count(messages: u64, numbers: impl Iterator<Item = u64>) -> Self {
        let mut seen = vec![false; usize::try_from(messages).unwrap() + 1];
        let mut arrived = Self { distinct: 0, lost: 0, twice: 0, in_order: true };
        let mut highest = 0;
        for number in numbers {
            let is_repeated = std::mem::replace(&mut seen[usize::try_from(number).unwrap()], true);
            if is_repeated {
                arrived.twice += 1;
            } else {
                arrived.distinct += 1;
                arrived.in_order &= number > highest;
                highest = number;
            }
        }
        arrived.lost = messages - arrived.distinct;
        println!("{arrived}");
        arrived
    }

    /// All have arrived, in order, and at most a window of them twice for each kill.
    pub fn assert_at_least_once(&self, tally: &Tally, plan: Plan, window: u64) {
        assert_eq!(tally.answered, plan.messages, "{tally}");
        assert_eq!(self.lost, 0, "{self}");
        assert!(self.in_order, "{self}");
        assert!(self.twice <= plan.kills * window, "{self}");
    }
}

impl fmt::Display for Arrived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { distinct, lost, twice, in_order } = self;
        write!(f, "{distinct} arrived, {lost} lost, {twice} twice, in order: {in_order}")
    }
}

/// The text by which a message is found again, even where a kill has cut the one before.
pub fn tag(number: u64) -> String {
    format!("n={number:09};")
}

/// The numbers of all whole tags in a file.
pub fn tags_in(text: &[u8]) -> impl Iterator<Item = u64> {
    text.windows(12).filter_map(|window| {
        let digits = window.strip_prefix(b"n=")?.strip_suffix(b";")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    })
}
