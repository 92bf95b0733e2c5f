//! An echo server for lines, in plain text or over TLS.
//!
//! ```text
//! cargo run --features acceptor,tls --example echo_server                 # on 127.0.0.1:7777
//! cargo run --example echo_client -- --connect 127.0.0.1:7777             # in another terminal
//! cargo run --features acceptor,tls --example echo_server -- --help
//! ```
//!
//! Ctrl-C or SIGTERM stops it: it accepts no more clients, answers the lines that have begun, and after five seconds
//! aborts what is left. A second signal aborts at once.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use perconn::acceptor::{Acceptor, AcceptorBuilder, Listen, Overflow, ServerTls};

const USAGE: &str = "\
Sends back each line that it gets, until Ctrl-C. A line `quit` ends its connection.

Usage: echo_server [OPTION]... [HOST:PORT]         (127.0.0.1:7777 unless given; port 0: any that is free)

Options:
  --tls CERTIFICATE KEY  speak TLS, with a certificate (or a chain of them) and its private key in PEM files; they can be
                         replaced while it runs
  --unix PATH            listen on a socket of the Unix domain instead
  --acceptors N          up to N clients at once (4 unless given), and twice that under load
  --idle SECONDS         how long a client may take for a line (300 unless given)
  -h, --help             print this text

Clients to try it with:
  cargo run --example echo_client -- --connect 127.0.0.1:7777
  cargo run -p perconn-interop --example tls_client -- 127.0.0.1:7777 cert.pem";

/// How long a stop waits for the clients that are being served.
const DEADLINE: Duration = Duration::from_secs(5);

struct Args {
    listen: Listen,
    tls: Option<ServerTls>,
    acceptors: usize,
    idle: Duration,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        say(USAGE);
        return ExitCode::SUCCESS;
    }
    let args = match parse(args) {
        Ok(args) => args,
        Err(text) => {
            print_error(&format!("{text}\nTry --help."));
            return ExitCode::from(2);
        }
    };
    match serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            print_error(&format!("{error}{}", cause.unwrap_or_default()));
            ExitCode::FAILURE
        }
    }
}

fn parse(args: Vec<String>) -> Result<Args, String> {
    let mut parsed = Args { listen: "127.0.0.1:7777".into(), tls: None, acceptors: 4, idle: Duration::from_secs(300) };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = |what: &str| args.next().ok_or_else(|| format!("{arg}: expected {what} after it"));
        match arg.as_str() {
            "--tls" => {
                let (certificate, key) = (value("CERTIFICATE KEY")?, value("CERTIFICATE KEY")?);
                parsed.tls = Some(ServerTls::from_files(PathBuf::from(certificate), PathBuf::from(key)));
            }
            "--unix" => parsed.listen = unix(value("PATH")?)?,
            "--acceptors" => parsed.acceptors = number(&arg, &value("N")?)?,
            "--idle" => parsed.idle = Duration::from_secs(number(&arg, &value("SECONDS")?)?),
            other if other.starts_with('-') => return Err(format!("unknown argument {other:?}")),
            _ => parsed.listen = arg.into(),
        }
    }
    Ok(parsed)
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name} {text:?}: expected a number"))
}

#[cfg(unix)]
fn unix(path: String) -> Result<Listen, String> {
    Ok(Listen::unix(path))
}

#[cfg(not(unix))]
fn unix(_: String) -> Result<Listen, String> {
    Err("--unix: there are no such sockets on this system".into())
}

async fn serve(args: Args) -> Result<(), perconn::acceptor::Error> {
    let acceptor = settings(args).build()?;
    match acceptor.local_addr() {
        Ok(address) => say(format_args!("listening on {address}")),
        Err(_) => say("listening"),
    }
    stop_signal().await;
    say(format_args!("stopping; in {DEADLINE:?} at the latest"));
    let stopped = tokio::select! {
        stopped = acceptor.stop(DEADLINE) => stopped,
        () = stop_signal() => acceptor.stop(Duration::ZERO).await,
    };
    say(format_args!("stopped; busy and finished: {}, idle: {}, cut: {}", stopped.finished, stopped.idle, stopped.cut));
    let stats = acceptor.stats();
    say(format_args!("in all: {} served, {} refused, {} timed out", stats.accepted, stats.refused, stats.timed_out));
    Ok(())
}

fn settings(args: Args) -> AcceptorBuilder {
    let Args { listen, tls, acceptors, idle } = args;
    let builder = Acceptor::builder(listen)
        .acceptors(acceptors)
        .overflow(Overflow::Grow { by: acceptors, max: acceptors.saturating_mul(2) })
        .refusal("no acceptor is free, come back later\n")
        .first_byte_timeout(idle)
        .idle_timeout(idle)
        .nodelay(true)
        .on_event(|event| say(event))
        .logger(|error| print_error(&error.to_string()))
        .line_handler(async |line, conn| {
            if line == b"quit" {
                conn.send("bye").await?;
                conn.close();
                return Ok(());
            }
            conn.send(line).await
        });
    match tls {
        Some(tls) => builder.tls(tls),
        None => builder,
    }
}

/// Waits for Ctrl-C or, as service managers do it, SIGTERM.
async fn stop_signal() {
    tokio::select! {
        () = received(tokio::signal::ctrl_c()) => {}
        () = received(terminated()) => {}
    }
}

async fn received(signal: impl Future<Output = io::Result<()>>) {
    if signal.await.is_err() {
        // No handler could be installed, so the signal ends the process by itself.
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
async fn terminated() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    signal(SignalKind::terminate())?.recv().await;
    Ok(())
}

#[cfg(not(unix))]
async fn terminated() -> io::Result<()> {
    std::future::pending().await
}

/// A line on standard output. If nobody reads any more, as after `| head -3`, the program has nothing left to do.
fn say(text: impl std::fmt::Display) {
    let mut stdout = io::stdout().lock();
    // Flushed, so that a pipe gets each line at once.
    if let Err(error) = writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        std::process::exit(if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 });
    }
}

fn print_error(text: &str) {
    // Unlike `eprintln!`, this cannot panic if nobody reads.
    let _ = writeln!(io::stderr(), "echo_server: {text}");
}
