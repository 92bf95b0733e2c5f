//! Delivery through many failures: writers number their notifications, a reader records them, and the server is killed again
//! and again. The environment can say how often:
//!
//! ```text
//! PERCONN_POSTGRES_FAILURES=40 cargo test --features postgres --test postgres -- --nocapture nothing_is_missing
//! ```
//!
//! Next: `delivery_check`, which compares the two records.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use perconn::postgres::{Event, Listener, Message};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;
use tokio_postgres::Config;

use crate::delivery_check::{Entry, ReceivedLog, Sent, check_delivery, mutants};
use crate::pgbouncer::PgBouncer;
use crate::server::{Plain, Postgres, Setup};
use crate::support::in_time;

/// The failures of the server in a run, unless `PERCONN_POSTGRES_FAILURES` is set: each kind of failure, and two in a row.
const FAILURES: usize = 10;
const WRITERS: usize = 4;
/// The number of the probe: an extra writer that finds out whether the reader receives again.
const PROBE: usize = WRITERS;
/// The reader listens to all except the last.
const CHANNELS: [&str; 4] = ["orders", "Orders", "a \"quoted\" n\u{e4}me", "not listened to"];
const NAME: &str = "delivery";

/// What the reader has received so far.
#[derive(Default)]
struct Progress {
    delivered: usize,
    outages: usize,
    /// The next number of each writer.
    next: [usize; WRITERS + 1],
}

#[test]
fn nothing_is_missing_doubled_or_out_of_order_outside_of_the_outages_on_one_thread() {
    on_threads(1);
}

#[test]
fn nothing_is_missing_doubled_or_out_of_order_outside_of_the_outages_on_two_threads() {
    on_threads(2);
}

#[test]
fn nothing_is_missing_doubled_or_out_of_order_behind_a_pooler() {
    let Some(server) = Postgres::start("delivery") else { return };
    behind_a_pooler(server);
}

#[test]
fn nothing_is_missing_doubled_or_out_of_order_with_a_newer_server() {
    let Some(server) = Setup::of("delivery").newer().start() else { return };
    let config = server.config();
    run_on(2, server, config);
}

#[test]
fn nothing_is_missing_doubled_or_out_of_order_behind_a_pooler_with_a_newer_server() {
    let Some(server) = Setup::of("delivery").newer().start() else { return };
    behind_a_pooler(server);
}

/// A run whose listener is behind a pooler. The writers are not.
fn behind_a_pooler(server: Postgres) {
    let Some(pooler) = PgBouncer::start("delivery", &server, "session", "query_wait_timeout = 0.2") else { return };
    run_on(2, server, pooler.config());
}

fn on_threads(threads: usize) {
    let Some(server) = Postgres::start("delivery") else { return };
    let config = server.config();
    run_on(threads, server, config);
}

