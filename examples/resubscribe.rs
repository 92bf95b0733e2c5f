//! Subscriptions that are made again on every link, with the list as it is at that moment.
//!
//! ```text
//! cargo run --example resubscribe      # starts its own server; about 3 seconds
//! ```
//!
//! The set-up of a link runs before the program can use the link. It shares the list of topics with the program. While the
//! server is down, the program adds a topic and drops another, and the next link subscribes to the new list. A topic that is added while a link is up is
//! subscribed at once: if that write fails, the next link's set-up makes up for it.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use perconn::Conn;
use perconn::acceptor::{Acceptor, Peer, Stream};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const USAGE: &str = "\
Subscribes to topics at a server of its own, which closes again and again. Ends after about 3 seconds.

Usage: resubscribe";

/// The topics that the program subscribes to.
#[derive(Clone, Default)]
struct Topics(Arc<Mutex<BTreeSet<String>>>);

impl Topics {
    fn change(&self, change: impl FnOnce(&mut BTreeSet<String>)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn requests(&self) -> String {
        let topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        topics.iter().map(|topic| format!("SUB {topic}\n")).collect()
    }

    /// The set-up of a link: all of the list, and the server's answer to each.
    async fn subscribe(self, mut stream: TcpStream) -> io::Result<TcpStream> {
        let requests = self.requests();
        stream.write_all(requests.as_bytes()).await?;
        for request in requests.lines() {
            let mut answer = [0; 3];
            stream.read_exact(&mut answer).await?;
            if &answer != b"OK\n" {
                return Err(io::Error::other(format!("{request}: refused")));
            }
        }
        Ok(stream)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => run().await,
        ["--help" | "-h"] => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            // Unlike `eprintln!`, this cannot panic if nobody reads.
            let _ = writeln!(io::stderr(), "resubscribe: unexpected arguments {args:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "resubscribe: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> io::Result<()> {
    let server = Acceptor::builder("127.0.0.1:0").handler(serve).build()?;

    let topics = Topics::default();
    topics.change(|list| list.extend(["gold".to_owned(), "tin".to_owned()]));
    let for_set_up = topics.clone();
    let mut conn = Conn::builder(server.local_addr()?)
        .and_then(move |stream| for_set_up.clone().subscribe(stream))
        .retry_min(Duration::from_millis(200))
        .on_event(|event| say(format_args!("link:   {event}")))
        .build()?;

    let mut news = [0; 64];
    for _ in 0..2 {
        // The end of each link; what the server says between is printed.
        loop {
            match conn.read(&mut news).await {
                Ok(0) => break,
                Ok(n) => say(format_args!("client: {}", String::from_utf8_lossy(&news[..n]).trim_end())),
                Err(error) => {
                    say(format_args!("client: {error}"));
                    break;
                }
            }
        }
        topics.change(|list| {
            list.remove("tin");
            list.insert("silver".to_owned());
        });
        say("client: from now on gold and silver");
    }
    conn.close().await;
    Ok(())
}

/// Answers subscriptions, sends one line of news, and closes.
async fn serve(stream: Stream, _: Peer) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut topics = Vec::new();
    while topics.len() < 2 {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            break;
        }
        topics.push(line.trim_start_matches("SUB ").trim_end().to_owned());
        stream.write_all(b"OK\n").await?;
    }
    say(format_args!("server: subscribed to {topics:?}"));
    tokio::time::sleep(Duration::from_millis(500)).await;
    stream.write_all(format!("news of {}\n", topics.join(" and ")).as_bytes()).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(())
}

/// A line on standard output. If nobody reads any more, as after `| head -3`, the program has nothing left to do.
fn say(text: impl std::fmt::Display) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        std::process::exit(if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 });
    }
}
