//! `tokio-postgres`, over one connection that outlives its sockets.
//!
//! ```text
//! PGUSER=me PGPASSWORD=secret cargo run -p perconn-interop --example postgres_client -- 127.0.0.1:5432
//! ```
//!
//! Restart the server at will. Prepared statements, temporary tables, `LISTEN` and open transactions belong to a session
//! and end with it. This program makes them again where it connects.

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use perconn::{Conn, Session, Sessions};
use tokio_postgres::{Config, NoTls};

const USAGE: &str = "\
Queries a PostgreSQL server once a second, until Ctrl-C. You may restart the server meanwhile.

Usage: postgres_client [HOST:PORT]        (127.0.0.1:5432 unless given)

Environment: PGUSER (postgres), PGPASSWORD (none), PGDATABASE (the user's name)";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => run("127.0.0.1:5432").await,
        [address] if !address.starts_with('-') => run(address).await,
        ["--help" | "-h"] => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            // Unlike `eprintln!`, this does not panic if nobody reads.
            let _ = writeln!(io::stderr(), "postgres_client: unexpected arguments {args:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let Err(error) = outcome;
    let _ = writeln!(io::stderr(), "postgres_client: {error}");
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
        say(format_args!("{}; request {number} is repeated", with_causes(&*error)));
    }
}

async fn send_requests(session: Session, number: &mut i64) -> Result<Infallible, Box<dyn Error>> {
    let (client, connection) = config().connect_raw(session, NoTls).await?;
    let connection = tokio::spawn(connection);
    let outcome = async {
        let query = client.prepare("SELECT $1::int8, pg_postmaster_start_time()::text").await?;
        loop {
            let row = client.query_one(&query, &[&*number]).await?;
            let (answer, since): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
            say(format_args!("answer {answer}: the server has been running since {since}"));
            *number += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let outcome: Result<Infallible, Box<dyn Error>> = outcome.await;
    // A query reports only that the connection is closed. The connection's task has the cause.
    drop(client);
    if let Err(error) = connection.await? {
        say(with_causes(&error));
    }
    outcome
}

/// An error with its causes. The server's own message is one of them.
fn with_causes(error: &dyn Error) -> String {
    let cause = error.source().map(|cause| format!(": {}", with_causes(cause)));
    format!("{error}{}", cause.unwrap_or_default())
}

fn config() -> Config {
    let mut config = Config::new();
    config.user(std::env::var("PGUSER").unwrap_or_else(|_| "postgres".to_owned()));
    if let Ok(password) = std::env::var("PGPASSWORD") {
        config.password(password);
    }
    if let Ok(database) = std::env::var("PGDATABASE") {
        config.dbname(database);
    }
    config
}

/// Prints a line on standard output. Ends the program if nobody reads any more, as after `| head -3`.
fn say(text: impl std::fmt::Display) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        std::process::exit(if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 });
    }
}
