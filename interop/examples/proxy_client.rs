//! A connection through a SOCKS5 or HTTP CONNECT proxy: a dialer to the proxy, and a library's handshake on each link.
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
use std::future::{Ready, ready};
use std::io::{self, Write};
use std::process::ExitCode;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::rt::TokioIo;
use perconn::{Conn, Dial, TcpDialer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower_service::Service;

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

#[derive(Clone, Copy)]
enum Scheme {
    Socks5,
    Http,
}

/// Sends lines until the connection itself ends.
async fn run(proxy: &str, target: &str) -> Result<Infallible, Box<dyn Error>> {
    let (scheme, proxy) = match proxy.split_once("://") {
        Some(("socks5", address)) => (Scheme::Socks5, address),
        Some(("http", address)) => (Scheme::Http, address),
        _ => return Err(format!("proxy {proxy:?}: expected socks5://PROXY:PORT or http://PROXY:PORT").into()),
    };
    // A connection with a dialer of its own accepts any text as its address. The proxy dials this one, so check it.
    TcpDialer::new(target).check()?;
    let uri: Uri = format!("http://{target}").parse().map_err(|error| format!("{target:?}: {error}"))?;
    let dialer = TcpDialer::new(proxy).and_then(move |stream| handshake(scheme, stream, uri.clone()));
    let builder = Conn::builder(target).dialer(dialer).retry_min(Duration::from_millis(200));
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

/// Asks the proxy for a connection to the target. This is a part of the dial, so the dial timeout limits it.
async fn handshake(scheme: Scheme, stream: TcpStream, target: Uri) -> io::Result<TcpStream> {
    let connected = Connected(Some(stream));
    // The stream leads to the proxy already, so its address is not used any more.
    let proxy = Uri::from_static("http://proxy");
    let stream = match scheme {
        Scheme::Socks5 => SocksV5::new(proxy, connected).call(target).await.map_err(|error| chain(&error)),
        Scheme::Http => Tunnel::new(proxy, connected).call(target).await.map_err(|error| chain(&error)),
    };
    stream.map(TokioIo::into_inner).map_err(io::Error::other)
}

/// A service that returns a stream which is connected already. The proxies of hyper-util connect through a service.
struct Connected(Option<TcpStream>);

impl Service<Uri> for Connected {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().map(TokioIo::new).ok_or_else(|| io::ErrorKind::NotConnected.into()))
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
