//! One play: a connection, its server, and what both have seen.
//!
//! ```text
//! storm   the server breaks the links, and so does the client; calls are cancelled
//! calm    nobody breaks a link: every job arrives, exactly once and in order
//! end     close, drop, or shutdown, with whatever is under way
//! ```
//!
//! Next: [`server`](crate::server), then the clients: [`whole`](crate::whole), [`halves`](crate::halves),
//! [`shared`](crate::shared).

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use perconn::{Builder, Conn, Event, SocketOptions, TcpDialer};
use rand::RngExt;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use crate::frame::Ack;
use crate::jobs::{Fate, LinkLog, TaskLog, violations};
use crate::plan::{Ending, Kind, Patience, Plan, Use, place};
use crate::runtimes::{Place, Places};
use crate::server::Server;
use crate::totals::{Count, add, count, seen};
use crate::{halves, shared, whole};

/// No call is meant to take nearly as long; one that does hangs.
const HANG_LIMIT: Duration = Duration::from_secs(30);

/// What the client's tasks do at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Storm,
    Calm,
    /// Each task ends after the call that it makes.
    Finish,
    /// The same, but the readers read to the end.
    Shutdown,
}

impl Phase {
    /// Whether the client ends.
    pub(crate) fn is_end(self) -> bool {
        matches!(self, Self::Finish | Self::Shutdown)
    }
}

/// What the tasks of one play share.
pub(crate) struct Play {
    /// The client in its frames.
    pub(crate) client: u32,
    pub(crate) plan: Plan,
    pub(crate) places: Places,
    /// How to repeat the plan.
    seed_of_round: u64,
    phase: watch::Sender<Phase>,
    /// Set before the client closes its connection. Until then, the connection must not end.
    pub(crate) may_end: AtomicBool,
    /// Locked while the program breaks a link. False in the calm.
    may_break: Mutex<bool>,
    /// The link of the calm, once all writers use it; 0 before, and when it may break again.
    calm_generation: AtomicU64,
    /// The breaks that writes of a `SharedConn` have reported: at most one job is cut by each.
    cut_by: Mutex<HashSet<u64>>,
    tasks: Mutex<Vec<TaskLog>>,
    pub(crate) links: Mutex<Vec<LinkLog>>,
    /// How many bytes each reader has read since the last break that it has reported.
    read: Mutex<Vec<Arc<AtomicU64>>>,
    /// How many writers have written all their jobs of the calm.
    calm_writers: AtomicU64,
    /// Notified when something arrives, is read or is done in the calm.
    changed: Notify,
}

impl fmt::Display for Play {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, seed) = (self.plan.kind, self.seed_of_round);
        write!(f, "client {:#x} ({kind:?}); PERCONN_STRESS_SEED={seed} repeats its plan", self.client)
    }
}

/// Plays a connection from its first dial to its end, and checks it.
pub(crate) async fn run(client: u32, plan: Plan, places: Places, seed_of_round: u64) {
    let play = Arc::new(Play::new(client, plan, places, seed_of_round));
    count(Count::Connections);
    let mut server = Server::start(&play);
    let conn = play.connect(server.address);
    let client = async {
        let mut client = Client::start(&play, conn.await);
        client.work_for(play.plan.storm).await;
        if play.plan.has_calm {
            play.calm_down();
            client.work_until(play.everything_arrived()).await;
        }
        client.end().await;
    };
    server.beside(client).await;
    server.end().await;
    play.check();
}

impl Play {
    fn new(client: u32, plan: Plan, places: Places, seed_of_round: u64) -> Self {
        Self {
            client,
            plan,
            places,
            seed_of_round,
            phase: watch::Sender::new(Phase::Storm),
            may_end: AtomicBool::new(false),
            may_break: Mutex::new(true),
            calm_generation: AtomicU64::new(0),
            cut_by: Mutex::default(),
            tasks: Mutex::default(),
            links: Mutex::default(),
            read: Mutex::default(),
            calm_writers: AtomicU64::new(0),
            changed: Notify::new(),
        }
    }

