//! `tail -f` for channels of PostgreSQL: a line for each notification, through restarts of the server.
//!
//! ```text
//! cargo run --features postgres --example pg_listen -- postgres://me:secret@127.0.0.1/shop orders payments
//! DATABASE_URL=postgres://me:secret@127.0.0.1/shop cargo run --features postgres --example pg_listen -- orders
//! ```
//!
//! Beside it, `psql -c "NOTIFY orders, 'one'"`; and restart the server at will. What is notified while there is no
//! connection, PostgreSQL keeps for nobody: standard error says so at the very place of the gap.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use perconn::postgres::{Event, Listener, Message};

const USAGE: &str = "\
Prints the notifications of PostgreSQL's channels, until Ctrl-C. The server may be restarted meanwhile.

Usage: pg_listen [URL] CHANNEL...

URL begins with postgres:// or postgresql://; without one it is taken from the environment, DATABASE_URL.
Standard output has a line for each notification: time (UTC), channel, process id of the sender, payload.
Standard error has what happens to the connection.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let is_url = |arg: &str| arg.starts_with("postgres://") || arg.starts_with("postgresql://");
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--help" | "-h"] => {
            // The environment is not looked at.
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        [url, ref channels @ ..] if is_url(url) && are_channels(channels) => run(url, channels).await,
        ref channels if are_channels(channels) && !is_url(channels[0]) => match std::env::var("DATABASE_URL") {
            Ok(url) => run(&url, channels).await,
            Err(error) => Err(format!("no URL: expected one before the channels, or in DATABASE_URL: {error}").into()),
        },
        _ => {
            complain(format_args!("unexpected arguments {args:?}\n\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    complain(with_causes(&*error));
    ExitCode::FAILURE
}

fn are_channels(args: &[&str]) -> bool {
    !args.is_empty() && args.iter().all(|arg| !arg.starts_with('-'))
}

async fn run(url: &str, channels: &[&str]) -> Result<(), Box<dyn Error>> {
    // What is wrong at the start, such as the password, ends the program; what goes wrong later does not.
    let mut listener = Listener::builder(url)
        .on_event(|event| match event {
            Event::AttemptFailed { .. } | Event::GaveUp { .. } => complain(event),
            // The reader says these, in their place among the notifications.
            _ => {}
        })
        .connect()
        .await?;
    for channel in channels {
        listener.listen(channel).await?;
    }
    complain(format_args!("listening on {channels:?}"));
    let ctrl_c = tokio::signal::ctrl_c();
    tokio::pin!(ctrl_c);
    loop {
        let message = tokio::select! {
            message = listener.recv() => message?,
            outcome = &mut ctrl_c => {
                listener.close().await;
                return Ok(outcome?);
            }
        };
        match message {
            Message::Notification(news) => {
                let (channel, payload) = (one_line(news.channel()), one_line(news.payload()));
                say(format_args!("{} {channel} {} {payload}", now(), news.process_id()));
            }
            Message::Lost { cause, .. } => complain(format_args!("lost: {}", with_causes(&*cause))),
            Message::Resynced { outage, .. } => {
                complain(format_args!("back after {outage:.1?}; what was notified meanwhile is lost"));
            }
            Message::Dropped { count, .. } => complain(format_args!("{count} dropped")),
            other => complain(format_args!("{other:?}")),
        }
    }
}

/// The time of day, UTC.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{:03}", since.subsec_millis())
}

/// A payload may have line ends in it.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// What the server itself said is a cause.
fn with_causes(error: &dyn Error) -> String {
    let cause = error.source().map(|cause| format!(": {}", with_causes(cause)));
    format!("{error}{}", cause.unwrap_or_default())
}

/// A line on standard error. Unlike `eprintln!`, this cannot panic if nobody reads.
fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "pg_listen: {text}");
}

/// A line on standard output. If nobody reads any more, as after `| head -3`, the program has nothing left to do.
fn say(text: impl std::fmt::Display) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        std::process::exit(if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 });
    }
}
