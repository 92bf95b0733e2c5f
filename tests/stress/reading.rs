//! A task that reads acknowledgements, from a half or through a clone of a `SharedConn`.
//!
//! Next: [`reports`](crate::reports), the breaks that it reports.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use perconn::{ReadHalf, SharedConn};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, sleep_until};

use crate::frame::Ack;
use crate::handle::{Handle, meddle};
use crate::plan::{Patience, Use, pause};
use crate::play::Play;
use crate::reports::{News, Reports};
use crate::totals::{Count, add, count};

/// Finds the acknowledgements in what a handle reads, and checks that they are those of one link after the other.
pub(crate) struct Acks {
    play: Arc<Play>,
    /// The beginning of one whose end is still to come.
    cut: Vec<u8>,
    /// The newest one of the link, or the last of the link before.
    newest: Option<Ack>,
    /// Whether one of this link has come.
    is_begun: bool,
    /// How many bytes of this link were read.
    read: Arc<AtomicU64>,
    /// Several tasks read from the link, and each gets a part of the bytes.
    is_shared: bool,
}

impl Acks {
    pub(crate) fn new(play: &Arc<Play>) -> Self {
        let is_shared = play.plan.readers > 1;
        Self {
            play: Arc::clone(play),
            cut: Vec::new(),
            newest: None,
            is_begun: false,
            read: play.new_reader(),
            is_shared,
        }
    }

    /// The handle has read these bytes. The link that they are from is newer than `last_reported`.
    pub(crate) fn feed(&mut self, bytes: &[u8], last_reported: u64) {
        add(Count::BytesRead, bytes.len() as u64);
        self.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.play.note_change();
        if self.is_shared {
            return;
        }
        self.cut.extend_from_slice(bytes);
        let whole = self.cut.len() / Ack::LENGTH * Ack::LENGTH;
        let acks: Vec<_> = self.cut.drain(..whole).collect();
        for bytes in acks.chunks(Ack::LENGTH) {
            match Ack::from_bytes(bytes) {
                Some(ack) => self.found(ack, last_reported),
                None => self.play.fail(format_args!("read torn: {bytes:x?} after {:?}", self.newest)),
            }
        }
    }

    fn found(&mut self, ack: Ack, last_reported: u64) {
        let newest = self.newest.replace(ack);
        let is_next = match newest {
            Some(newest) if self.is_begun => ack == Ack { index: newest.index + 1, ..newest },
            // A dial can fail whose link the server has accepted and reset, so that its numbers run ahead.
            _ => ack.index == 0 && ack.link > last_reported.max(newest.map_or(0, |newest| newest.link)),
        };
        if !is_next {
            self.play.fail(format_args!(
                "read {ack:?} after {newest:?}; the break of link {last_reported} was the last reported"
            ));
        }
        self.is_begun = true;
    }

    /// The next bytes are of another link.
    pub(crate) fn next_link(&mut self) {
        self.cut.clear();
        self.is_begun = false;
        self.read.store(0, Ordering::Relaxed);
    }
}

/// A handle that a [`Reader`] reads from.
pub(crate) trait Source: Handle {
    fn read(&mut self, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;
}

impl Source for ReadHalf {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        AsyncReadExt::read(self, buf).await
    }
}

impl Source for SharedConn {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Self::read(self, buf).await
    }
}

/// Reads from one handle.
pub(crate) struct Reader<S> {
    play: Arc<Play>,
    source: S,
    reports: Reports,
    acks: Acks,
    random: SmallRng,
    buf: Vec<u8>,
}

impl<S: Source> Reader<S> {
    /// The `number` sets its habits apart from those of the other readers.
    pub(crate) fn new(play: &Arc<Play>, source: S, acks: Acks, number: u64) -> Self {
        let reports = Reports::new(play, source.last_reported());
        let random = play.plan.generator(Use::Reader, number);
        Self { play: Arc::clone(play), source, reports, acks, random, buf: vec![0; 4096] }
    }

    /// Reads for some time, but not beyond the play.
    pub(crate) async fn run(&mut self, until: Option<Instant>) {
        let play = Arc::clone(&self.play);
        let is_over = async {
            match until {
                Some(until) => tokio::select! {
                    () = sleep_until(until) => {}
                    () = play.is_ending() => {}
                },
                None => play.is_ending().await,
            }
        };
        tokio::select! {
            biased;
            () = is_over => {}
            () = self.run_to_end() => {}
        }
    }

    /// Reads until the connection has ended.
    pub(crate) async fn run_to_end(&mut self) {
        loop {
            match self.turn().await {
                Some(News::End) => return,
                Some(News::NoLink) => self.play.limit("connected()", self.source.connected()).await,
                Some(News::Break | News::Again) | None => {}
            }
            let time = pause(&mut self.random);
            if !time.is_zero() {
                sleep(time).await;
            }
            if meddle(&self.play, &mut self.source, &mut self.random) {
                self.reports.skip_to(self.source.last_reported());
                self.acks.next_link();
            }
        }
    }

    /// One read. `None`: it has read something, or was cancelled.
    async fn turn(&mut self) -> Option<News> {
        let patience = Patience::draw(&mut self.random);
        let room = self.random.random_range(1..=self.buf.len());
        let outcome = self.play.patiently(patience, self.source.read(&mut self.buf[..room])).await;
        if matches!(patience, Patience::Hold { .. }) {
            count(Count::HeldReads);
        }
        let Some(outcome) = outcome else {
            count(Count::CancelledReads);
            return None;
        };
        let news = match outcome {
            Ok(0) => {
                self.reports.end_of_stream(self.source.last_reported(), self.source.generation());
                News::Break
            }
            Ok(n) => {
                self.acks.feed(&self.buf[..n], self.source.last_reported());
                return None;
            }
            Err(error) => self.reports.error(&error, || self.source.generation()),
        };
        if news == News::Break {
            self.reports.skip_to(self.source.last_reported());
            self.acks.next_link();
        }
        Some(news)
    }

    /// The handle and its acknowledgements, for another use.
    pub(crate) fn into_parts(self) -> (S, Acks) {
        (self.source, self.acks)
    }
}
