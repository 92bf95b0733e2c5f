//! An HTTP/1 server with hyper that shuts down gracefully: at Ctrl-C, requests under way are answered first.
//!
//! ```text
//! cargo run -p perconn-interop --example http_server -- 127.0.0.1:8080
//! curl http://127.0.0.1:8080/slow         # in another terminal; then press Ctrl-C in the first
//! ```

use std::convert::Infallible;
use std::io::{self, Write};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use perconn::acceptor::{Acceptor, Peer, Stream};

const USAGE: &str = "\
Serves HTTP until Ctrl-C, and then answers the requests that are under way. /slow takes 5 seconds.

Usage: http_server [HOST:PORT]        (127.0.0.1:8080 unless given)";

#[tokio::main]
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
            let _ = writeln!(io::stderr(), "http_server: unexpected arguments {args:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "http_server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let acceptor = Acceptor::builder(address).on_event(|event| say(event)).handler(serve).build()?;
    say(format_args!("listening on {}", acceptor.local_addr()?));
    tokio::signal::ctrl_c().await?;
    let stopped = acceptor.stop(Duration::from_secs(10)).await;
    say(format_args!("{stopped:?}"));
    Ok(())
}

/// Serves a connection, and asks hyper to end it gracefully when the acceptor stops.
async fn serve(stream: Stream, _: Peer) -> io::Result<()> {
    // As long as this exists, hyper decides when the connection ends.
    let mut stopping = stream.stopping();
    let mut session = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
    tokio::select! {
        // The session first, so that it has read what has arrived before it is asked to end.
        biased;
        outcome = &mut session => return outcome.map_err(io::Error::other),
        () = &mut stopping => session.as_mut().graceful_shutdown(),
    }
    session.await.map_err(io::Error::other)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/slow" {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    Ok(Response::new(Full::new(Bytes::from(format!("{} {}\n", request.method(), request.uri())))))
}

/// Prints a line on standard output. Ends the program if nobody reads any more, as after `| head -3`.
fn say(text: impl std::fmt::Display) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        std::process::exit(if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 });
    }
}
