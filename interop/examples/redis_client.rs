//! The `redis` crate, over one connection that outlives its sockets.
//!
//! ```text
//! redis-server                                        # in another terminal; kill and restart it at will
//! cargo run -p perconn-interop --example redis_client -- 127.0.0.1:6379
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use perconn::{Conn, Session, Sessions};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};

const USAGE: &str = "\
Sends a command to a Redis server once a second, until Ctrl-C. You may restart the server meanwhile.

Usage: redis_client [HOST:PORT]        (127.0.0.1:6379 unless given)";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => run("127.0.0.1:6379").await,
        [address] if !address.starts_with('-') => run(address).await,
        ["--help" | "-h"] => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            // Unlike `eprintln!`, this does not panic if nobody reads.
            let _ = writeln!(io::stderr(), "redis_client: unexpected arguments {args:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let Err(error) = outcome;
    let _ = writeln!(io::stderr(), "redis_client: {error}");
    ExitCode::FAILURE
}

/// Sends requests until the connection itself ends.
async fn run(address: &str) -> Result<Infallible, Box<dyn Error>> {
    let conn = Conn::builder(address).on_event(|event| say(event)).logger(|_| {}).build()?;
    let mut sessions = Sessions::new(conn);
    let mut number = 1;
    loop {
        let session = sessions.next().await?;
        // Each session gets a client of its own. The client ends with an error, and the request without an answer is repeated.
        let Err(error) = send_requests(session, &mut number).await;
        say(format_args!("{error}; request {number} is repeated"));
    }
}

async fn send_requests(session: Session, number: &mut u64) -> Result<Infallible, Box<dyn Error>> {
    // User, password and database belong here. The crate sends them in each session.
    let info = RedisConnectionInfo::default();
    // Time limits belong here. By default, an answer may take half a second.
    let config = AsyncConnectionConfig::new();
    // You can clone it into any number of tasks.
    let (mut commands, driver) = MultiplexedConnection::new_with_config(&info, session, config).await?;
    tokio::spawn(driver);
    loop {
        let answer: String = redis::cmd("ECHO").arg(*number).query_async(&mut commands).await?;
        say(format_args!("answer {answer}"));
        *number += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Prints a line on standard output. Ends the program if nobody reads any more, as after `| head -3`.
fn say(text: impl std::fmt::Display) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        std::process::exit(if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 });
    }
}
