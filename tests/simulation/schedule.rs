//! One schedule: its settings, its tasks, and its end.
//!
//! Next: `network.rs` and `server.rs`, the other side of the connection.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use perconn::{Address, Builder, Conn, Error, WhenDown};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::choices::Choices;
use crate::client::{self, Abandon, Control, CurrentMessage, Task};
use crate::journal::{Entry, HandleId, Journal, LogLine, Note};
use crate::network::{FaultRates, Link, Network, Stream};
use crate::server::{Dialer, Servers, Simulated};

/// The settings of a schedule that the checker has to know.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub retry_min: Duration,
    pub retry_max: Duration,
    pub stable_after: Duration,
    pub settle_time: Duration,
    pub dial_timeout: Option<Duration>,
    pub max_retries: Option<u32>,
    pub idle_timeout: Option<Duration>,
    pub when_down: WhenDown,
    pub close_as_error: bool,
    pub servers: Servers,
    /// Whether the program waits for the first link.
    pub connects: bool,
    pub faults: FaultRates,
    pub use_case: UseCase,
    pub queue_size: usize,
    pub ending: Ending,
    pub jitter_seed: u64,
    pub hooks_panic: usize,
}

/// Which handles the program uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseCase {
    Whole,
    /// A whole connection on which the servers answer requests.
    Requests,
    Halves,
    /// Its ends are put together again, give their link up, and go on as a whole.
    SplitByTokio,
    Shared,
    /// A read half, and a shared connection of the write half.
    ReaderAndShared,
}

impl UseCase {
    /// Whether several tasks write through a queue.
    pub fn has_queue(self) -> bool {
        matches!(self, Self::Shared | Self::ReaderAndShared)
    }
}

/// How the program ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By a close, after the faults have stopped and the tasks are done.
    CloseAfter,
    /// By the drop of the last handle, after the faults have stopped.
    DropAfter,
    /// By a shutdown, after the faults have stopped.
    ShutdownAfter,
    /// By a close while faults and tasks go on.
    CloseAmid(Duration),
}

/// The future of a close.
type Close = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The record of a schedule.
pub struct Record {
    pub settings: Settings,
    pub entries: Vec<Entry>,
    pub links: Vec<Link>,
    /// Set if an operation never ended.
    pub hung: Option<String>,
}

impl Settings {
    /// Draws the settings of a schedule.
    fn draw(choices: &Choices) -> Self {
        let ms = Duration::from_millis;
        let retry_min = choices.pick(&[ms(1_000), ms(10), ms(300)]);
        let use_case = choices.pick(&[
            UseCase::Whole,
            UseCase::Requests,
            UseCase::Halves,
            UseCase::SplitByTokio,
            UseCase::Shared,
            UseCase::Shared,
            UseCase::ReaderAndShared,
        ]);
        let count = choices.pick(&[1, 1, 2, 3]);
        let steady = (count > 1 && choices.chance(50)).then(|| choices.below(count));
        Self {
            retry_min,
            retry_max: retry_min * choices.pick(&[60, 1, 2, 10]),
            stable_after: choices.pick(&[ms(10_000), ms(0), ms(500)]),
            settle_time: choices.pick(&[ms(0), ms(0), ms(200), ms(5_000)]),
            dial_timeout: choices.pick(&[Some(ms(20_000)), Some(ms(100)), Some(ms(2_000)), None]),
            max_retries: choices.pick(&[None, None, None, None, Some(0), Some(2), Some(6)]),
            idle_timeout: choices.pick(&[None, None, Some(ms(3_000)), Some(ms(25_000))]),
            when_down: choices.pick(&[WhenDown::Wait, WhenDown::Wait, WhenDown::Fail, WhenDown::WaitFor(ms(700))]),
            close_as_error: choices.chance(50),
            servers: Servers { count, steady, answer: use_case == UseCase::Requests },
            connects: choices.chance(20),
            faults: FaultRates {
                capacity: choices.pick(&[100, 1, 1_000]),
                short: choices.pick(&[0, 30, 90]),
                spurious_pending: choices.pick(&[0, 20, 50]),
                io_error: choices.pick(&[0, 1, 5]),
                reports_close: choices.chance(80),
            },
            use_case,
            queue_size: choices.pick(&[10, 1, 3]),
            ending: match choices.below(6) {
                0..=1 => Ending::CloseAfter,
                2 => Ending::DropAfter,
                3 => Ending::ShutdownAfter,
                _ => Ending::CloseAmid(choices.time(Duration::from_secs(60))),
            },
            jitter_seed: choices.below(1 << 30) as u64,
            hooks_panic: choices.pick(&[0, 0, 10]),
        }
    }
}

