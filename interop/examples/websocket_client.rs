//! WebSocket with `tokio-tungstenite`, over one connection that outlives its sockets.
//!
//! ```text
//! cargo run -p perconn-interop --example websocket_client -- --serve 127.0.0.1:9001   # in another terminal; kill it at will
//! cargo run -p perconn-interop --example websocket_client -- 127.0.0.1:9001
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use perconn::acceptor::{Acceptor, Stream};
use perconn::{Conn, Session, Sessions};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{accept_async, client_async};

const USAGE: &str = "\
Sends a message to a WebSocket server that echoes, once a second, until Ctrl-C.

Usage: websocket_client [HOST:PORT]          (127.0.0.1:9001 unless given)
       websocket_client --serve HOST:PORT    such a server, to kill and restart";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => run("127.0.0.1:9001").await,
        [address] if !address.starts_with('-') => run(address).await,
        ["--serve", address] => serve(address).await,
        ["--help" | "-h"] => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            // Unlike `eprintln!`, this does not panic if nobody reads.
            let _ = writeln!(io::stderr(), "websocket_client: unexpected arguments {args:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let Err(error) = outcome;
    let _ = writeln!(io::stderr(), "websocket_client: {error}");
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
        let Err(error) = send_requests(session, address, &mut number).await;
        say(format_args!("{error}; request {number} is repeated"));
    }
}

async fn send_requests(session: Session, address: &str, number: &mut u64) -> Result<Infallible, Box<dyn Error>> {
    let (mut socket, _) = client_async(format!("ws://{address}/"), session).await?;
    loop {
        socket.send(Message::text(number.to_string())).await?;
        let answer = loop {
            // The calls that follow answer a ping.
            if let Message::Text(answer) = socket.next().await.ok_or("the server closed the connection")?? {
                break answer;
            }
        };
        say(format_args!("answer {answer}"));
        *number += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn serve(address: &str) -> Result<Infallible, Box<dyn Error>> {
    let _acceptor = Acceptor::builder(address)
        .on_event(|event| say(event))
        .handler(async |stream, _| echo(stream).await.map_err(io::Error::other))
        .build()
        .map_err(|error| match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        })?;
    std::future::pending().await
}

async fn echo(stream: Stream) -> Result<(), tungstenite::Error> {
    let mut socket = accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        match message? {
            message if message.is_text() || message.is_binary() => socket.send(message).await?,
            _ => {}
        }
    }
    Ok(())
}

/// Prints a line on standard output. Ends the program if nobody reads any more, as after `| head -3`.
fn say(text: impl std::fmt::Display) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        std::process::exit(if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 });
    }
}
