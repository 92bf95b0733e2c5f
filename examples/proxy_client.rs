//! A connection through a proxy, SOCKS5 or HTTP CONNECT: a dialer of one's own around a library's.
//!
//! ```text
//! microsocks -p 1080 &                  # or: tinyproxy, port 8888
//! socat TCP-LISTEN:7777,reuseaddr,fork EXEC:cat &
//! cargo run --example proxy_client -- socks5://127.0.0.1:1080 127.0.0.1:7777
//! cargo run --example proxy_client -- http://127.0.0.1:8888 127.0.0.1:7777
//! ```
//!
//! It sends a line a second and prints the echo. Kill the proxy or the server, and start it again.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::rt::TokioIo;
use perconn::{Conn, Dial, dial_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower_service::Service;

const USAGE: &str = "usage: proxy_client socks5://HOST:PORT|http://HOST:PORT TARGET_HOST:PORT";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [proxy, target] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let outcome = match proxy.split_once("://") {
        Some(("socks5", address)) => match (uri(address), uri(target)) {
            (Ok(proxy), Ok(to)) => talk(target, through(SocksV5::new(proxy, HttpConnector::new()), to)).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        },
        Some(("http", address)) => match (uri(address), uri(target)) {
            (Ok(proxy), Ok(to)) => talk(target, through(Tunnel::new(proxy, HttpConnector::new()), to)).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        },
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("proxy {proxy:?}: {USAGE}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxy_client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn uri(address: &str) -> io::Result<Uri> {
    let wrong = |error| io::Error::new(io::ErrorKind::InvalidInput, format!("{address:?}: {error}"));
    format!("http://{address}").parse().map_err(wrong)
}

/// A dialer that asks the proxy for each link.
fn through<P>(proxy: P, target: Uri) -> impl Dial<Stream = TcpStream>
where
    P: Service<Uri, Response = TokioIo<TcpStream>> + Clone + Send + 'static,
    P::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    P::Future: Send,
{
    dial_fn(move || {
        let asked = proxy.clone().call(target.clone());
        async move { asked.await.map(TokioIo::into_inner).map_err(io::Error::other) }
    })
}

async fn talk(target: &str, dialer: impl Dial<Stream = TcpStream>) -> io::Result<()> {
    let conn = Conn::builder(target).dialer(dialer).retry_min(Duration::from_millis(200));
    let mut conn = conn.on_event(|event| println!("{event}")).build()?;
    for number in 1.. {
        let line = format!("line {number}\n");
        let mut echo = vec![0; line.len()];
        let exchange = async {
            conn.write_all(line.as_bytes()).await?;
            conn.read_exact(&mut echo).await
        };
        match exchange.await {
            Ok(_) => print!("{}", String::from_utf8_lossy(&echo)),
            Err(error) if perconn::Error::of(&error).is_some_and(perconn::Error::is_final) => return Err(error),
            Err(error) => println!("{error}"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}
