//! HTTP/1 with hyper, over one connection that outlives its sockets.
//!
//! ```text
//! python3 -m http.server --protocol HTTP/1.1 8080     # in another terminal; stop and restart it at will
//! cargo run -p perconn-interop --example http_client -- 127.0.0.1:8080
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use perconn::{Conn, Session, Sessions};

const USAGE: &str = "\
Gets / from an HTTP server once a second, until Ctrl-C.

Usage: http_client [HOST:PORT]        (127.0.0.1:8080 unless given)

A server to start, stop and restart: python3 -m http.server --protocol HTTP/1.1 8080";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => run("127.0.0.1:8080").await,
        [address] if !address.starts_with('-') => run(address).await,
        ["--help" | "-h"] => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            // Unlike `eprintln!`, this does not panic if nobody reads.
            let _ = writeln!(io::stderr(), "http_client: unexpected arguments {args:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let Err(error) = outcome;
    let _ = writeln!(io::stderr(), "http_client: {error}");
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
    let (mut requests, connection) = http1::handshake(TokioIo::new(session)).await?;
    tokio::spawn(connection);
    loop {
        requests.ready().await?;
        let request = Request::get("/").header("host", "localhost").body(Empty::<Bytes>::new())?;
        let response = requests.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        say(format_args!("answer {number}: {status}, {} bytes", body.len()));
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
