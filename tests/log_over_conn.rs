//! A log shipper: the program's `log` goes over a blocking connection behind a mutex, and so do the lines of that
//! connection itself.
//!
//! In a process of its own, as a process has one log backend. Next: `blocking/runtimes_and_hooks.rs`, other uses of a
//! connection in its hooks.

#[allow(dead_code)]
#[path = "blocking/support.rs"]
mod support;

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use perconn::blocking::Conn;
use perconn::{Builder, TcpDialer, dial_fn};
use tokio::net::TcpStream;

use self::support::{HANG, Server, alone, in_time, reset, spawn, until};

/// The backend. It drops all lines, unless a test has given it a connection or a gate.
static BACKEND: Backend = Backend {
    gate: Mutex::new(None),
    conn: Mutex::new(None),
    has_reported: AtomicBool::new(false),
    is_waiting: AtomicBool::new(false),
    has_sent: AtomicBool::new(false),
};

struct Backend {
    /// Gets the lines of perconn, and keeps each one waiting.
    gate: Mutex<Option<Gate>>,
    /// Where the lines of all go.
    conn: Mutex<Option<Conn>>,
    /// Whether a write has reported the break. Then the next one waits for a link.
    has_reported: AtomicBool,
    /// Whether a thread holds the mutex and waits for a link.
    is_waiting: AtomicBool,
    /// Whether the program has sent a line over the next link.
    has_sent: AtomicBool,
}

/// Lets lines through once its other end is dropped.
struct Gate {
    lines: Sender<String>,
    opened: Receiver<()>,
}

impl Backend {
    /// Installs the backend, once the test before has ended.
    fn install() -> MutexGuard<'static, ()> {
        let alone = alone();
        let _ = log::set_logger(&BACKEND);
        log::set_max_level(log::LevelFilter::Info);
        alone
    }

    /// Puts a gate in the way. Returns the lines, and what opens the gate when it is dropped.
    fn close_gate(&self) -> (Receiver<String>, Sender<()>) {
        let ((lines, received), (opener, opened)) = (mpsc::channel(), mpsc::channel());
        *self.gate.lock().unwrap_or_else(PoisonError::into_inner) = Some(Gate { lines, opened });
        (received, opener)
    }
}

impl log::Log for Backend {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if let Some(gate) = self.gate.lock().unwrap().as_ref().filter(|_| record.target() == "perconn") {
            let _ = gate.lines.send(record.args().to_string());
            let _ = gate.opened.recv();
            return;
        }
        let conn = self.conn.lock().unwrap();
        let Some(mut conn) = conn.as_ref() else { return };
        let has_reported = self.has_reported.load(Ordering::SeqCst);
        // The thread that dials must not wait, and does not come here.
        if has_reported && thread::current().name() != Some("perconn-blocking") {
            self.is_waiting.store(true, Ordering::SeqCst);
        }
        match conn.write_all(format!("{} {}\n", record.level(), record.args()).as_bytes()) {
            Ok(()) if has_reported && record.target() == "program" => self.has_sent.store(true, Ordering::SeqCst),
            Ok(()) => {}
            Err(_) => self.has_reported.store(true, Ordering::SeqCst),
        }
    }

    fn flush(&self) {}
}

/// A program logs during an outage. Returns what it sends over the next link, up to the line that contains `last`.
fn log_in_an_outage(configure: fn(Builder<TcpDialer>) -> Builder<TcpDialer>, last: &'static str) -> Vec<String> {
    let server = Server::start();
    let address = server.address;
    // The test says when a dial ends, and how.
    let (outcomes, next_outcome) = tokio::sync::mpsc::unbounded_channel();
    let next_outcome = Arc::new(tokio::sync::Mutex::new(next_outcome));
    let dialer = dial_fn(move || {
        let next_outcome = Arc::clone(&next_outcome);
        async move {
            let is_up: Option<bool> = next_outcome.lock().await.recv().await;
            if is_up == Some(true) {
                TcpStream::connect(address).await
            } else {
                Err(ErrorKind::ConnectionRefused.into())
            }
        }
    });
    let delay = Duration::from_millis(1);
    let builder = Conn::builder(address).retry_min(delay).retry_max(delay).stable_after(Duration::ZERO);
    outcomes.send(true).unwrap();
    *BACKEND.conn.lock().unwrap() = Some(configure(builder).dialer(dialer).connect_blocking().unwrap());
    for flag in [&BACKEND.has_reported, &BACKEND.is_waiting, &BACKEND.has_sent] {
        flag.store(false, Ordering::SeqCst);
    }
    reset(server.accept());
    let program = spawn(|| {
        while !BACKEND.has_sent.load(Ordering::SeqCst) {
            log::info!(target: "program", "tick");
        }
    });
    until("a thread waits for a link", || BACKEND.is_waiting.load(Ordering::SeqCst));
    // The first dial fails, which is logged while that thread holds the mutex.
    outcomes.send(false).and_then(|()| outcomes.send(true)).unwrap();
    let mut lines = BufReader::new(server.accept()).lines();
    let mut received = Vec::new();
    while !received.last().is_some_and(|line: &String| line.contains(last)) {
        received.push(lines.next().unwrap().unwrap());
    }
    in_time("the program", &program);
    drop(BACKEND.conn.lock().unwrap().take());
    received
}

