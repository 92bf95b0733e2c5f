//! A client of a server of lines with a page of metrics for Prometheus: its connection, by name. The dashboard
//! `docs/dashboard.json` shows them in Grafana.
//!
//! ```text
//! nc -lk 7777
//! cargo run -p perconn-interop --example prometheus -- 127.0.0.1:7777
//! curl http://127.0.0.1:9464/metrics      # in another terminal; kill nc meanwhile, and start it again
//! ```

use std::convert::Infallible;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use perconn::acceptor::Acceptor;
use perconn::{Conn, metrics};
use tokio::io::AsyncWriteExt;

const USAGE: &str = "\
Sends a line a second to a server, and has a page of metrics for Prometheus.

Usage: prometheus HOST:PORT [PAGE]    (PAGE is the address of the page, 127.0.0.1:9464 unless given)";

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--help" | "-h"] => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        [server] if !server.starts_with('-') => run(server, "127.0.0.1:9464").await,
        [server, page] if !server.starts_with('-') => run(server, page).await,
        _ => {
            // Unlike `eprintln!`, this does not panic if nobody reads.
            let _ = writeln!(io::stderr(), "prometheus: unexpected arguments {args:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = outcome {
        let _ = writeln!(io::stderr(), "prometheus: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn run(server: &str, page: &str) -> Result<(), Box<dyn std::error::Error>> {
    let buckets = [0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0];
    let recorder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("duration".into()), &buckets)?;
    let recorded = recorder.install_recorder()?;
    metrics::describe();

    let mut conn = Conn::builder(server).name("lines").build()?;
    let stats = conn.watch_stats();
    // The figures are recorded when Prometheus looks.
    let render = move || {
        stats.current().record_metrics("lines");
        recorded.render()
    };
    let page = Acceptor::builder(page).handler(move |stream, _| {
        let render = render.clone();
        let answer = service_fn(move |_: Request<_>| {
            let body = Full::new(Bytes::from(render()));
            async { Ok::<_, Infallible>(Response::new(body)) }
        });
        async { http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await.map_err(io::Error::other) }
    });
    let page = page.build()?;
    say(format_args!("metrics on http://{}/metrics", page.local_addr()?));
    for number in 1_u64.. {
        // A line that is lost is one that the metrics show.
        let _ = conn.write_all(format!("line {number}\n").as_bytes()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Prints, and ends quietly if nobody reads.
fn say(text: impl std::fmt::Display) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        std::process::exit(if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 });
    }
}
