//! Writers number their notifications, and a reader keeps a ledger of them, while the server is killed again and again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use perconn::postgres::{Event, Listener, Message};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use crate::judge::{Entry, Journal, Sent, judge, mutants};
use crate::server::{Plain, Postgres};
use crate::support::in_time;

/// On one thread, and as many on two.
const DISASTERS: usize = 25;
const WRITERS: usize = 4;
/// Writes when the others are not asked: whether the reader is listening again.
const TEST: usize = WRITERS;
/// The reader listens on all but the last.
const CHANNELS: [&str; 4] = ["orders", "Orders", "a \"quoted\" n\u{e4}me", "unheard"];
const NAME: &str = "ledger";

/// What the reader has seen so far.
#[derive(Default)]
struct Progress {
    delivered: usize,
    gaps: usize,
    /// The next number of each writer.
    next: [usize; WRITERS + 1],
}

#[test]
fn nothing_is_missing_doubled_or_out_of_order_outside_of_the_marked_gaps_on_one_thread() {
    on_threads(1);
}

#[test]
fn nothing_is_missing_doubled_or_out_of_order_outside_of_the_marked_gaps_on_two_threads() {
    on_threads(2);
}

fn on_threads(threads: usize) {
    let Some(server) = Postgres::start("ledger") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
    runtime.block_on(run(&Arc::new(server), threads));
}

async fn run(server: &Arc<Postgres>, threads: usize) {
    let began = Instant::now();
    drop(server.client().await);
    let events = Arc::new(Counts::default());
    let mut config = server.config();
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
    let reader = tokio::spawn(read(listener, Journal { up, entries: Vec::new() }, progress));

    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    let logs: Vec<_> = (0..=TEST).map(|_| Arc::new(Mutex::new(Vec::new()))).collect();
    for (number, log) in logs[..WRITERS].iter().enumerate() {
        writers.spawn(write(Arc::clone(server), number, Arc::clone(log), Arc::clone(&is_over)));
    }
    let mut random = SmallRng::seed_from_u64(7);
    for number in 0..DISASTERS {
        let gaps = seen.borrow().gaps;
        befall(server, number, Duration::from_millis(random.random_range(0..20))).await;
        // Now and then, one comes while the one before is being made up for.
        if number % 10 != 4 {
            hears_again(server, &logs[TEST], &mut seen).await;
            assert!(seen.borrow().gaps > gaps, "no marker has told of disaster {number}");
            let enough = seen.borrow().delivered + random.random_range(0..200);
            in_time("notifications", seen.wait_for(|seen| seen.delivered >= enough)).await.unwrap();
        }
        if number % 5 == 4 {
            let (delivered, time) = (seen.borrow().delivered, began.elapsed().as_secs_f64());
            println!("ledger, {threads} threads: {} disasters, {delivered} delivered, {time:.1} s", number + 1);
        }
    }
    // The last link has to itself what the mutants need.
    let enough = seen.borrow().delivered + 1000;
    in_time("notifications", seen.wait_for(|seen| seen.delivered >= enough)).await.unwrap();
    is_over.store(true, Ordering::Relaxed);
    in_time("the writers", writers.join_all()).await;
    let client = server.client().await;
    for (writer, log) in logs.iter().enumerate() {
        send(&client, writer, log, &[0]).await.unwrap();
    }
    let all = logs.iter().map(|log| log.lock().unwrap().len()).collect::<Vec<_>>();
    in_time("the last of each writer", seen.wait_for(|seen| seen.next[..] == all)).await.unwrap();
    in_time("close", handle.close()).await;
    let journal = in_time("the reader", reader).await.unwrap();

    let sent: Vec<Vec<Sent>> = logs.iter().map(|log| log.lock().unwrap().clone()).collect();
    let account = judge(&sent, &journal).unwrap();
    println!("ledger, {threads} threads: {account:?}, {:.1} s; {events:?}", began.elapsed().as_secs_f64());
    // Two that came in a row may be one loss.
    assert!((DISASTERS - DISASTERS.div_ceil(10)..=DISASTERS).contains(&account.gaps), "{account:?}");
    let counted = [&events.disconnected, &events.reconnected].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(counted, [account.gaps; 2]);
    // The ledger would have noticed.
    assert!(account.lost > 0, "the mutant without markers has lost nothing");
    for (name, mutant) in mutants(&sent, &journal) {
        let verdict = judge(&sent, &mutant);
        println!("a listener that {name}: {verdict:?}");
        assert!(verdict.is_err(), "a listener that {name} is not noticed");
    }
}

