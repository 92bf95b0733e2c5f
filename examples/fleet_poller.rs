//! A poller that asks many agents for their state, again and again, with only a few connections open.
//!
//! ```text
//! cargo run --features pool --example fleet_poller
//! cargo run --features pool --example fleet_poller -- --slots 8 192.0.2.1:4000 192.0.2.2:4000
//! ```
//!
//! By itself it starts a fleet of 1,000 agents, some of which die and come back, polls it four times through 64 slots, and
//! ends. Given addresses, it polls these every ten seconds until Ctrl-C.

use std::io::{self, IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use perconn::acceptor::Acceptor;
use perconn::pool::{Pool, Resource};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

const USAGE: &str = "\
Asks agents for a line about how they are, within a few connections.

Usage: fleet_poller [--slots N] [HOST:PORT ...]        (64 slots unless given)

Without addresses it starts a fleet of 1,000 agents, polls it four times and ends; otherwise it polls every ten seconds
until Ctrl-C. An agent answers each line with a line.";

const FLEET: usize = 1000;
const ROUNDS: usize = 4;
/// How long one poll may take, with the wait for a slot.
const POLL_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--help" | "-h"] => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        ["--slots", slots, ref addresses @ ..] if addresses.iter().all(|address| !address.starts_with('-')) => {
            run(slots, addresses).await
        }
        ref addresses if addresses.iter().all(|address| !address.starts_with('-')) => run("64", addresses).await,
        _ => {
            let _ = writeln!(io::stderr(), "fleet_poller: unexpected arguments {args:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    let _ = writeln!(io::stderr(), "fleet_poller: {error}");
    ExitCode::FAILURE
}

async fn run(slots: &str, addresses: &[&str]) -> Result<(), Box<dyn std::error::Error>> {
    let slots = slots.parse().map_err(|error| format!("--slots {slots:?}: {error}; expected a number"))?;
    // With the pool of the process, `Pool::global()`, other parts of the program would share its descriptors.
    let pool = Pool::builder(slots).dial_timeout(Duration::from_secs(5)).build()?;
    if !addresses.is_empty() {
        let agents: Vec<_> = addresses.iter().map(|address| pool.resource(*address)).collect::<Result<_, _>>()?;
        for round in 1.. {
            poll_all(&pool, &agents, round).await;
            sleep(Duration::from_secs(10)).await;
        }
    }
    raise_limit();
    let mut fleet = Vec::new();
    for _ in 0..FLEET {
        fleet.push(Agent::start((Ipv4Addr::LOCALHOST, 0).into())?);
    }
    let mut agents: Vec<_> = fleet.iter().map(|agent| pool.resource(agent.address)).collect::<Result<_, _>>()?;
    for round in 1..=ROUNDS {
        match round {
            // A tenth of the fleet is gone in the second round, and back in the third.
            2 => fleet.iter_mut().step_by(10).for_each(|agent| agent.acceptor = None),
            3 => {
                for agent in fleet.iter_mut().step_by(10) {
                    // Unless a connection has been given its port meanwhile: then it stays away.
                    if let Ok(returned) = Agent::start(agent.address) {
                        *agent = returned;
                    }
                }
            }
            _ => {}
        }
        poll_all(&pool, &agents, round).await;
        // The agents that were polled last still have their connections, and come first in the next round.
        agents.reverse();
    }
    let stats = pool.stats();
    say(format_args!(
        "{} connections opened, {} times one was used again, {} closed to make room, {} found dead before use",
        stats.opened, stats.reused, stats.evicted, stats.found_dead
    ));
    Ok(())
}

/// Asks every agent once. A task for each is cheap: they wait for the pool's slots, first come first served.
async fn poll_all(pool: &Pool, agents: &[Resource], round: usize) {
    let began = Instant::now();
    let mut polls = JoinSet::new();
    for agent in agents {
        let agent = agent.clone();
        polls.spawn(async move {
            let outcome = timeout(POLL_TIMEOUT, poll(&agent)).await;
            outcome.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")))
        });
    }
    let (mut done, mut failed, mut most) = (0, 0, 0);
    let mut tick = interval(Duration::from_millis(100));
    let is_live = io::stdout().is_terminal();
    while done < agents.len() {
        tokio::select! {
            outcome = polls.join_next() => {
                done += 1;
                failed += usize::from(!matches!(outcome, Some(Ok(Ok(_)))));
            }
            _ = tick.tick() => {}
        }
        let stats = pool.stats();
        most = most.max(stats.in_use + stats.idle);
        if is_live && (done % 50 == 0 || done == agents.len()) {
            let line = format!(
                "round {round}: {done} of {}, {failed} failed, {} open",
                agents.len(),
                stats.in_use + stats.idle
            );
            let _ = write!(io::stdout(), "\r{line:<60}").and_then(|()| io::stdout().flush());
        }
    }
    let took = began.elapsed();
    let start = if is_live { "\r" } else { "" };
    say(format_args!(
        "{start}round {round}: {} of {} agents answered in {took:.1?}, with {most} connections at most",
        done - failed,
        agents.len()
    ));
}

/// One request, one answer.
async fn poll(agent: &Resource) -> io::Result<String> {
    let mut conn = agent.get().await?;
    // If this future were dropped before the answer came, the next request would read it.
    conn.close_on_drop(true);
    conn.write_all(b"how are you?\n").await?;
    let mut answer = String::new();
    BufReader::new(&mut conn).read_line(&mut answer).await?;
    conn.close_on_drop(false);
    Ok(answer)
}

/// One agent of the fleet. It answers each line with a line.
struct Agent {
    address: SocketAddr,
    /// `None`: it is dead, and its connections with it.
    acceptor: Option<Acceptor>,
}

impl Agent {
    fn start(address: SocketAddr) -> io::Result<Self> {
        let acceptor = Acceptor::builder(address)
            .line_handler(async |_question, conn| {
                // An answer takes time.
                sleep(Duration::from_millis(50)).await;
                conn.send("fine, thank you").await
            })
            .build()?;
        let address = acceptor.local_addr()?;
        Ok(Self { address, acceptor: Some(acceptor) })
    }
}

/// The agents need more descriptors than a program has by default; the poller would not.
fn raise_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // If that is not allowed, `Agent::start` will say what is missing.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// A line on standard output. If nobody reads any more, as after `| head -3`, the program has nothing left to do.
fn say(text: impl std::fmt::Display) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        std::process::exit(if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 });
    }
}