/// Runs one schedule to its end.
pub fn run(choices: &Choices) -> Record {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run_tasks(choices))
}

/// Runs the tasks until all of them have ended.
async fn run_tasks(choices: &Choices) -> Record {
    let settings = Settings::draw(choices);
    let journal = Journal::new();
    let network = Network::new(choices.clone(), journal.clone(), settings.faults);
    let builder = builder(&settings, choices, &journal, &network);
    let conn = if settings.connects {
        let mut connect = pin!(builder.connect());
        let outcome = match timeout(Duration::from_secs(600), &mut connect).await {
            Ok(outcome) => outcome,
            Err(_) => {
                network.stop_faults();
                connect.await
            }
        };
        match outcome {
            Ok(conn) => conn,
            Err(error) => {
                assert!(matches!(error, Error::DialFailure { .. }), "connect: {error}");
                // Late events, or dials that must not be, have time to come.
                tokio::time::sleep(Duration::from_secs(3_600)).await;
                return Record { settings, entries: journal.entries(), links: network.links(), hung: None };
            }
        }
    } else {
        builder.build().expect("the settings are valid")
    };
    let close: Close = match settings.use_case {
        // A shared connection has a close of its own.
        _ if settings.use_case.has_queue() => Box::pin(std::future::ready(())),
        _ => Box::pin(conn.close()),
    };
    let (busy, tasks) = start(&settings, choices, &journal, &network, conn);
    if let (Ending::CloseAmid(after), false) = (settings.ending, settings.use_case.has_queue()) {
        let (journal, network) = (journal.clone(), network.clone());
        tokio::spawn(async move {
            network.sleep(after).await;
            close_and_note(&journal, close).await;
        });
    }
    // The faults last until all tasks are done, at most for ten minutes.
    for _ in 0..600 {
        if busy.load(Ordering::Relaxed) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    network.stop_faults();
    let mut hung = None;
    for task in tasks {
        if timeout(Duration::from_secs(3_600), task).await.is_err() {
            hung = Some("a task did not end within an hour without faults".to_owned());
        }
    }
    // Late events have time to arrive.
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    Record { settings, entries: journal.entries(), links: network.links(), hung }
}

/// A builder with these settings, whose hooks write into the journal.
fn builder(settings: &Settings, choices: &Choices, journal: &Journal, network: &Network) -> Builder<Dialer> {
    let hooks_panic = settings.hooks_panic;
    let (events, event_choices) = (journal.clone(), choices.clone());
    let (log, log_choices) = (journal.clone(), choices.clone());
    let misbehave = move |choices: &Choices, journal: &Journal| {
        if choices.chance(1) {
            // It is slow in real time: virtual time stands still while a hook runs.
            std::thread::sleep(Duration::from_micros(100));
        }
        if choices.chance(hooks_panic) {
            journal.write(Note::HookPanicked);
            std::panic::panic_any(Simulated);
        }
    };
    Conn::builder("simulated")
        .retry_min(settings.retry_min)
        .retry_max(settings.retry_max)
        .stable_after(settings.stable_after)
        .settle_time(settings.settle_time)
        .dial_timeout(settings.dial_timeout)
        .max_retries(settings.max_retries)
        .idle_timeout(settings.idle_timeout)
        .when_down(settings.when_down)
        .close_as_error(settings.close_as_error)
        .jitter_seed(settings.jitter_seed)
        .job_queue_size(settings.queue_size)
        .on_event(move |event| {
            events.write(Note::Event(event.clone()));
            misbehave(&event_choices, &events);
        })
        .logger(move |error| {
            log.write(Note::Logged(LogLine::of(error)));
            misbehave(&log_choices, &log);
        })
        .dialer(Dialer {
            network: network.clone(),
            choices: choices.clone(),
            journal: journal.clone(),
            dial_timeout: settings.dial_timeout.unwrap_or(Duration::from_secs(5)),
            servers: settings.servers,
            addresses: (0..settings.servers.count).map(|number| Address::from(format!("server-{number}"))).collect(),
            next: 0,
            dialed: 0,
        })
}

/// Starts the tasks of the program, and the one that ends the connection after them.
fn start(
    settings: &Settings,
    choices: &Choices,
    journal: &Journal,
    network: &Network,
    conn: Conn<Stream>,
) -> (Arc<AtomicUsize>, Vec<JoinHandle<()>>) {
    let busy = Arc::new(AtomicUsize::new(1));
    let task = |id| Task {
        id,
        choices: choices.clone(),
        journal: journal.clone(),
        network: network.clone(),
        operations: 5 + choices.below(60),
        is_patient: false,
    };
    let ending = settings.ending;
    let tasks = match settings.use_case {
        UseCase::Whole => {
            let task = task(HandleId::Whole);
            let done = Arc::clone(&busy);
            vec![tokio::spawn(async move {
                let conn = client::use_whole(task.clone(), conn, CurrentMessage::default()).await;
                done.fetch_sub(1, Ordering::Relaxed);
                end_whole(ending, &task, conn).await;
            })]
        }
        UseCase::Requests => {
            let task = task(HandleId::Whole);
            let done = Arc::clone(&busy);
            vec![tokio::spawn(async move {
                let conn = client::use_requests(task.clone(), conn).await;
                done.fetch_sub(1, Ordering::Relaxed);
                end_whole(ending, &task, conn).await;
            })]
        }
        UseCase::Halves => {
            let (read, write) = conn.into_split();
            let (reading, writing) = (task(HandleId::ReadHalf), task(HandleId::WriteHalf));
            let done = Arc::clone(&busy);
            vec![tokio::spawn(async move {
                let reader = tokio::spawn(client::use_reader(reading.clone(), read));
                let write = client::use_writer(writing.clone(), write).await;
                let read = reader.await.expect("the reader does not panic");
                done.fetch_sub(1, Ordering::Relaxed);
                end_halves(ending, &reading, read, &writing, write).await;
            })]
        }
        UseCase::SplitByTokio => {
            let (read, write) = tokio::io::split(conn);
            let (reading, writing) = (task(HandleId::SplitRead), task(HandleId::SplitWrite));
            let whole = task(HandleId::Whole);
            let done = Arc::clone(&busy);
            vec![tokio::spawn(async move {
                let reader = tokio::spawn(client::use_split_reader(reading.clone(), read));
                let (write, current) = client::use_split_writer(writing.clone(), write).await;
                let read = reader.await.expect("the reader does not panic");
                let mut conn = read.unsplit(write);
                conn.give_up_link(&whole);
                let conn = client::use_whole(whole.clone(), conn, current.next()).await;
                done.fetch_sub(1, Ordering::Relaxed);
                end_whole(ending, &whole, conn).await;
            })]
        }
        UseCase::Shared | UseCase::ReaderAndShared => {
            let is_shared = settings.use_case == UseCase::Shared;
            let (half, conn) = if is_shared {
                (None, conn.into_shared())
            } else {
                let (read, write) = conn.into_split();
                (Some((task(HandleId::ReadHalf), read)), write.into_shared())
            };
            let (readers, writers) = (1 + choices.below(2) as u32, 1 + choices.below(4) as u32);
            let readers = if is_shared { readers } else { 0 };
            let reading: Vec<_> =
                (0..readers).map(|number| (task(HandleId::SharedReader(number)), conn.clone())).collect();
            let writing: Vec<_> =
                (1..=writers).map(|number| (task(HandleId::SharedWriter(number)), number, conn.clone())).collect();
            let last = task(HandleId::SharedWriter(0));
            let done = Arc::clone(&busy);
            vec![tokio::spawn(async move {
                if let Ending::CloseAmid(after) = ending {
                    let (last, conn) = (last.clone(), conn.clone());
                    tokio::spawn(async move {
                        last.network.sleep(after).await;
                        close_and_note(&last.journal, conn.close(Duration::from_secs(5))).await;
                    });
                }
                let mut tasks: Vec<_> = reading
                    .into_iter()
                    .map(|(task, conn)| tokio::spawn(client::use_shared_reader(task, conn)))
                    .collect();
                tasks.extend(
                    writing
                        .into_iter()
                        .map(|(task, number, conn)| tokio::spawn(client::use_shared_writer(task, number, conn))),
                );
                let half = half.map(|(task, half)| tokio::spawn(client::use_reader(task, half)));
                for task in tasks {
                    task.await.expect("the task does not panic");
                }
                if let Some(half) = half {
                    half.await.expect("the task does not panic");
                }
                done.fetch_sub(1, Ordering::Relaxed);
                until_faults_stop(&last).await;
                if ending == Ending::DropAfter {
                    return;
                }
                close_and_note(&last.journal, conn.close(Duration::from_secs(5))).await;
                for message in 1..4 {
                    last.write_job(message, &conn).await;
                }
            })]
        }
    };
    (busy, tasks)
}

async fn until_faults_stop(task: &Task) {
    while !task.network.is_healthy() {
        task.network.sleep(Duration::from_secs(60)).await;
    }
}

/// Closes and records when.
async fn close_and_note(journal: &Journal, close: impl Future<Output = ()>) {
    journal.write(Note::CloseCalled);
    close.await;
    journal.write(Note::CloseDone);
}

/// Ends a whole connection.
async fn end_whole(ending: Ending, task: &Task, mut conn: Conn<Stream>) {
    until_faults_stop(task).await;
    match ending {
        Ending::DropAfter => return,
        Ending::ShutdownAfter => {
            task.shutdown(&mut conn).await;
            if task.choices.chance(30) {
                conn.give_up_link(task);
            }
            task.read_to_end(&mut conn).await;
        }
        Ending::CloseAfter | Ending::CloseAmid(_) => close_and_note(&task.journal, conn.close()).await,
    }
    // Operations after the end.
    let mut current = CurrentMessage::after_the_end();
    for _ in 0..3 {
        task.read(&mut conn).await;
        task.write(&mut conn, &mut current).await;
        task.flush(&mut conn, &mut current).await;
        conn.control(task).await;
        if task.choices.chance(30) {
            conn.give_up_link(task);
        }
    }
}

/// Ends a connection by its halves.
async fn end_halves(
    ending: Ending,
    reading: &Task,
    mut read: client::Reader,
    writing: &Task,
    mut write: client::Writer,
) {
    until_faults_stop(reading).await;
    match ending {
        Ending::DropAfter => return,
        Ending::ShutdownAfter => {
            writing.shutdown(&mut write).await;
            if reading.choices.chance(30) {
                read.give_up_link(reading);
            }
            reading.read_to_end(&mut read).await;
        }
        Ending::CloseAfter | Ending::CloseAmid(_) => close_and_note(&writing.journal, write.close()).await,
    }
    let mut current = CurrentMessage::after_the_end();
    for _ in 0..3 {
        reading.read(&mut read).await;
        writing.write(&mut write, &mut current).await;
        writing.flush(&mut write, &mut current).await;
        write.control(writing).await;
        if writing.choices.chance(30) {
            write.give_up_link(writing);
        }
    }
}
