//! A log shipper: lines from standard input or a file, to RELP, syslog over TCP, or as they are. It accounts for every line.
//!
//! ```text
//! seq 100000 | cargo run --release --features outbox --example ship -- relp://127.0.0.1:2514
//! cargo run --features outbox --example ship -- --help
//! ```
//!
//! The outbox does the work. What is here: where the lines come from, and what is said of them.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use perconn::outbox::protocols::{Relp, Syslog};
use perconn::outbox::{Event, Outbox, OutboxBuilder, SendError, Tally};
use perconn::{Builder, Conn, Dial};
use tokio::io::{AsyncReadExt, Stdin};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use self::args::{Args, Server, Source, USAGE};
use self::checkpoint::Checkpoint;
use self::follow::Follow;
use self::lines::Lines;
use self::position::Position;
use self::status::StatusLine;

mod args;
mod checkpoint;
mod follow;
mod lines;
mod position;
mod status;

/// How often the position is saved, and the status may be shown.
const TICK: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return match writeln!(io::stdout(), "{USAGE}") {
            // Nobody has to read all of it.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        };
    }
    let args = match args::parse(args) {
        Ok(args) => args,
        Err(text) => return wrong_arguments(&text),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    let outcome = runtime.block_on(ship(args));
    // A thread may be reading standard input, and cannot be stopped.
    runtime.shutdown_background();
    match outcome {
        Ok(tally) => {
            complain(format_args!("{tally}"));
            if tally.missing() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => match error.downcast_ref() {
            Some(perconn::Error::InvalidConfig(text)) => wrong_arguments(text),
            _ => {
                complain(format_args!("{error}"));
                ExitCode::FAILURE
            }
        },
    }
}

/// Ships all lines, and returns what became of them.
async fn ship(args: Args) -> Result<Tally, Box<dyn std::error::Error>> {
    let has_answers = matches!(args.server, Server::Relp(_));
    let header = syslog_header(&args.tag);
    // What is before and after a line.
    let (before, after) = match args.server {
        Server::Relp(_) | Server::Syslog(_) => (header.as_str(), ""),
        Server::Lines(_) => ("", "\n"),
    };
    let outbox = match &args.server {
        Server::Relp(address) => start(Relp::new().outbox(conn(address)), &args),
        Server::Syslog(address) => start(Syslog::octet_counting().outbox(conn(address)), &args),
        Server::Lines(address) => start(Outbox::builder(conn(address)), &args),
    }?;
    let mut input = Input::open(args.source).await?;
    let mut stop = Box::pin(stop_signal()?);
    let mut status = StatusLine::new();
    let mut ticks = interval_at(Instant::now() + TICK, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A line that was read and has no room yet.
    let mut line: Option<(Vec<u8>, Option<Position>)> = None;
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = ticks.tick() => {
                status.tick(&outbox);
                input.advance(&outbox)?;
            }
            next = input.next(), if line.is_none() => match next? {
                Some((text, position)) => {
                    line = Some(([before.as_bytes(), &text, after.as_bytes()].concat(), position));
                }
                None => break,
            },
            // Held back while there is no room; the line is still here if this is dropped.
            sent = outbox.send(line.as_ref().map_or(&[][..], |(message, _)| message)), if line.is_some() => {
                let position = line.take().and_then(|(_, position)| position);
                match sent {
                    Ok(number) => input.accepted(number, position),
                    Err(error @ (SendError::TooLong { .. } | SendError::Empty)) => complain(format_args!("{error}")),
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    status.clear();
    let tally = outbox.close(args.drain).await;
    input.finish(&tally, has_answers)?;
    Ok(tally)
}

fn conn(address: &str) -> Builder {
    Conn::builder(address).on_event(|event| match event {
        // Said by the outbox.
        perconn::Event::Closed => {}
        event => complain(format_args!("{event}")),
    })
}

fn start<D: Dial>(builder: OutboxBuilder<D>, args: &Args) -> Result<Outbox, perconn::Error> {
    builder
        .capacity(args.capacity)
        .when_full(args.when_full)
        .on_event(|event| match event {
            // The end is said by `main`.
            Event::Ended { .. } => {}
            event => complain(format_args!("{event}")),
        })
        .start()
}

/// Facility "user", severity "informational"; the server adds the time (RFC 5424, section 6.2.3: NILVALUE).
fn syslog_header(tag: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("<14>1 - {} {tag} {} - - ", if host.is_empty() { "-" } else { host }, std::process::id())
}

/// Where the lines come from.
enum Input {
    StandardInput { stdin: Stdin, lines: Lines },
    File { file: Follow, checkpoint: Checkpoint },
}

impl Input {
    async fn open(source: Source) -> Result<Self, Box<dyn std::error::Error>> {
        match source {
            Source::StandardInput => Ok(Self::StandardInput { stdin: tokio::io::stdin(), lines: Lines::default() }),
            Source::File { path, position, once } => {
                let start = Position::load(&position)?;
                let name = path.display().to_string();
                let file = Follow::start(path, start, once).await.map_err(|error| format!("{name}: {error}"))?;
                Ok(Self::File { file, checkpoint: Checkpoint::new(position) })
            }
        }
    }

    /// Cancel safe: what was read stays here.
    async fn next(&mut self) -> io::Result<Option<(Bytes, Option<Position>)>> {
        match self {
            Self::StandardInput { stdin, lines } => loop {
                if let Some((line, _)) = lines.next() {
                    return Ok(Some((line, None)));
                }
                if stdin.read_buf(lines.buffer()).await? == 0 {
                    return Ok(lines.rest().map(|(line, _)| (line, None)));
                }
            },
            Self::File { file, .. } => Ok(file.next().await?.map(|(line, position)| (line, Some(position)))),
        }
    }

    fn accepted(&mut self, number: u64, position: Option<Position>) {
        if let (Self::File { checkpoint, .. }, Some(position)) = (self, position) {
            checkpoint.accepted(number, position);
        }
    }

    fn advance(&mut self, outbox: &Outbox) -> io::Result<()> {
        match self {
            Self::StandardInput { .. } => Ok(()),
            Self::File { checkpoint, .. } => checkpoint.advance(outbox),
        }
    }

    fn finish(&mut self, tally: &Tally, has_answers: bool) -> io::Result<()> {
        match self {
            Self::StandardInput { .. } => Ok(()),
            Self::File { checkpoint, .. } => checkpoint.finish(tally, has_answers),
        }
    }
}

/// Ctrl-C, and SIGTERM where there is one.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// On standard error; nobody has to read it.
/// Says what is wrong, and returns the exit status for it.
fn wrong_arguments(text: &str) -> ExitCode {
    complain(format_args!("{text}\nTry --help."));
    ExitCode::from(2)
}

fn complain(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "ship: {text}");
}
