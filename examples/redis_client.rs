//! The `redis` crate, over one connection that outlives its sockets.
//!
//! ```text
//! redis-server                                        # in another terminal; kill it and start it again at will
//! cargo run --features session --example redis_client -- 127.0.0.1:6379
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
Sends a command to a Redis server once a second, until Ctrl-C. The server may be restarted meanwhile.

Usage: redis_client [HOST:PORT]        (127.0.0.1:6379 unless given)";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => run("127.0.0.1:6379").await,
        [address] if !address.starts_with('-') => run(address).await,
        ["--help" | "-h"] => writeln!(io::stdout(), "{USAGE}").map_err(Into::into),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("redis_client: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Asks for ever. What ends it is the end of the connection itself.
async fn run(address: &str) -> Result<(), Box<dyn Error>> {
    let conn = Conn::builder(address).on_event(|event| println!("{event}")).logger(|_| {}).build()?;
    let mut sessions = Sessions::new(conn);
    let mut number = 1;
    loop {
        let session = sessions.next().await?;
        // A client for each session. It ends with an error, and the question that has no answer is asked again.
        let Err(error) = ask(session, &mut number).await;
        writeln!(io::stdout(), "{error}; question {number} is asked again")?;
    }
}

async fn ask(session: Session, number: &mut u64) -> Result<Infallible, Box<dyn Error>> {
    // User, password and database would be set here: they are sent anew in each session.
    let info = RedisConnectionInfo::default();
    // (Limits in time are set here; an answer may take half a second unless told otherwise.)
    let config = AsyncConnectionConfig::new();
    // (May be cloned into any number of tasks.)
    let (mut commands, driver) = MultiplexedConnection::new_with_config(&info, session, config).await?;
    tokio::spawn(driver);
    loop {
        let answer: String = redis::cmd("ECHO").arg(*number).query_async(&mut commands).await?;
        writeln!(io::stdout(), "answer {answer}")?;
        *number += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