fn run_on(threads: usize, server: Postgres, config: Config) {
    let setting = std::env::var("PERCONN_POSTGRES_FAILURES").ok();
    let failures = setting.map_or(FAILURES, |text| text.parse().expect("PERCONN_POSTGRES_FAILURES is a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
    runtime.block_on(run(&Arc::new(server), threads, config, failures));
}

async fn run(server: &Arc<Postgres>, threads: usize, mut config: Config, failures: usize) {
    let began = Instant::now();
    drop(server.client().await);
    let events = Arc::new(EventCounts::default());
    config.application_name(NAME);
    let counts = Arc::clone(&events);
    let listener = Listener::builder(config)
        .retry_min(Duration::from_millis(5))
        .retry_max(Duration::from_millis(50))
        .stable_after(Duration::ZERO)
        .queue(64)
        .on_event(move |event| counts.count(event))
        .logger(|_| {})
        .connect();
    let listener = in_time("connect", listener).await.unwrap();
    for channel in &CHANNELS[..CHANNELS.len() - 1] {
        in_time("listen", listener.listen(channel)).await.unwrap();
    }
    let up = Instant::now();
    let handle = listener.handle();
    let (progress, mut seen) = watch::channel(Progress::default());
    let reader = tokio::spawn(read(listener, ReceivedLog { up, entries: Vec::new() }, progress));

    let is_done = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    let logs: Vec<_> = (0..=PROBE).map(|_| Arc::new(Mutex::new(Vec::new()))).collect();
    for (number, log) in logs[..WRITERS].iter().enumerate() {
        writers.spawn(write(Arc::clone(server), number, Arc::clone(log), Arc::clone(&is_done)));
    }
    let mut random = SmallRng::seed_from_u64(7);
    for number in 0..failures {
        let outages = seen.borrow().outages;
        fail_server(server, number, Duration::from_millis(random.random_range(0..20))).await;
        // Sometimes the next failure comes before the listener has recovered.
        if number % 10 != 4 {
            wait_until_received(server, &logs[PROBE], &mut seen).await;
            assert!(seen.borrow().outages > outages, "no marker for failure {number}");
            let enough = seen.borrow().delivered + random.random_range(0..200);
            in_time("notifications", seen.wait_for(|seen| seen.delivered >= enough)).await.unwrap();
        }
        if number % 5 == 4 {
            let (delivered, time) = (seen.borrow().delivered, began.elapsed().as_secs_f64());
            println!("delivery, {threads} threads: {} failures, {delivered} delivered, {time:.1} s", number + 1);
        }
    }
    // The mutants need this many notifications on the last connection.
    let enough = seen.borrow().delivered + 1000;
    in_time("notifications", seen.wait_for(|seen| seen.delivered >= enough)).await.unwrap();
    is_done.store(true, Ordering::Relaxed);
    in_time("the writers", writers.join_all()).await;
    let client = server.client().await;
    for (writer, log) in logs.iter().enumerate() {
        send(&client, writer, log, &[0]).await.unwrap();
    }
    let all = logs.iter().map(|log| log.lock().unwrap().len()).collect::<Vec<_>>();
    in_time("the last of each writer", seen.wait_for(|seen| seen.next[..] == all)).await.unwrap();
    in_time("close", handle.close()).await;
    let received = in_time("the reader", reader).await.unwrap();

    let sent: Vec<Vec<Sent>> = logs.iter().map(|log| log.lock().unwrap().clone()).collect();
    let summary = check_delivery(&sent, &received).unwrap();
    println!("delivery, {threads} threads: {summary:?}, {:.1} s; {events:?}", began.elapsed().as_secs_f64());
    // Two failures in a row may be one loss.
    assert!((failures - failures.div_ceil(10)..=failures).contains(&summary.outages), "{summary:?}");
    let counted = [&events.disconnected, &events.reconnected].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(counted, [summary.outages; 2]);
    // The check finds every fault.
    assert!(summary.lost > 0, "nothing was lost, so the mutant without markers is correct");
    for (name, mutant) in mutants(&sent, &received) {
        let verdict = check_delivery(&sent, &mutant);
        println!("a listener that {name}: {verdict:?}");
        assert!(verdict.is_err(), "a listener that {name} is not found");
    }
}

/// Makes the server fail; most failures are kills. Returns when the server listens again.
async fn fail_server(server: &Arc<Postgres>, number: usize, away: Duration) {
    if number % 10 == 6 {
        let ended = server.client().await.terminate_named(NAME).await.unwrap();
        assert_eq!(ended, 1);
        return;
    }
    let server = Arc::clone(server);
    let failure = spawn_blocking(move || {
        match number % 10 {
            3 => server.shut_down_fast(),
            8 => server.shut_down_immediately(),
            _ => server.kill(),
        }
        std::thread::sleep(away);
        server.start_again();
    });
    failure.await.unwrap();
}

/// Returns when the reader has received something that was sent after this call.
async fn wait_until_received(server: &Postgres, log: &Log, seen: &mut watch::Receiver<Progress>) {
    let client = server.client().await;
    let received = async {
        loop {
            let number = log.lock().unwrap().len();
            send(&client, PROBE, log, &[0]).await.unwrap();
            let wait = seen.wait_for(|seen| seen.next[PROBE] > number);
            if timeout(Duration::from_millis(20), wait).await.is_ok() {
                return;
            }
        }
    };
    in_time("the reader receives again", received).await;
}

async fn read(mut listener: Listener, mut received: ReceivedLog, progress: watch::Sender<Progress>) -> ReceivedLog {
    loop {
        let entry = match listener.recv().await {
            Ok(Message::Notification(notification)) => {
                let mut fields = notification.payload().split(' ').map(|field| field.parse());
                let (Some(Ok(writer)), Some(Ok(number))) = (fields.next(), fields.next()) else {
                    panic!("{notification:?}");
                };
                Entry::Notification { writer, number }
            }
            Ok(Message::Lost { .. }) => Entry::Lost,
            Ok(Message::Resynced { generation, .. }) => Entry::Resynced { generation },
            Ok(other) => panic!("{other:?}"),
            Err(perconn::postgres::Error::Closed) => return received,
            Err(error) => panic!("{error:?}"),
        };
        received.entries.push((Instant::now(), entry));
        progress.send_modify(|progress| match entry {
            Entry::Notification { writer, number } => {
                progress.delivered += 1;
                progress.next[writer] = number + 1;
            }
            Entry::Resynced { .. } => progress.outages += 1,
            Entry::Lost => {}
        });
    }
}

type Log = Mutex<Vec<Sent>>;

/// Sends until the run is done, each number once, through all failures of the server.
async fn write(server: Arc<Postgres>, writer: usize, log: Arc<Log>, is_done: Arc<AtomicBool>) {
    let mut random = SmallRng::seed_from_u64(writer as u64);
    while !is_done.load(Ordering::Relaxed) {
        if let Ok(client) = Plain::connect(&server.config()).await {
            while !is_done.load(Ordering::Relaxed) {
                let count = random.random_range(1..=4);
                let channels: Vec<_> = (0..count).map(|_| random.random_range(0..CHANNELS.len())).collect();
                if send(&client, writer, &log, &channels).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        // Each attempt makes a server that starts up fork a process.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One transaction with a notification for each of these channels.
async fn send(client: &Plain, writer: usize, log: &Log, channels: &[usize]) -> Result<(), tokio_postgres::Error> {
    let first = log.lock().unwrap().len();
    let mut sql = "BEGIN;".to_owned();
    let begin = Instant::now();
    let mut sent = Vec::new();
    for (number, channel) in (first..).zip(channels.iter().copied()) {
        // Some are too long for one read. The server refuses 8,000 bytes.
        let padding = if number % 64 == 0 { 7_900 } else { number % 64 };
        let payload = format!("{writer} {number} {}", ".".repeat(padding));
        sql += &format!("SELECT pg_notify('{}', '{payload}');", CHANNELS[channel]);
        sent.push(Sent { begin, acknowledged: None, is_for_reader: channel + 1 < CHANNELS.len() });
    }
    log.lock().unwrap().append(&mut sent);
    client.batch(&(sql + "COMMIT")).await?;
    let acknowledged = Some(Instant::now());
    log.lock().unwrap()[first..].iter_mut().for_each(|sent| sent.acknowledged = acknowledged);
    Ok(())
}

/// How many events of each kind there were.
#[derive(Debug, Default)]
struct EventCounts {
    disconnected: AtomicUsize,
    reconnected: AtomicUsize,
    failed: AtomicUsize,
}

impl EventCounts {
    fn count(&self, event: &Event) {
        let count = match event {
            Event::Disconnected { .. } => &self.disconnected,
            Event::Reconnected { .. } => &self.reconnected,
            Event::AttemptFailed { .. } => &self.failed,
            _ => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
