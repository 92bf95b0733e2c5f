//! One direction of a link: reads from one socket and writes to the other, as the weather and the plan say.
//!
//! A reader and a writer, with a queue between them: bytes that are delayed do not hold up those behind them.
//!
//! Next: [`link_task`](super::link_task), which drives both directions.

use std::io;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::acceptor::Shared;
use super::conditions::Conditions;
use super::ledger::Ledger;
use super::plan::{Cut, Direction, LONGEST, Link};
use super::socket::Socket;
use super::trigger::Scanner;

/// How much is read at once.
const PIECE: usize = 16 << 10;

/// How many pieces may be delayed at once in one direction, 16 MiB at most. With more, the sender's kernel waits. It is what
/// is under way on a path of 1 Gbit/s in 0.13 s.
const DELAYED: usize = 1024;

/// With a limit of speed, a piece is what passes in this time.
const SLICES_PER_SECOND: u64 = 20;

/// Why a direction has ended.
#[derive(Debug)]
pub(super) enum PumpEnd {
    /// The peer has ended its side of the stream, and everything before that was delivered.
    EndOfStream,
    /// The peer that sends has failed.
    SenderFailed,
    /// The peer that receives has failed.
    ReceiverFailed,
    /// The plan cuts the link here. (Only the other direction ends if the client's bytes come to a half-close.)
    Cut(Cut),
}

/// One direction of one link.
pub(super) struct Pump<'a> {
    /// Which one.
    direction: Direction,
    /// What the link does.
    plan: &'a Link,
    /// The number of the link.
    number: usize,
    /// The seed of the jitter.
    seed: u64,
    /// The weather.
    conditions: watch::Receiver<Conditions>,
    /// Where the bytes are counted.
    ledger: &'a Ledger,
    /// Called when the client's bytes come to a half-close.
    half_close: &'a Notify,
}

/// What the reader hands to the writer.
enum Piece {
    /// Bytes to deliver, not before this moment.
    Bytes(Instant, Vec<u8>),
    /// The other direction ends when the bytes before it are delivered.
    HalfClose,
    /// The end of the direction, after all bytes before it.
    End(PumpEnd),
}

impl<'a> Pump<'a> {
    /// One direction of this link.
    pub(super) fn new(
        direction: Direction,
        number: usize,
        plan: &'a Link,
        shared: &'a Shared,
        half_close: &'a Notify,
    ) -> Self {
        let seed = shared.seed ^ (2 * number as u64 + direction as u64);
        let (conditions, ledger) = (shared.conditions.subscribe(), &shared.ledger);
        Self { direction, plan, number, seed, conditions, ledger, half_close }
    }

    /// Passes bytes until the direction ends.
    pub(super) async fn run(self, from: &Socket, to: &Socket) -> PumpEnd {
        let (sender, mut pieces) = mpsc::channel(DELAYED);
        tokio::select! {
            end = self.write(to, &mut pieces) => end,
            // The writer ends the direction.
            () = self.read(from, sender) => std::future::pending().await,
        }
    }

    /// Reads until the stream ends or the plan cuts it.
    async fn read(&self, from: &Socket, pieces: mpsc::Sender<Piece>) {
        let mut conditions = self.conditions.clone();
        let mut scanner = Scanner::new(self.plan.triggers(self.direction));
        let mut due = DueTimes::new(self.seed);
        let mut buf = vec![0; PIECE];
        let mut unscanned = 0..0;
        loop {
            let (length, cut) = scanner.scan(&buf[unscanned.clone()]);
            let bytes = &buf[unscanned.start..][..length];
            unscanned.start += length;
            if length > 0 {
                let at = due.next(conditions.borrow().latency(self.plan));
                // It fails only if the writer has ended, and then this future is dropped.
                let _ = pieces.send(Piece::Bytes(at, bytes.to_vec())).await;
            }
            let end = match cut {
                Some(Cut::HalfClose) if self.direction == Direction::ToServer => {
                    let _ = pieces.send(Piece::HalfClose).await;
                    continue;
                }
                Some(cut) => PumpEnd::Cut(cut),
                None => match self.read_in_fair_weather(from, &mut buf, &mut conditions).await {
                    Ok(0) => PumpEnd::EndOfStream,
                    Ok(n) => {
                        unscanned = 0..n;
                        continue;
                    }
                    Err(_) => PumpEnd::SenderFailed,
                },
            };
            let _ = pieces.send(Piece::End(end)).await;
            return std::future::pending().await;
        }
    }

