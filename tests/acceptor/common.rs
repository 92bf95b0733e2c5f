//! Helpers that the tests of acceptors share.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use perconn::acceptor::{Acceptor, AcceptorBuilder, Event, Peer, Stats, Stream};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::yield_now;

use crate::support::in_time;

pub const LONG: Duration = Duration::from_secs(3600);

pub fn local() -> AcceptorBuilder {
    Acceptor::builder("127.0.0.1:0").logger(|_| {})
}

/// Sends back what arrives.
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

/// One request and its echo.
pub async fn exchange(stream: &mut TcpStream) -> io::Result<()> {
    let mut answer = [0; 4];
    stream.write_all(b"ping").await?;
    in_time("an echo", stream.read_exact(&mut answer)).await?;
    assert_eq!(&answer, b"ping");
    Ok(())
}

/// A client that is being served.
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

/// Waits until the figures satisfy `is_so`. They are counted by tasks of their own.
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

/// An event hook, and the events that it receives.
pub fn recorder() -> (impl Fn(&Event) + Send + Sync + 'static, mpsc::UnboundedReceiver<Event>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (move |event: &Event| drop(sender.send(event.clone())), receiver)
}

/// The next event for which `pick` returns something.
pub async fn event<T>(events: &mut mpsc::UnboundedReceiver<Event>, pick: impl Fn(&Event) -> Option<T>) -> T {
    loop {
        let event = in_time("an event", events.recv()).await.expect("the hook is gone");
        if let Some(picked) = pick(&event) {
            return picked;
        }
    }
}

/// Polls a future once.
pub async fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    let mut future = Some(future);
    poll_fn(move |cx| Poll::Ready(future.take().unwrap().poll(cx))).await
}

/// Writes until a write has to wait, and drops that one. Returns how many bytes were taken.
pub async fn fill(stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<usize> {
    let chunk = [7; 100_000];
    let mut taken = 0;
    loop {
        yield_now().await; // otherwise the cooperative budget may run out, which looks like a full socket
        match poll_once(pin!(stream.write(&chunk))).await {
            Poll::Ready(written) => taken += written?,
            Poll::Pending => return Ok(taken),
        }
    }
}
