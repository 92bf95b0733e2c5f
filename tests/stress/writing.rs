//! A task that writes jobs, whatever handle it writes them with: which job comes next, and what became of it.
//!
//! Next: [`whole`](crate::whole), [`halves`](crate::halves), [`shared`](crate::shared).

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use tokio::time::{Instant, timeout};

use crate::frame::Frame;
use crate::jobs::Fate;
use crate::plan::{Use, length};
use crate::play::{Phase, Play};
use crate::totals::{Count, count};

/// How many jobs each task writes in the calm, after the one that shows that the calm has come.
const CALM_JOBS: u32 = 20;

/// How long a task waits for the first job of the calm to arrive before it writes another one. The first may have been
/// written on a link of the storm.
const CALM_WAIT: Duration = Duration::from_millis(50);

/// When it gives up.
const CALM_LIMIT: Duration = Duration::from_secs(30);

/// One frame to write.
pub(crate) struct Job {
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Where the jobs of one task come from.
pub(crate) struct Jobs {
    play: Arc<Play>,
    task: u32,
    stage: Stage,
    pub(crate) random: SmallRng,
}

/// How far the task has come.
enum Stage {
    Storm,
    /// It looks for the link of the calm.
    Seek {
        since: Instant,
    },
    /// The number of jobs that are left.
    Calm {
        left: u32,
    },
    Done,
}

impl Jobs {
    pub(crate) fn new(play: &Arc<Play>) -> Self {
        let task = play.new_task();
        let random = play.plan.generator(Use::Writer, u64::from(task));
        Self { play: Arc::clone(play), task, stage: Stage::Storm, random }
    }

    /// The next job. `None`: there is none any more.
    pub(crate) fn next(&mut self) -> Option<Job> {
        if matches!(self.stage, Stage::Storm) && self.play.phase() == Phase::Calm {
            self.stage = Stage::Seek { since: Instant::now() };
        }
        let length = match &mut self.stage {
            Stage::Storm => length(&mut self.random),
            Stage::Seek { since } if since.elapsed() > CALM_LIMIT => self.play.fail("no job arrives in the calm"),
            Stage::Seek { .. } => 0,
            Stage::Calm { left: 0 } | Stage::Done => return None,
            Stage::Calm { left } => {
                *left -= 1;
                length(&mut self.random)
            }
        };
        count(Count::Jobs);
        let number = self.play.log(self.task, |log| {
            log.fates.push(Fate::Unknown);
            log.fates.len() as u64 - 1
        });
        let frame = Frame { client: self.play.client, task: self.task, job: number, length };
        Some(Job { number, bytes: frame.to_bytes() })
    }

    /// Whether the next job looks for the link of the calm. It has to be written to its end.
    pub(crate) fn is_seeking(&self) -> bool {
        matches!(self.stage, Stage::Seek { .. })
    }

    /// Whether no job may fail any more.
    pub(crate) fn is_calm(&self) -> bool {
        matches!(self.stage, Stage::Calm { .. })
    }

    /// The connection has taken all bytes of a job. `generation` is the newest link then.
    pub(crate) async fn written(&mut self, job: u64, generation: impl Fn() -> u64) {
        let task = self.task;
        note_written(&self.play, task, job);
        if !self.is_seeking() {
            return;
        }
        let arrived = self.play.wait_until(|| self.play.has_arrived_in_calm(task, job));
        if timeout(CALM_WAIT, arrived).await.is_ok() {
            self.play.log(task, |log| log.calm_from = Some(job as usize));
            self.play.note_calm_link(generation());
            self.stage = Stage::Calm { left: CALM_JOBS };
        }
    }

    /// A job has failed, or was given up in the middle.
    pub(crate) fn failed(&self, job: u64) {
        note_failed(&self.play, self.task, job);
    }

    /// All jobs that this task has in work are done. Call it whenever there is no next job.
    pub(crate) fn done(&mut self) {
        if !matches!(self.stage, Stage::Done) {
            self.stage = Stage::Done;
            self.play.note_calm_writer();
        }
    }

    pub(crate) fn task(&self) -> u32 {
        self.task
    }
}

pub(crate) fn note_written(play: &Play, task: u32, job: u64) {
    play.log(task, |log| log.fates[job as usize] = Fate::Written);
}

pub(crate) fn note_failed(play: &Play, task: u32, job: u64) {
    let calm_from = play.log(task, |log| {
        log.fates[job as usize] = Fate::Failed;
        log.calm_from
    });
    // A future that was held since the storm may fail late.
    if calm_from.is_some_and(|first| job as usize >= first) {
        play.fail(format_args!("job {job} of task {task} has failed in the calm"));
    }
}
