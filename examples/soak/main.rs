//! A soak test, to leave running for an hour or a night: connections under random faults, and a summary of what became
//! of every link, byte and record.
//!
//! ```text
//! cargo run --release --example soak                                              # 30 seconds
//! cargo run --release --example soak -- --time 8h --connections 20 --seed 7
//! cargo run --release --example soak -- --help
//! ```
//!
//! It checks the promises of the README in the long run. Each connection has a server of its own, which
//! draws a fault for each link: an orderly close, a close with unread bytes, a reset, a stall, a greeting that is cut
//! off, refused dials, half a record, slow reads. The clients are whole connections that send requests and halves in
//! two tasks; some cancel what takes long, some break links. All records are numbered, marked with their link
//! and checksummed, and both ends count what they saw on each link. When the link is over, the counts are compared.
//!
//! - [`plan`]: the random choices, by the seed
//! - [`exchange`], [`halves`]: the two kinds of client, which show how to live with breaks; [`client`]: what they share
//! - [`server`], [`peer`]: the server of one connection, and its end of one link
//! - [`reports`]: the breaks that a handle has reported, checked against the promise
//! - [`account`], [`compare`]: what the sides of a link have seen, and whether it agrees
//! - [`totals`], [`summary`]: the numbers and their table
//! - [`args`], [`screen`], [`machine`], [`record`]: the rest

use std::collections::HashSet;
use std::io::{self, Write};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::account::Account;
use crate::args::Args;
use crate::exchange::Exchange;
use crate::machine::Usage;
use crate::plan::{Habits, Role, generator};
use crate::reports::Reports;
use crate::screen::Screen;
use crate::server::Server;
use crate::totals::Totals;

mod account;
mod args;
mod client;
mod compare;
mod exchange;
mod halves;
mod machine;
mod peer;
mod plan;
mod record;
mod reports;
mod screen;
mod server;
mod summary;
mod totals;