#[test]
fn connection_comes_back_while_its_own_warnings_wait_to_be_sent_over_it() {
    let _alone = Backend::install();
    let lines = in_time("the default logger", &spawn(|| log_in_an_outage(|builder| builder, "dial 1 to ")));
    let line = lines.last().unwrap();
    assert!(line.starts_with("WARN dial 1 to 127.0.0.1:"), "{line}");
}

#[test]
fn connection_comes_back_while_its_event_hook_waits_to_log_over_it() {
    let _alone = Backend::install();
    let configure = |builder: Builder| builder.logger(|_| {}).on_event(|event| log::info!("event: {event}"));
    in_time("the event hook", &spawn(move || log_in_an_outage(configure, "event: dial 1 failed")));
}

#[test]
fn connection_comes_back_while_its_logger_waits_to_log_over_it() {
    let _alone = Backend::install();
    let configure = |builder: Builder| builder.logger(|error| log::error!("error: {}", error.with_causes()));
    in_time("the logger", &spawn(move || log_in_an_outage(configure, "error: dial 1 to ")));
}

/// How many connections [`failed_dials`] makes: six lines of each are more than the queue holds.
const FAILING: usize = 250;

/// How many failures of an outage have a line of their own before the log is thinned out.
const LINES_OF_EACH: usize = 6;

/// Makes dials that fail, until each connection has had more than it logs. Returns their number once all are reported.
fn failed_dials(configure: impl Fn(Builder<TcpDialer>) -> Builder<TcpDialer>) -> usize {
    let dials: Vec<_> = std::iter::repeat_with(|| Arc::new(AtomicUsize::new(0))).take(FAILING).collect();
    let delay = Duration::from_millis(5);
    let conns: Vec<_> = dials
        .iter()
        .map(|dials| {
            let dials = Arc::clone(dials);
            let dialer = dial_fn(move || {
                dials.fetch_add(1, Ordering::SeqCst);
                std::future::ready(Err::<TcpStream, _>(ErrorKind::ConnectionRefused.into()))
            });
            configure(Conn::builder("nowhere").retry_min(delay).retry_max(delay))
                .dialer(dialer)
                .build_blocking()
                .unwrap()
        })
        .collect();
    let count = |dials: &Arc<AtomicUsize>| dials.load(Ordering::SeqCst);
    until("more dials than are logged", || dials.iter().all(|dials| count(dials) > LINES_OF_EACH));
    drop(conns);
    // The actor drops the dialer after its last report.
    until("the connections end", || dials.iter().all(|dials| Arc::strong_count(dials) == 1));
    dials.iter().map(count).sum()
}

/// Waits for a line about dropped `calls`. Returns how many lines came before it, and the number that it says.
fn until_dropped(lines: &Receiver<String>, calls: &str) -> (usize, usize) {
    let begin = format!("perconn dropped {calls}, as ");
    for count in 0.. {
        let line = lines.recv_timeout(HANG).expect("a line about those that were dropped");
        if line.starts_with(&begin) {
            return (count, line.rsplit(' ').next().unwrap().parse().unwrap());
        }
    }
    unreachable!()
}

#[test]
fn backend_that_blocks_loses_lines_beyond_the_bound_and_gets_their_number() {
    let _alone = Backend::install();
    let (lines, opener) = BACKEND.close_gate();
    in_time("the dials", &spawn(|| failed_dials(|builder| builder)));
    drop(opener);
    let (passed, dropped) = until_dropped(&lines, "log lines");
    // One line was at the gate.
    assert_eq!((passed, dropped), (1 + 1024, FAILING * LINES_OF_EACH - 1 - 1024));
    *BACKEND.gate.lock().unwrap() = None;
}

#[test]
fn hook_that_blocks_loses_calls_beyond_the_bound_and_their_number_is_logged() {
    let _alone = Backend::install();
    let (lines, opener) = BACKEND.close_gate();
    drop(opener);
    let (calls, (opener, opened)) = (Arc::new(AtomicUsize::new(0)), mpsc::channel::<()>());
    let opened = Arc::new(Mutex::new(opened));
    let configure = {
        let calls = Arc::clone(&calls);
        move |builder: Builder| {
            let (calls, opened) = (Arc::clone(&calls), Arc::clone(&opened));
            builder.logger(|_| {}).on_event(move |event| {
                let _ = opened.lock().unwrap().recv();
                calls.fetch_add(usize::from(matches!(event, perconn::Event::DialFailed { .. })), Ordering::SeqCst);
            })
        }
    };
    let dials = in_time("the dials", &spawn(move || failed_dials(configure)));
    drop(opener);
    let (_, dropped) = until_dropped(&lines, "calls of blocking connections' hooks");
    // Each dial has a call of the logger and one of the event hook, and each connection an event at its end.
    assert!(calls.load(Ordering::SeqCst) <= 1024 && dropped >= 2 * dials - 1025, "{calls:?} {dropped} {dials}");
    *BACKEND.gate.lock().unwrap() = None;
}
