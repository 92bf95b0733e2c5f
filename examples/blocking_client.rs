//! A client without a runtime, for a line protocol of requests and answers. Its links break again and again.
//!
//! ```text
//! cargo run --features blocking --example blocking_client                            # starts its own server
//! cargo run --features blocking --example blocking_client -- --connect 192.0.2.1:7777   # an echo server of yours
//! ```
//!
//! The client repeats a request that got no answer: see `run`. A [`FaultProxy`] before its own server cuts answers.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use perconn::blocking::Conn;
use perconn::testing::{Cut, FaultProxy, Link};
use perconn::{Address, Error};

const USAGE: &str = "\
Asks an echo server twenty questions, without a runtime. By default it starts a server of its own, on links that break.

Usage: blocking_client [--connect HOST:PORT]";

const QUESTIONS: u32 = 20;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        [] => start_server().and_then(|proxy| run(proxy.addr())),
        ["-h" | "--help"] => say(format_args!("{USAGE}")),
        ["--connect", address] => run(address),
        _ => {
            // Unlike `eprintln!`, this cannot panic if nobody reads.
            let _ = writeln!(io::stderr(), "blocking_client: unexpected arguments {args:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads any more, as after `| head -3`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe && Error::of(&error).is_none() => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "blocking_client: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(address: impl Into<Address>) -> io::Result<()> {
    let conn = Conn::builder(address)
        // Short, so that there is something to see. Against a server that others use as well, keep the defaults.
        .retry_min(Duration::from_millis(50))
        .retry_max(Duration::from_secs(1))
        // In the middle of an answer, the server's close is a break like any other.
        .close_as_error(true)
        .logger(|_| {})
        .connect_blocking()?;
    // An answer that does not come is no break.
    conn.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut conn = BufReader::new(conn);
    for number in 1..=QUESTIONS {
        let question = format!("question {number}\n");
        // Asks until there is an answer. (The server may get a question twice.)
        let answer = loop {
            match ask(&mut conn, &question) {
                Ok(answer) => break answer,
                // It is over: closed, or given up.
                Err(error) if Error::of(&error).is_some_and(Error::is_final) => return Err(error),
                Err(error) => say(format_args!("error: {}", chain(&error)))?,
            }
            // A late answer must not pass for the next one. After a break, there is nothing to abandon.
            conn.get_mut().abandon();
            // The same is true of bytes of the old link that are left in the buffer.
            conn = BufReader::new(conn.into_inner());
        };
        say(format_args!("link {}: {}", conn.get_ref().generation(), answer.trim_end()))?;
        thread::sleep(Duration::from_millis(50));
    }
    say(format_args!("{QUESTIONS} answers, {} links", conn.get_ref().generation()))
}

/// One question and its answer on one link.
fn ask(conn: &mut BufReader<Conn>, question: &str) -> io::Result<String> {
    conn.get_mut().write_all(question.as_bytes())?;
    let mut answer = String::new();
    conn.read_line(&mut answer)?;
    Ok(answer)
}

/// An error and its causes. Each one says only its own part.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let levels = std::iter::successors(Some(error), |&error| error.source());
    levels.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A line on standard output, at once, also into a pipe.
fn say(text: impl std::fmt::Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// A server that answers each line, behind a proxy that cuts three answers before their last byte.
fn start_server() -> io::Result<FaultProxy> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let proxy = FaultProxy::start_blocking(listener.local_addr()?)?;
    let cuts = [("to question 6", Cut::Close), ("to question 11", Cut::Reset), ("to question 16", Cut::Close)];
    proxy.script(cuts.map(|(pattern, cut)| Link::pass().cut_at_from_server(pattern, cut)));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                // If it fails, there is no next line.
                let _ = (&stream).write_all(format!("answer to {line}\n").as_bytes());
            }
        }
    });
    Ok(proxy)
}