/// How long the connections may take to close. (A server may take longer: it sleeps through a part of its faults.)
const CLOSING: Duration = Duration::from_secs(5);
const SERVERS_CLOSING: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let screen = Screen::new();
    let outcome = match args::parse(&args) {
        Ok(None) => {
            screen.line(args::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(Some(args)) => soak(&args, &screen).await,
        Err(wrong) => {
            // Unlike `eprintln!`, this cannot panic if nobody reads.
            let _ = writeln!(io::stderr(), "soak: {wrong}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every promise was kept.
async fn soak(args: &Args, screen: &Screen) -> io::Result<bool> {
    let Args { time, connections, seed } = *args;
    screen.line(format_args!("soak: seed {seed}, {connections} connections, {time:?}"));
    let mut interrupt = watch_for_interrupt().await;
    let at_start = Usage::now();
    let mut running = Running::default();
    for connection in 0..connections {
        running.start(connection, seed)?;
    }
    let start = Instant::now();
    let mut at_tenth = None;
    while start.elapsed() < time {
        let tenth = if at_tenth.is_none() { time / 10 } else { time };
        let step = screen.interval(time).min(tenth.saturating_sub(start.elapsed()));
        tokio::select! {
            () = sleep(step) => {}
            _ = &mut interrupt => break,
        }
        if at_tenth.is_none() && start.elapsed() >= time / 10 {
            at_tenth = Some(Usage::now());
        }
        for violation in running.new_violations() {
            screen.end_progress();
            screen.line(screen.alarming(violation));
        }
        screen.progress(progress(start.elapsed(), &running.totals(), screen));
    }
    screen.end_progress();
    let mut violations = running.close().await;
    let at_end = settled_usage(at_start).await;
    if !at_end.is_back_at(&at_start) {
        violations.push("more descriptors or tasks than at the start".to_owned());
    }
    let totals = running.totals();
    violations.extend(summary::wrong_sums(&totals));
    screen.line(format_args!("\nafter {:.1?}, seed {seed}, {connections} connections\n", start.elapsed()));
    screen.line(summary::table(&totals, [Some(at_start), at_tenth, Some(at_end)]));
    if violations.is_empty() {
        screen.line("every promise held");
    } else {
        screen.line(screen.alarming(format_args!("promises broken (seed {seed}):")));
        violations.iter().for_each(|violation| screen.line(format_args!("  {violation}")));
        let unshown = totals.violations.saturating_sub(violations.len() as u64);
        if unshown > 0 {
            screen.line(format_args!("  and {unshown} more"));
        }
    }
    Ok(violations.is_empty())
}

fn progress(elapsed: Duration, totals: &Totals, screen: &Screen) -> String {
    let links = totals.links;
    let failed: u64 = totals.dials_failed.iter().sum();
    let megabytes = totals.bytes_received / 1_000_000;
    let broken = format!("{} promises broken", totals.violations);
    let broken = if totals.violations > 0 { screen.alarming(broken) } else { broken };
    let seconds = elapsed.as_secs();
    // Short enough for a narrow terminal even after a night: a line that wraps could not be rewritten.
    format!("{seconds:>6}s  {links} links, {failed} dials failed, {megabytes} MB, {broken}")
}

/// The tasks of what has just ended go on for a moment.
async fn settled_usage(expected: Usage) -> Usage {
    let mut usage = Usage::now();
    for _ in 0..100 {
        if usage.is_back_at(&expected) {
            break;
        }
        sleep(Duration::from_millis(10)).await;
        usage = Usage::now();
    }
    usage
}

/// The connections that run, with their servers.
#[derive(Default)]
struct Running {
    accounts: Vec<Arc<Account>>,
    clients: JoinSet<Reports>,
    servers: JoinSet<io::Result<()>>,
    closes: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
    stop: watch::Sender<bool>,
    /// The violations that were shown already.
    shown: HashSet<String>,
}

impl Running {
    /// Starts one connection and its server.
    fn start(&mut self, connection: usize, seed: u64) -> io::Result<()> {
        let account = Arc::new(Account::new(connection));
        let habits = Habits::of(connection);
        let random = |role| generator(seed, connection, role);
        let (server, socket) = Server::new(habits, &account, random(Role::Server))?;
        let jitter_seed = random(Role::Jitter).random();
        let conn = client::builder(server.address(), &habits, &account, jitter_seed).build()?;
        self.servers.spawn(server.run(socket, self.stop.subscribe()));
        // Made in advance, it closes when it is first polled.
        self.closes.push(Box::pin(conn.close()));
        if habits.has_halves {
            let (read, write) = conn.into_split();
            self.clients.spawn(halves::read(read, habits, Arc::clone(&account), random(Role::Reader)));
            self.clients.spawn(halves::write(write, habits, Arc::clone(&account), random(Role::Writer)));
        } else {
            self.clients.spawn(Exchange::new(conn, habits, &account, random(Role::Writer)).run());
        }
        self.accounts.push(account);
        Ok(())
    }

    fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        self.accounts.iter().for_each(|account| sum.add(&account.totals()));
        sum
    }

    /// What went wrong since the last look.
    fn new_violations(&mut self) -> Vec<String> {
        let all = self.violations();
        let new = all.iter().filter(|violation| !self.shown.contains(*violation)).cloned().collect();
        self.shown = all.into_iter().collect();
        new
    }

    fn violations(&self) -> Vec<String> {
        let of = |account: &Arc<Account>| {
            let connection = account.connection;
            account.violations().into_iter().map(move |text| format!("connection {connection}: {text}"))
        };
        self.accounts.iter().flat_map(of).collect()
    }

    /// Closes everything while it is at work, and returns what went wrong, in the end or before.
    async fn close(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut closing = JoinSet::new();
        std::mem::take(&mut self.closes).into_iter().for_each(|close| drop(closing.spawn(close)));
        if timeout(CLOSING, async { while closing.join_next().await.is_some() {} }).await.is_err() {
            wrong.push(format!("{} connections did not close within {CLOSING:?}", closing.len()));
        }
        let clients = timeout(CLOSING, async {
            while let Some(outcome) = self.clients.join_next().await {
                match outcome {
                    Ok(reports) => reports.finish(),
                    Err(error) => wrong.push(format!("a client ended by {error}")),
                }
            }
        });
        if clients.await.is_err() {
            wrong.push(format!("{} clients did not end within {CLOSING:?} of close()", self.clients.len()));
        }
        self.stop.send_replace(true);
        let servers = timeout(SERVERS_CLOSING, async {
            while let Some(outcome) = self.servers.join_next().await {
                match outcome {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => wrong.push(format!("not the crate's fault: a server ended by {error}")),
                    Err(error) => wrong.push(format!("not the crate's fault: a server ended by {error}")),
                }
            }
        });
        if servers.await.is_err() {
            wrong.push(format!("{} servers still see their clients", self.servers.len()));
        }
        self.accounts.iter().for_each(|account| account.close());
        wrong.extend(self.violations());
        wrong
    }
}

/// Ends when Ctrl-C is pressed. The task is there, and has its descriptors, before they are first counted.
async fn watch_for_interrupt() -> JoinHandle<()> {
    let mut ctrl_c = Box::pin(tokio::signal::ctrl_c());
    // The first poll installs the handler.
    let _ = timeout(Duration::ZERO, &mut ctrl_c).await;
    tokio::spawn(async move {
        if ctrl_c.await.is_err() {
            // No handler could be installed, so Ctrl-C ends the process by itself.
            std::future::pending::<()>().await;
        }
    })
}
