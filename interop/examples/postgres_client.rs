//! `tokio-postgres`, over one connection that outlives its sockets.
//!
//! ```text
//! PGUSER=me PGPASSWORD=secret cargo run --features session --example postgres_client -- 127.0.0.1:5432
//! ```
//!
//! Restart the server at will. What belongs to a session (prepared statements, temporary tables, `LISTEN`, an open
//! transaction) is gone with it, and is made again where this program connects.

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use perconn::{Conn, Session, Sessions};
use tokio_postgres::{Config, NoTls};

const USAGE: &str = "\
Queries a PostgreSQL server once a second, until Ctrl-C. The server may be restarted meanwhile.

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
            // Unlike `eprintln!`, this cannot panic if nobody reads.
            let _ = writeln!(io::stderr(), "postgres_client: unexpected arguments {args:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let Err(error) = outcome;
    let _ = writeln!(io::stderr(), "postgres_client: {error}");
    ExitCode::FAILURE
}

/// Asks for ever. What ends it is the end of the connection itself.
async fn run(address: &str) -> Result<Infallible, Box<dyn Error>> {
    let conn = Conn::builder(address).on_event(|event| say(event)).logger(|_| {}).build()?;
    let mut sessions = Sessions::new(conn);
    let mut number = 1;
    loop {
        let session = sessions.next().await?;
        // A client for each session. It ends with an error, and the question that has no answer is asked again.
        let Err(error) = ask(session, &mut number).await;
        say(format_args!("{}; question {number} is asked again", with_causes(&*error)));
    }
}

async fn ask(session: Session, number: &mut i64) -> Result<Infallible, Box<dyn Error>> {
    let (client, connection) = config().connect_raw(session, NoTls).await?;
    let connection = tokio::spawn(connection);
    let outcome = async {
        let question = client.prepare("SELECT $1::int8, pg_postmaster_start_time()::text").await?;
        loop {
            let row = client.query_one(&question, &[&*number]).await?;
            let (answer, since): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
            say(format_args!("answer {answer}: the server runs since {since}"));
            *number += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let outcome: Result<Infallible, Box<dyn Error>> = outcome.await;
    // A query says only that the connection is closed; its task knows why.
    drop(client);
    if let Err(why) = connection.await? {
        say(with_causes(&why));
    }
    outcome
}

/// What the server itself said is a cause.
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

/// A line on standard output. If nobody reads any more, as after `| head -3`, the program has nothing left to do.
fn say(text: impl std::fmt::Display) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        std::process::exit(if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 });
    }
}