    async fn connect(&self, address: SocketAddr) -> Conn {
        let actor = self.places.of(self.plan.actor);
        if self.plan.connects_first {
            let connecting = actor.spawn(self.builder(address).connect());
            // It fails if the server resets the link before the dial has seen that it was up.
            if let Ok(conn) = self.limit("connect()", connecting).await.unwrap_or_else(resume) {
                return conn;
            }
        }
        let _runtime = actor.enter();
        self.builder(address).build().unwrap()
    }

    fn builder(&self, address: SocketAddr) -> Builder<TcpDialer> {
        let plan = &self.plan;
        let mut options = SocketOptions::new().nodelay(plan.nodelay);
        if let Some(size) = plan.buffers {
            options = options.send_buffer_size(size as usize).recv_buffer_size(size as usize);
        }
        Conn::builder(address)
            .socket_options(options)
            .retry_min(plan.retry_min)
            .retry_max(plan.retry_max)
            .stable_after(Duration::ZERO)
            .when_down(plan.when_down)
            .job_queue_size(plan.job_queue_size)
            .close_as_error(plan.close_as_error)
            .jitter_seed(plan.generator(Use::Jitter, 0).random())
            .logger(|_| {})
            .on_event(|event| match event {
                Event::Disconnected { cause, .. } => count(seen(cause.kind())),
                Event::DialFailed { .. } => count(Count::DialsFailed),
                _ => {}
            })
    }

    // ===== limits and failures =====

    /// A promise was broken.
    pub(crate) fn fail(&self, what: impl fmt::Display) -> ! {
        static HAS_FAILED: AtomicBool = AtomicBool::new(false);
        if HAS_FAILED.swap(true, Ordering::Relaxed) {
            // The first failure takes the runtimes down, and others follow from that: they are not printed.
            resume_unwind(Box::new("another failure"));
        }
        panic!("{what}; {self}")
    }

