//! The load of `redis-benchmark`, a tool of the Redis project.
//!
//! 50 connections each send the next `PING` as soon as they have the answer. The figures are requests a second, and the 99th
//! percentile of the response time.

use std::net::SocketAddr;
use std::process::Command;

use perconn::acceptor::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::{alternate, bare, report, with_limits};

const TOOL: &str = "redis-benchmark";

/// Connections that stay open, and a connection for each request.
const LOADS: [(&str, &str, u32); 2] = [("connections that stay", "1", 50_000), ("a connection for each", "0", 5_000)];

pub(crate) fn run(server: &Runtime, pairs: usize) {
    if Command::new(TOOL).arg("--version").output().is_err() {
        println!("skipped: the load of {TOOL}: it is not installed");
        return;
    }
    let _server = server.enter();
    let bare = server.block_on(async { bare(TcpListener::bind("127.0.0.1:0").await.unwrap(), pong) });
    let plain = Acceptor::builder("127.0.0.1:0").handler(|stream, _| pong(stream)).build().unwrap();
    let limited = with_limits(Acceptor::builder("127.0.0.1:0")).handler(|stream, _| pong(stream)).build().unwrap();
    for (name, acceptor) in [("", &plain), (", with limits and a hook", &limited)] {
        let addresses = [bare, acceptor.local_addr().unwrap()];
        for (what, keep, requests) in LOADS {
            let requests = if pairs == 1 { 500 } else { requests };
            let rounds = alternate(pairs, addresses, |address| load(address, keep, requests));
            let column = |at: usize| rounds.iter().map(|(bare, acceptor)| (bare[at], acceptor[at])).collect::<Vec<_>>();
            report(&format!("{what}{name}"), "/s", &column(0));
            report("    the slowest in a hundred", " ms", &column(1));
        }
    }
}

/// The handler of both: answers `PONG` to each request of the Redis protocol.
async fn pong(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        // Each request begins with `*`, which occurs nowhere else in them.
        let requests = buffer[..n].iter().filter(|byte| **byte == b'*').count();
        stream.write_all("+PONG\r\n".repeat(requests).as_bytes()).await?;
    }
}

/// Requests a second, and the 99th percentile in milliseconds.
fn load(address: SocketAddr, keep: &str, requests: u32) -> [f64; 2] {
    let output = Command::new(TOOL)
        .args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()])
        .args(["-c", "50", "-k", keep, "-n", &requests.to_string(), "--csv", "--precision", "3", "-t", "ping_mbulk"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    // "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
    let line = text.lines().find(|line| line.starts_with("\"PING")).unwrap_or_else(|| panic!("{TOOL}: {text}"));
    let figures: Vec<f64> = line.split(',').skip(1).map(|field| field.trim_matches('"').parse().unwrap()).collect();
    [figures[0], figures[5]]
}
