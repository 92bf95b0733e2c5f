//! A client with a whole `Conn` in one task: it writes and reads in one future, as in a `select!`.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use perconn::Conn;
use rand::RngExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::sleep;

use crate::handle::{Handle, abandon, meddle};
use crate::plan::{Patience, pause};
use crate::play::{Phase, Play};
use crate::reading::Acks;
use crate::reports::{Direction, News, Reports};
use crate::totals::{Count, count};
use crate::writing::{Job, Jobs};

/// Plays the client until the play is over.
pub(crate) fn run(play: &Arc<Play>, conn: Conn) -> impl Future<Output = ()> + Send + use<> {
    let (jobs, acks) = (Jobs::new(play), Acks::new(play));
    let reports = Reports::new(play, conn.last_reported());
    Whole { play: Arc::clone(play), conn, jobs, acks, reports, buf: vec![0; 4096] }.run()
}

struct Whole {
    play: Arc<Play>,
    conn: Conn,
    jobs: Jobs,
    acks: Acks,
    reports: Reports,
    buf: Vec<u8>,
}

/// What one call has done.
enum Done {
    Read(io::Result<usize>),
    Written(io::Result<usize>),
}

impl Whole {
    async fn run(mut self) {
        let play = Arc::clone(&self.play);
        while !play.phase().is_end() {
            let news = match self.jobs.next() {
                Some(job) => self.exchange(job).await,
                None => {
                    self.jobs.done();
                    tokio::select! {
                        () = play.is_ending() => break,
                        news = self.read() => news,
                    }
                }
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
            if meddle(&play, &mut self.conn, &mut self.jobs.random) {
                self.gave_up();
            }
        }
        if play.phase() == Phase::Shutdown {
            play.limit("shutdown() and the end of the stream", self.shut_down()).await;
        }
    }

    /// Writes a job, and reads what comes meanwhile.
    ///
    /// If a read reports the break of the link that has a part of the job, it goes on all the same now and then, as a
    /// `write_all` in another task would: then the next write fails.
    async fn exchange(&mut self, job: Job) -> Option<News> {
        let (mut written, mut must_fail) = (0, false);
        let goes_on = !self.play.plan.abandons && self.jobs.random.random();
        while written < job.bytes.len() {
            let random = &mut self.jobs.random;
            let patience = Patience::draw(random);
            let room = random.random_range(1..=self.buf.len());
            let (reads_first, gives_up) = (random.random(), random.random_bool(0.2));
            let (rest, buf) = (&job.bytes[written..], &mut self.buf[..room]);
            let call = poll_fn(|cx| poll_both(&mut self.conn, cx, rest, buf, reads_first));
            let done = self.play.limit("a write, beside a read", self.play.patiently(patience, call)).await;
            if matches!(patience, Patience::Hold { .. }) {
                count(Count::HeldWrites);
            }
            let news = match done {
                Some(Done::Written(Ok(_))) if must_fail => {
                    self.play.fail(format_args!("the rest of job {} is written on the next link", job.number))
                }
                Some(Done::Written(Ok(n))) => {
                    written += n;
                    if written < job.bytes.len() {
                        // The link may break now, when no call waits for it.
                        sleep(pause(&mut self.jobs.random)).await;
                    }
                    None
                }
                Some(Done::Written(Err(error))) => match self.failed(Direction::Write, &error) {
                    News::Again if must_fail => Some(News::Break),
                    news => Some(news),
                },
                Some(Done::Read(outcome)) => match self.has_read(outcome) {
                    Some(News::Break) if written > 0 && goes_on => {
                        must_fail = true;
                        None
                    }
                    news => news,
                },
                None => {
                    count(Count::CancelledWrites);
                    if gives_up && !self.jobs.is_calm() && abandon(&self.play, &mut self.conn) {
                        self.gave_up();
                        self.jobs.failed(job.number);
                        return None;
                    }
                    None
                }
            };
            match news {
                // It goes to the next link, whole.
                Some(News::Break) if written == 0 => {}
                Some(News::Again) => {}
                Some(news) => {
                    self.jobs.failed(job.number);
                    return Some(news);
                }
                None => {}
            }
        }
        let conn = &self.conn;
        self.jobs.written(job.number, || conn.generation()).await;
        None
    }

    /// Only reads.
    async fn read(&mut self) -> Option<News> {
        let patience = Patience::draw(&mut self.jobs.random);
        let room = self.jobs.random.random_range(1..=self.buf.len());
        let mut buf = ReadBuf::new(&mut self.buf[..room]);
        let call = poll_fn(|cx| Pin::new(&mut self.conn).poll_read(cx, &mut buf));
        match self.play.patiently(patience, call).await {
            Some(outcome) => {
                let n = buf.filled().len();
                self.has_read(outcome.map(|()| n))
            }
            None => {
                count(Count::CancelledReads);
                None
            }
        }
    }

    fn has_read(&mut self, outcome: io::Result<usize>) -> Option<News> {
        match outcome {
            Ok(0) => {
                self.reports.end_of_stream(self.conn.last_reported(), self.conn.generation());
                self.after_break();
                Some(News::Break)
            }
            Ok(n) => {
                self.acks.feed(&self.buf[..n], self.conn.last_reported());
                None
            }
            Err(error) => Some(self.failed(Direction::Read, &error)),
        }
    }

    fn failed(&mut self, direction: Direction, error: &io::Error) -> News {
        let conn = &self.conn;
        let news = self.reports.error_in(direction, error, || conn.generation());
        if news == News::Break {
            self.after_break();
        }
        news
    }

    fn after_break(&mut self) {
        self.acks.next_link();
        if self.play.plan.abandons {
            // The link is gone already: this only says that no earlier call is under way.
            self.conn.abandon();
            self.reports.skip_to(self.conn.last_reported());
        }
    }

    /// The link was abandoned.
    fn gave_up(&mut self) {
        self.reports.skip_to(self.conn.last_reported());
        self.acks.next_link();
    }

    async fn shut_down(&mut self) {
        if let Err(error) = self.conn.shutdown().await {
            self.failed(Direction::Write, &error);
        }
        while self.read().await != Some(News::End) {}
    }
}

/// Reads or writes, whatever is ready.
fn poll_both(conn: &mut Conn, cx: &mut Context<'_>, bytes: &[u8], buf: &mut [u8], reads_first: bool) -> Poll<Done> {
    for reads in [reads_first, !reads_first] {
        let done = if reads {
            let mut buf = ReadBuf::new(buf);
            let poll = Pin::new(&mut *conn).poll_read(cx, &mut buf);
            poll.map(|outcome| Done::Read(outcome.map(|()| buf.filled().len())))
        } else {
            Pin::new(&mut *conn).poll_write(cx, bytes).map(Done::Written)
        };
        if done.is_ready() {
            return done;
        }
    }
    Poll::Pending
}
