//! A client with clones of a `SharedConn` in several tasks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use perconn::SharedConn;
use rand::RngExt;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::handle::{Handle, meddle};
use crate::plan::{Patience, pause};
use crate::play::{Play, poll_first, resume};
use crate::reading::{Acks, Reader};
use crate::reports::{News, news};
use crate::runtimes::Place;
use crate::totals::{Count, count};
use crate::writing::{Job, Jobs, note_failed, note_written};

/// Reads through a clone until the play is over.
pub(crate) fn read(play: &Arc<Play>, conn: SharedConn, number: u64) -> impl Future<Output = ()> + Send + use<> {
    let mut reader = Reader::new(play, conn, Acks::new(play), number);
    async move { reader.run(None).await }
}

/// Writes jobs through a clone until the play is over. Some futures are moved to a task at another place.
pub(crate) fn write(play: &Arc<Play>, conn: SharedConn, elsewhere: Place) -> impl Future<Output = ()> + Send + use<> {
    let jobs = Jobs::new(play);
    Writer { play: Arc::clone(play), conn, jobs, moved: JoinSet::new(), elsewhere }.run()
}

struct Writer {
    play: Arc<Play>,
    conn: SharedConn,
    jobs: Jobs,
    /// The futures that were moved to a task of their own.
    moved: JoinSet<()>,
    elsewhere: Place,
}

impl Writer {
    async fn run(mut self) {
        let play = Arc::clone(&self.play);
        while !play.phase().is_end() {
            let Some(job) = self.jobs.next() else {
                self.join_moved().await;
                self.jobs.done();
                return play.is_ending().await;
            };
            let patience = Patience::draw(&mut self.jobs.random);
            let news = match patience {
                _ if self.jobs.is_seeking() => self.write(job, Patience::Endless).await,
                Patience::Hold { time, is_dropped } if self.jobs.random.random() => {
                    self.write_elsewhere(job, time, is_dropped).await;
                    None
                }
                patience => self.write(job, patience).await,
            };
            match news {
                Some(News::End) => return,
                Some(News::NoLink) => play.limit("connected()", Handle::connected(&self.conn)).await,
                Some(News::Break | News::Again) | None => {}
            }
            let time = pause(&mut self.jobs.random);
            if !time.is_zero() {
                sleep(time).await;
            }
            meddle(&play, &mut self.conn, &mut self.jobs.random);
            while let Some(outcome) = self.moved.try_join_next() {
                outcome.unwrap_or_else(resume);
            }
        }
        self.join_moved().await;
    }

    async fn write(&mut self, job: Job, patience: Patience) -> Option<News> {
        let call = self.play.patiently(patience, self.conn.write_all(&job.bytes));
        let outcome = self.play.limit("write_all() of a SharedConn", call).await;
        if matches!(patience, Patience::Hold { .. }) {
            count(Count::HeldJobs);
        }
        match outcome {
            Some(Ok(())) => {
                let conn = &self.conn;
                self.jobs.written(job.number, || conn.generation()).await;
                None
            }
            Some(Err(error)) => Some(failed(&self.play, self.jobs.task(), job.number, &error)),
            None => {
                count(Count::CancelledJobs);
                None
            }
        }
    }

    /// Polls the job once, here, so that its place in the order is fixed. Another task goes on with it, or drops it.
    async fn write_elsewhere(&mut self, job: Job, time: Duration, is_dropped: bool) {
        let (play, task, conn) = (Arc::clone(&self.play), self.jobs.task(), self.conn.clone());
        let number = job.number;
        let mut call = Box::pin(async move { conn.write_all(&job.bytes).await });
        count(Count::HeldJobs);
        let outcome = poll_first(call.as_mut()).await;
        let note = move |play: &Play, outcome: io::Result<()>| match outcome {
            Ok(()) => note_written(play, task, number),
            Err(error) => drop(failed(play, task, number, &error)),
        };
        if let Some(outcome) = outcome {
            return note(&self.play, outcome);
        }
        count(Count::MovedJobs);
        let going_on = async move {
            sleep(time).await;
            if is_dropped {
                count(Count::CancelledJobs);
            } else {
                note(&play, play.limit("write_all() of a SharedConn, moved to another task", call).await);
            }
        };
        self.moved.spawn_on(going_on, self.play.places.of(self.elsewhere));
    }

    async fn join_moved(&mut self) {
        while let Some(outcome) = self.moved.join_next().await {
            outcome.unwrap_or_else(resume);
        }
    }
}

/// Notes that a job has failed: a break has cut it, or it was not sent.
fn failed(play: &Play, task: u32, job: u64, error: &io::Error) -> News {
    let (news, generation) = news(play, error);
    note_failed(play, task, job);
    if news == News::Break {
        play.note_cut(generation);
    }
    news
}