    /// Reads some bytes, when this direction is not held.
    async fn read_in_fair_weather(
        &self,
        from: &Socket,
        buf: &mut [u8],
        conditions: &mut watch::Receiver<Conditions>,
    ) -> io::Result<usize> {
        loop {
            self.wait_until(conditions, |conditions| !conditions.holds(self.direction)).await;
            let mut changes = conditions.clone();
            tokio::select! {
                biased;
                () = self.wait_until(&mut changes, |conditions| conditions.holds(self.direction)) => {}
                outcome = from.read(buf) => return outcome,
            }
        }
    }

    /// Writes what is due.
    async fn write(&self, to: &Socket, pieces: &mut mpsc::Receiver<Piece>) -> PumpEnd {
        let mut conditions = self.conditions.clone();
        let mut pace = Pace::default();
        loop {
            let (due, bytes) = match pieces.recv().await {
                Some(Piece::Bytes(due, bytes)) => (due, bytes),
                Some(Piece::HalfClose) => {
                    self.wait_until(&mut conditions, |conditions| !conditions.holds(self.direction)).await;
                    self.half_close.notify_one();
                    continue;
                }
                Some(Piece::End(end)) => {
                    self.wait_until(&mut conditions, |conditions| !conditions.holds(self.direction)).await;
                    return end;
                }
                None => return std::future::pending().await,
            };
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.wait_until(&mut conditions, |conditions| conditions.latency(self.plan).is_none()) => {}
            }
            if self.deliver(to, &bytes, &mut conditions, &mut pace).await.is_err() {
                return PumpEnd::ReceiverFailed;
            }
        }
    }

    /// Writes all of these bytes, in slices if the speed is limited.
    async fn deliver(
        &self,
        to: &Socket,
        mut bytes: &[u8],
        conditions: &mut watch::Receiver<Conditions>,
        pace: &mut Pace,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            self.wait_until(conditions, |conditions| !conditions.holds(self.direction)).await;
            let speed = conditions.borrow().bandwidth(self.plan);
            let slice = speed
                .map_or(usize::MAX, |speed| usize::try_from((speed / SLICES_PER_SECOND).max(1)).unwrap_or(usize::MAX));
            let written = to.write(&bytes[..bytes.len().min(slice)]).await?;
            bytes = &bytes[written..];
            self.ledger.passed(self.number, self.direction, written);
            if let Some(speed) = speed {
                tokio::select! {
                    () = sleep_until(pace.next(written, speed)) => {}
                    () = self.wait_until(conditions, |conditions| conditions.bandwidth(self.plan) != Some(speed)) => {}
                }
            }
        }
        Ok(())
    }

    /// Waits for the weather.
    async fn wait_until(&self, conditions: &mut watch::Receiver<Conditions>, is_so: impl FnMut(&Conditions) -> bool) {
        if conditions.wait_for(is_so).await.is_err() {
            // The proxy is gone, and this task is about to be dropped.
            std::future::pending::<()>().await;
        }
    }
}

/// How late a timer may be without slowing the link down: its resolution is a millisecond, and threads wait for cores.
const CATCH_UP: Duration = Duration::from_millis(20);

/// When the next bytes may pass at a limited speed.
#[derive(Default)]
struct Pace(Option<Instant>);

impl Pace {
    /// These bytes have passed. Returns when the next ones may.
    fn next(&mut self, bytes: usize, speed: u64) -> Instant {
        let now = Instant::now();
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        let from = self.0.map_or(now, |next| next.max(earliest));
        *self.0.insert(from + Duration::from_secs_f64(bytes as f64 / speed as f64))
    }
}

/// When each piece is due: in order, and each after its own delay.
struct DueTimes {
    /// Draws the jitter.
    random: Xoshiro256PlusPlus,
    /// When the newest piece is due.
    last: Option<Instant>,
}

impl DueTimes {
    /// With the jitter of this seed.
    fn new(seed: u64) -> Self {
        Self { random: Xoshiro256PlusPlus::seed_from_u64(seed), last: None }
    }

    /// When a piece is due that was read now.
    fn next(&mut self, latency: Option<(Duration, Duration)>) -> Instant {
        let now = Instant::now();
        let due = latency.map_or(now, |(delay, jitter)| {
            let delay = delay.min(LONGEST) + jitter.min(LONGEST).mul_f64(self.random.random_range(0.0..=1.0));
            now + delay
        });
        let due = self.last.map_or(due, |last| last.max(due));
        self.last = Some(due);
        due
    }
}