    /// Fails when `future` takes so long that it hangs.
    pub(crate) async fn limit<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        match timeout(HANG_LIMIT, future).await {
            Ok(output) => output,
            Err(_) => self.fail(format_args!("hangs: {what}")),
        }
    }

    // ===== phases =====

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits until the calm begins.
    pub(crate) async fn is_calming_down(&self) {
        let _ = self.phase.subscribe().wait_for(|now| *now == Phase::Calm).await;
    }

    /// Waits until the client ends.
    pub(crate) async fn is_ending(&self) {
        let _ = self.phase.subscribe().wait_for(|now| now.is_end()).await;
    }

    /// From now on, neither side breaks a link.
    fn calm_down(&self) {
        *self.may_break.lock().unwrap() = false;
        self.phase.send_replace(Phase::Calm);
    }

    /// Lets the program break its link, unless in the calm. Returns whether it did.
    pub(crate) fn break_by(&self, breaks: impl FnOnce()) -> bool {
        let may_break = self.may_break.lock().unwrap();
        if *may_break {
            breaks();
        }
        *may_break
    }

    /// This link is up, and nobody breaks it any more.
    pub(crate) fn note_calm_link(&self, generation: u64) {
        self.calm_generation.store(generation, Ordering::Relaxed);
    }

    /// Whether nobody can have broken this link.
    pub(crate) fn is_calm(&self, generation: u64) -> bool {
        let calm = self.calm_generation.load(Ordering::Relaxed);
        calm != 0 && generation >= calm
    }

    // ===== jobs =====

    /// A task that writes jobs. Returns its number.
    pub(crate) fn new_task(&self) -> u32 {
        let mut tasks = self.tasks.lock().unwrap();
        tasks.push(TaskLog::default());
        tasks.len() as u32 - 1
    }

    /// Changes what is noted of a task.
    pub(crate) fn log<T>(&self, task: u32, change: impl FnOnce(&mut TaskLog) -> T) -> T {
        change(&mut self.tasks.lock().unwrap()[task as usize])
    }

    /// A break has cut a job of a `SharedConn`.
    pub(crate) fn note_cut(&self, generation: u64) {
        if !self.cut_by.lock().unwrap().insert(generation) {
            self.fail(format_args!("two jobs were cut by the break of link {generation}"));
        }
    }

    /// A reader of acknowledgements. Returns where it counts what it reads.
    pub(crate) fn new_reader(&self) -> Arc<AtomicU64> {
        let counter = Arc::default();
        self.read.lock().unwrap().push(Arc::clone(&counter));
        counter
    }

    // ===== the calm =====

    /// Waits until a condition is met that something in the calm can change.
    pub(crate) async fn wait_until(&self, mut condition: impl FnMut() -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if condition() {
                return;
            }
            changed.await;
        }
    }

    /// Something has arrived, was read or is done. Only the calm waits for that.
    pub(crate) fn note_change(&self) {
        if self.phase() == Phase::Calm {
            self.changed.notify_waiters();
        }
    }

    /// Whether a job has arrived on the link of the calm.
    pub(crate) fn has_arrived_in_calm(&self, task: u32, job: u64) -> bool {
        let links = self.links.lock().unwrap();
        links.last().is_some_and(|link| link.is_calm && link.arrived.contains(&(task, job)))
    }

    /// A writer has written all its jobs of the calm.
    pub(crate) fn note_calm_writer(&self) {
        self.calm_writers.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// Waits until all jobs of the calm have arrived, and all answers to them.
    async fn everything_arrived(&self) {
        let arrived = self.wait_until(|| self.missing_in_calm().is_none());
        if timeout(HANG_LIMIT, arrived).await.is_err() {
            self.fail(format_args!("hangs: the calm: {}", self.missing_in_calm().unwrap_or_default()));
        }
    }

    /// What has not arrived yet.
    fn missing_in_calm(&self) -> Option<String> {
        let tasks = self.tasks.lock().unwrap();
        let writers = self.calm_writers.load(Ordering::Relaxed);
        if writers < tasks.len() as u64 {
            return Some(format!("{writers} of {} writers are done", tasks.len()));
        }
        let links = self.links.lock().unwrap();
        let found = violations(&tasks, &links);
        if !found.is_empty() {
            return Some(found.join("; "));
        }
        let read = self.read.lock().unwrap();
        // A reader that is late has the bytes of an earlier link.
        let answers = read.iter().map(|counter| counter.load(Ordering::Relaxed)).sum::<u64>();
        let expected = links.last().map_or(0, |link| (link.arrived.len() * Ack::LENGTH) as u64);
        let is_missing = !read.is_empty() && answers != expected;
        is_missing.then(|| format!("{answers} of {expected} bytes of answers were read"))
    }

    /// Compares what both ends have seen.
    fn check(&self) {
        let (tasks, links) = (self.tasks.lock().unwrap(), self.links.lock().unwrap());
        let found = violations(&tasks, &links);
        if !found.is_empty() {
            self.fail(found.join("; "));
        }
        for log in tasks.iter() {
            let of = |fate| log.fates.iter().filter(|known| **known == fate).count() as u64;
            add(Count::JobsWritten, of(Fate::Written));
            add(Count::JobsFailed, of(Fate::Failed));
            add(Count::JobsInCalm, log.calm_from.map_or(0, |first| log.fates.len() - first) as u64);
        }
    }

    // ===== cancelled calls =====

    /// Makes a call and stays with it as long as `patience` says. `None`: its future was dropped.
    pub(crate) async fn patiently<T>(&self, patience: Patience, call: impl Future<Output = T>) -> Option<T> {
        match patience {
            Patience::Endless => Some(call.await),
            Patience::Turns(turns) => tokio::select! {
                biased;
                output = call => Some(output),
                () = async { for _ in 0..turns { yield_now().await } } => None,
            },
            Patience::Time(time) => timeout(time, call).await.ok(),
            Patience::Hold { time, is_dropped } => {
                let mut call = pin!(call);
                if let Some(output) = poll_first(call.as_mut()).await {
                    return Some(output);
                }
                sleep(time).await;
                if is_dropped { None } else { Some(call.await) }
            }
        }
    }
}