/// Each kind of end has its turn; most are kills. Returns when the server listens again.
async fn befall(server: &Arc<Postgres>, number: usize, away: Duration) {
    if number % 10 == 6 {
        let ended = server.client().await.terminate_named(NAME).await.unwrap();
        assert_eq!(ended, 1);
        return;
    }
    let server = Arc::clone(server);
    let befall = spawn_blocking(move || {
        match number % 10 {
            3 => server.shut_down_fast(),
            8 => server.shut_down_immediately(),
            _ => server.kill(),
        }
        std::thread::sleep(away);
        server.start_again();
    });
    befall.await.unwrap();
}

/// Returns when the reader has heard of something that was sent since.
async fn hears_again(server: &Postgres, log: &Log, seen: &mut watch::Receiver<Progress>) {
    let client = server.client().await;
    let heard = async {
        loop {
            let number = log.lock().unwrap().len();
            send(&client, TEST, log, &[0]).await.unwrap();
            let wait = seen.wait_for(|seen| seen.next[TEST] > number);
            if timeout(Duration::from_millis(20), wait).await.is_ok() {
                return;
            }
        }
    };
    in_time("the reader hears again", heard).await;
}

async fn read(mut listener: Listener, mut journal: Journal, progress: watch::Sender<Progress>) -> Journal {
    loop {
        let entry = match listener.recv().await {
            Ok(Message::Notification(heard)) => {
                let mut words = heard.payload().split(' ').map(|word| word.parse());
                let (Some(Ok(writer)), Some(Ok(number))) = (words.next(), words.next()) else {
                    panic!("{heard:?}");
                };
                Entry::Notification { writer, number }
            }
            Ok(Message::Lost { .. }) => Entry::Lost,
            Ok(Message::Resynced { generation, .. }) => Entry::Resynced { generation },
            Ok(other) => panic!("{other:?}"),
            Err(perconn::postgres::Error::Closed) => return journal,
            Err(error) => panic!("{error:?}"),
        };
        journal.entries.push((Instant::now(), entry));
        progress.send_modify(|progress| match entry {
            Entry::Notification { writer, number } => {
                progress.delivered += 1;
                progress.next[writer] = number + 1;
            }
            Entry::Resynced { .. } => progress.gaps += 1,
            Entry::Lost => {}
        });
    }
}

type Log = Mutex<Vec<Sent>>;

/// Sends until it is over, each number once, through all that befalls the server.
async fn write(server: Arc<Postgres>, writer: usize, log: Arc<Log>, is_over: Arc<AtomicBool>) {
    let mut random = SmallRng::seed_from_u64(writer as u64);
    while !is_over.load(Ordering::Relaxed) {
        if let Ok(client) = Plain::connect(&server.config()).await {
            while !is_over.load(Ordering::Relaxed) {
                let count = random.random_range(1..=4);
                let channels: Vec<_> = (0..count).map(|_| random.random_range(0..CHANNELS.len())).collect();
                if send(&client, writer, &log, &channels).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        // Each attempt costs a server that starts up a process.
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
        // Now and then one that does not come in one piece; 8,000 bytes are too many for the server.
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
struct Counts {
    disconnected: AtomicUsize,
    reconnected: AtomicUsize,
    failed: AtomicUsize,
}

impl Counts {
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
