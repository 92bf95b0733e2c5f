//! What the tests of acceptors share.

use std::io;
use std::time::Duration;

use perconn::acceptor::{Acceptor, AcceptorBuilder, Event, Peer, Stats, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::in_time;

pub const LONG: Duration = Duration::from_secs(3600);

pub fn local() -> AcceptorBuilder {
    Acceptor::builder("127.0.0.1:0").logger(|_| {})
}

/// Sends back what comes.
pub async fn echo(mut stream: Stream, _: Peer) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n]).await?,
        }
    }
}

pub async fn client(acceptor: &Acceptor) -> TcpStream {
    in_time("connect", TcpStream::connect(acceptor.local_addr().unwrap())).await.unwrap()
}

/// One question and its echo.
pub async fn exchange(stream: &mut TcpStream) -> io::Result<()> {
    let mut answer = [0; 4];
    stream.write_all(b"ping").await?;
    in_time("an echo", stream.read_exact(&mut answer)).await?;
    assert_eq!(&answer, b"ping");
    Ok(())
}

/// A client who is being served.
pub async fn served(acceptor: &Acceptor) -> TcpStream {
    let mut stream = client(acceptor).await;
    exchange(&mut stream).await.unwrap();
    stream
}

/// Everything until the end of the stream.
pub async fn rest(stream: &mut TcpStream) -> io::Result<String> {
    let mut text = String::new();
    in_time("the end of the stream", stream.read_to_string(&mut text)).await?;
    Ok(text)
}

/// Waits for figures. (They are counted by tasks of their own.)
pub async fn figures(acceptor: &Acceptor, what: &str, is_so: impl Fn(&Stats) -> bool) -> Stats {
    let wait = async {
        loop {
            let stats = acceptor.stats();
            if is_so(&stats) {
                return stats;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time(what, wait).await
}

pub fn recorder() -> (impl Fn(&Event) + Send + Sync + 'static, mpsc::UnboundedReceiver<Event>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (move |event: &Event| drop(sender.send(event.clone())), receiver)
}

/// The next event that `pick` takes.
pub async fn event<T>(events: &mut mpsc::UnboundedReceiver<Event>, pick: impl Fn(&Event) -> Option<T>) -> T {
    loop {
        let event = in_time("an event", events.recv()).await.expect("the hook is gone");
        if let Some(picked) = pick(&event) {
            return picked;
        }
    }
}