/// Polls a future once, within the task that awaits this.
pub(crate) async fn poll_first<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// The panic of a task goes on in the one that waits for it.
pub(crate) fn resume<T>(error: JoinError) -> T {
    // After a failure, a runtime that shuts down cancels the other tasks.
    resume_unwind(error.try_into_panic().unwrap_or_else(|cancelled| Box::new(cancelled)))
}

/// The client's tasks.
struct Client {
    play: Arc<Play>,
    tasks: JoinSet<()>,
    /// Closes the connection when it is polled.
    close: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Client {
    fn start(play: &Arc<Play>, conn: Conn) -> Self {
        let mut client = Self { play: Arc::clone(play), tasks: JoinSet::new(), close: Box::pin(conn.close()) };
        let mut random = play.plan.generator(Use::Places, 0);
        let mut place = || place(&mut random);
        match play.plan.kind {
            Kind::Whole => client.spawn(place(), whole::run(play, conn)),
            Kind::Halves => client.spawn(place(), halves::run(play, conn, [place(), place()])),
            Kind::Shared => {
                let conn = conn.into_shared();
                let closing = conn.clone();
                client.close = Box::pin(async move { closing.close(Duration::from_secs(5)).await });
                (0..play.plan.readers).for_each(|n| client.spawn(place(), shared::read(play, conn.clone(), n as u64)));
                (0..play.plan.writers).for_each(|_| client.spawn(place(), shared::write(play, conn.clone(), place())));
            }
            Kind::Beside => {
                let (reader, writer) = conn.into_split();
                let writer = writer.into_shared();
                client.spawn(place(), halves::read_beside(play, reader));
                let mut write = || shared::write(play, writer.clone(), place());
                let writes: Vec<_> = (0..play.plan.writers).map(|_| write()).collect();
                writes.into_iter().for_each(|write| client.spawn(place(), write));
            }
        }
        client
    }

    fn spawn(&mut self, place: Place, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, self.play.places.of(place));
    }

    /// Lets the tasks run for some time.
    async fn work_for(&mut self, time: Duration) {
        let _ = timeout(time, self.no_task_ends()).await;
    }

    /// Lets the tasks run until something has happened.
    async fn work_until(&mut self, event: impl Future<Output = ()>) {
        tokio::select! {
            () = event => {}
            () = self.no_task_ends() => {}
        }
    }

    /// Passes a task's panic on.
    async fn no_task_ends(&mut self) {
        if let Some(outcome) = self.tasks.join_next().await {
            outcome.unwrap_or_else(resume);
            self.play.fail("a task has ended before its time");
        }
    }

    /// Ends the client as planned.
    async fn end(mut self) {
        let play = self.play;
        // The link of the calm ends, too.
        play.calm_generation.store(0, Ordering::Relaxed);
        play.may_end.store(true, Ordering::Relaxed);
        match play.plan.ending {
            Ending::Close => {
                count(Count::Closes);
                play.limit("close()", self.close).await;
                play.phase.send_replace(Phase::Finish);
            }
            Ending::Drop => {
                count(Count::Drops);
                drop(self.close);
                self.tasks.abort_all();
            }
            Ending::Finish => {
                count(Count::Finishes);
                drop(self.close);
                play.phase.send_replace(Phase::Finish);
            }
            Ending::Shutdown => {
                count(Count::Shutdowns);
                drop(self.close);
                play.phase.send_replace(Phase::Shutdown);
            }
        }
        let ending = async {
            while let Some(outcome) = self.tasks.join_next().await {
                match outcome {
                    Err(error) if error.is_panic() => resume(error),
                    _ => {}
                }
            }
        };
        play.limit("a task of the client, at its end", ending).await;
        // For the server.
        play.phase.send_replace(Phase::Finish);
    }
}
