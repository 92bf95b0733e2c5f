//! A subscriber of a line protocol whose links break in the middle of a line, and that never sees half a line.
//!
//! ```text
//! cargo run --example framed_lines --features codec
//! ```
//!
//! [`Framed`] is a stream of lines and a sink for lines. It reports each break once, drops the line that the break cut, and
//! goes on with the next link, on which this program subscribes again. A [`FaultProxy`] before the example's server cuts
//! lines, by a reset and by an orderly close in turn. After a few seconds the program ends by itself.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use perconn::Conn;
use perconn::acceptor::{Acceptor, Peer, Stream};
use perconn::codec::{Framed, FramedError, Terminated};
use perconn::testing::{Cut, FaultProxy, Link};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio_util::codec::{LinesCodec, LinesCodecError};

const USAGE: &str = "\
Receives lines from a server of its own, on links that break, and never sees half a line. Ends after a few seconds.

Usage: framed_lines";

/// `Terminated`: a server that is killed in mid-line has not sent a line.
type Lines = Framed<Terminated<LinesCodec>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => run().await,
        ["--help" | "-h"] => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            // Unlike `eprintln!`, this cannot panic if nobody reads.
            let _ = writeln!(io::stderr(), "framed_lines: unexpected arguments {args:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "framed_lines: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let server = Acceptor::builder("127.0.0.1:0").handler(serve).build()?;
    let proxy = FaultProxy::start(server.local_addr()?).await?;
    // In the middle of the fourth line. The fifth link stays.
    let cuts = [Cut::Reset, Cut::Close, Cut::Reset, Cut::Close];
    proxy.script(cuts.map(|cut| Link::pass().cut_at_from_server("line 4 of li", cut)));
    let conn = Conn::builder(proxy.addr())
        // Short, so that there is something to see. Against a server that others use as well, keep the defaults.
        .retry_min(Duration::from_millis(100))
        .retry_max(Duration::from_secs(1))
        .build()?;

    let mut lines: Lines = Framed::new(conn, Terminated(LinesCodec::new_with_max_length(64 * 1024)));
    subscribe(&mut lines).await?;
    while let Some(item) = lines.next().await {
        match item {
            Ok(line) if line == "bye" => lines.get_ref().close().await,
            Ok(line) => say(format_args!("received  {line}")),
            Err(error @ FramedError::Break { .. }) => {
                say(format_args!("error     {error}: {}", chain(&error)));
                subscribe(&mut lines).await?;
            }
            Err(error @ FramedError::Codec(_)) => {
                say(format_args!("error     {error}: {}", chain(&error)));
                // After a bad line the rest of this link cannot be trusted. No break is reported for a link that the
                // program abandons, so it subscribes here.
                lines.abandon();
                subscribe(&mut lines).await?;
            }
            Err(error) => say(format_args!("error     {error}: {}", chain(&error))),
        }
    }
    Ok(())
}

/// Subscribes, once on each link.
async fn subscribe(lines: &mut Lines) -> Result<(), FramedError<LinesCodecError>> {
    match lines.send("subscribe").await {
        // The stream reports this break as well, and the program comes here again.
        Err(FramedError::Break { .. }) => Ok(()),
        outcome => outcome,
    }
}

/// The causes of an error.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Sends four lines and a `bye` to each subscriber.
async fn serve(stream: Stream, _: Peer) -> io::Result<()> {
    let link = stream.id();
    let mut stream = BufReader::new(stream);
    stream.read_line(&mut String::new()).await?;
    for number in 1..=4 {
        stream.write_all(format!("line {number} of link {link}\n").as_bytes()).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stream.write_all(b"bye\n").await
}

/// A line on standard output. If nobody reads any more, as after `| head -3`, the program has nothing left to do.
fn say(text: impl std::fmt::Display) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        std::process::exit(if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 });
    }
}
