//! A client with two halves in two tasks, which are reunited now and then; and the reader beside a `SharedConn`.

use std::sync::Arc;
use std::time::Duration;

use perconn::{Conn, ReadHalf, WriteHalf};
use rand::RngExt;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::handle::{Handle, abandon, meddle};
use crate::plan::{Patience, pause};
use crate::play::{Phase, Play, resume};
use crate::reading::{Acks, Reader};
use crate::reports::{News, Reports};
use crate::runtimes::Place;
use crate::totals::{Count, count};
use crate::writing::{Job, Jobs};

/// Plays the client until the play is over. The reader and the writer have places of their own.
pub(crate) fn run(play: &Arc<Play>, conn: Conn, places: [Place; 2]) -> impl Future<Output = ()> + Send + use<> {
    let (play, jobs, acks) = (Arc::clone(play), Jobs::new(play), Acks::new(play));
    async move { split_and_reunite(&play, conn, jobs, acks, places).await }
}

/// The reader of the acknowledgements of jobs that are written through a `SharedConn`.
pub(crate) fn read_beside(play: &Arc<Play>, half: ReadHalf) -> impl Future<Output = ()> + Send + use<> {
    let play = Arc::clone(play);
    let mut reader = Reader::new(&play, half, Acks::new(&play), 0);
    async move {
        reader.run(None).await;
        if play.phase() == Phase::Shutdown {
            // The last clone shuts the writing side down when it is dropped.
            play.limit("the end of the stream", reader.run_to_end()).await;
        }
    }
}

async fn split_and_reunite(play: &Arc<Play>, mut conn: Conn, mut jobs: Jobs, mut acks: Acks, places: [Place; 2]) {
    let [read_place, write_place] = places.map(|place| play.places.of(place));
    for turn in 0.. {
        let until = Instant::now() + Duration::from_millis(jobs.random.random_range(5..150));
        let (reader, writer) = conn.into_split();
        let mut reader = Reader::new(play, reader, acks, turn);
        let mut writer = Writer::new(play, writer, jobs);
        let (mut reading, mut writing) = (JoinSet::new(), JoinSet::new());
        reading.spawn_on(
            async move {
                reader.run(Some(until)).await;
                reader
            },
            read_place,
        );
        writing.spawn_on(
            async move {
                writer.run(until).await;
                writer
            },
            write_place,
        );
        let mut writer = join(&mut writing).await;
        let mut reader = join(&mut reading).await;
        if play.phase() == Phase::Shutdown {
            play.limit("shutdown()", writer.shut_down()).await;
            play.limit("the end of the stream", reader.run_to_end()).await;
        }
        if play.phase().is_end() || writer.has_ended {
            return;
        }
        let (read_half, read_acks) = reader.into_parts();
        let (write_half, write_jobs) = (writer.half, writer.jobs);
        let (read, written) = (read_half.last_reported(), write_half.last_reported());
        conn = read_half.reunite(write_half).expect("halves of one connection");
        count(Count::Reunions);
        (jobs, acks) = (write_jobs, read_acks);
        if conn.last_reported() != read.max(written) {
            play.fail(format_args!("reunited at {}, from {read} and {written}", conn.last_reported()));
        }
        if conn.last_reported() > read {
            // What the reader had not read of that link is dropped.
            acks.next_link();
        }
    }
}

/// The output of the only task of a set, which is cancelled together with the caller.
async fn join<T: 'static>(set: &mut JoinSet<T>) -> T {
    set.join_next().await.expect("it has a task").unwrap_or_else(resume)
}

/// The task of a `WriteHalf`.
struct Writer {
    play: Arc<Play>,
    half: WriteHalf,
    jobs: Jobs,
    reports: Reports,
    has_ended: bool,
}

impl Writer {
    fn new(play: &Arc<Play>, half: WriteHalf, jobs: Jobs) -> Self {
        let reports = Reports::new(play, half.last_reported());
        Self { play: Arc::clone(play), half, jobs, reports, has_ended: false }
    }

    /// Writes jobs for some time, the last one to its end.
    async fn run(&mut self, until: Instant) {
        let play = Arc::clone(&self.play);
        while !self.has_ended && Instant::now() < until && !play.phase().is_end() {
            let Some(job) = self.jobs.next() else {
                self.jobs.done();
                tokio::select! {
                    () = sleep_until(until) => {}
                    () = play.is_ending() => {}
                }
                return;
            };
            match self.write(job).await {
                Some(News::End) => self.has_ended = true,
                Some(News::NoLink) => play.limit("connected()", Handle::connected(&self.half)).await,
                Some(News::Break | News::Again) | None => {}
            }
            let time = pause(&mut self.jobs.random);
            if !time.is_zero() {
                sleep(time).await;
            }
            if meddle(&play, &mut self.half, &mut self.jobs.random) {
                self.reports.skip_to(self.half.last_reported());
            }
        }
    }

    /// Writes one job. A cancelled write is made again with the same bytes, or the link is given up.
    async fn write(&mut self, job: Job) -> Option<News> {
        let mut written = 0;
        while written < job.bytes.len() {
            let patience = Patience::draw(&mut self.jobs.random);
            let call = self.half.write(&job.bytes[written..]);
            let outcome = self.play.limit("a write of a half", self.play.patiently(patience, call)).await;
            if matches!(patience, Patience::Hold { .. }) {
                count(Count::HeldWrites);
            }
            match outcome {
                Some(Ok(n)) => written += n,
                Some(Err(error)) => {
                    self.jobs.failed(job.number);
                    let half = &self.half;
                    let news = self.reports.error(&error, || half.generation());
                    if news == News::Break {
                        self.reports.skip_to(self.half.last_reported());
                    }
                    return Some(news);
                }
                None => {
                    count(Count::CancelledWrites);
                    let gives_up = self.jobs.random.random_bool(0.2) && !self.jobs.is_calm();
                    if gives_up && abandon(&self.play, &mut self.half) {
                        self.reports.skip_to(self.half.last_reported());
                        self.jobs.failed(job.number);
                        return None;
                    }
                }
            }
        }
        let half = &self.half;
        self.jobs.written(job.number, || half.generation()).await;
        None
    }

    async fn shut_down(&mut self) {
        if let Err(error) = self.half.shutdown().await {
            let half = &self.half;
            self.reports.error(&error, || half.generation());
        }
    }
}
