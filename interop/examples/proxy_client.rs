//! A connection through a SOCKS5 or an HTTP proxy.
//!
//! ```text
//! microsocks -p 1080 &                  # or: tinyproxy, port 8888
//! socat TCP-LISTEN:7777,reuseaddr,fork EXEC:cat &
//! cargo run -p perconn-interop --example proxy_client -- socks5://127.0.0.1:1080 127.0.0.1:7777
//! cargo run -p perconn-interop --example proxy_client -- http://127.0.0.1:8888 127.0.0.1:7777
//! ```
//!
//! It sends a line a second and prints the echo. Kill and restart the proxy or the server at will.

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use perconn::{Conn, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const USAGE: &str = "\
Sends a line a second to an echo server, through a proxy, until Ctrl-C.

Usage: proxy_client socks5://PROXY:PORT|http://PROXY:PORT HOST:PORT";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [proxy, target] if !proxy.starts_with('-') => run(proxy, target).await,
        ["--help" | "-h"] => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            // Unlike `eprintln!`, this does not panic if nobody reads.
            let _ = writeln!(io::stderr(), "proxy_client: expected a proxy and a target, not {args:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let Err(error) = outcome;
    let _ = writeln!(io::stderr(), "proxy_client: {}", chain(&*error));
    ExitCode::FAILURE
}

/// Sends lines until the connection itself ends.
async fn run(proxy: &str, target: &str) -> Result<Infallible, Box<dyn Error>> {
    let proxy = match proxy.split_once("://") {
        Some(("socks5", address)) => Proxy::socks5(address),
        Some(("http", address)) => Proxy::http(address),
        _ => return Err(format!("proxy {proxy:?}: expected socks5://PROXY:PORT or http://PROXY:PORT").into()),
    };
    let builder = Conn::builder(target).proxy(proxy).retry_min(Duration::from_millis(200));
    let mut conn = builder.on_event(|event| say(event)).logger(|_| {}).build()?;
    let mut number = 1;
    loop {
        let line = format!("line {number}\n");
        let mut echo = vec![0; line.len()];
        let exchange = async {
            conn.write_all(line.as_bytes()).await?;
            conn.read_exact(&mut echo).await
        };
        match exchange.await {
            Ok(_) => {
                say(String::from_utf8_lossy(&echo).trim_end());
                number += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) if perconn::Error::of(&error).is_some_and(perconn::Error::is_final) => return Err(error.into()),
            Err(error) => say(format_args!("{}; line {number} is repeated", chain(&error))),
        }
    }
}

/// An error and its causes. Each one says only its own part.
fn chain(error: &(dyn Error + 'static)) -> String {
    let levels = std::iter::successors(Some(error), |&error| error.source());
    levels.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Prints a line on standard output. Ends the program if nobody reads any more, as after `| head -3`.
fn say(text: impl std::fmt::Display) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        std::process::exit(if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 });
    }
}
