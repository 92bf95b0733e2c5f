//! Helpers that the tests of acceptors share.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use perconn::acceptor::{Acceptor, AcceptorBuilder, Event, LineConn, Peer, Stats, Stream};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use crate::support::in_time;

pub const LONG: Duration = Duration::from_secs(3600);

pub fn local() -> AcceptorBuilder {
    Acceptor::builder("127.0.0.1:0").logger(|_| {})
}

/// Waits until nobody listens at this address. A process that another test starts has the listener, too, until it runs its
/// program.
pub async fn until_refused(address: std::net::SocketAddr) {
    let is_refused = async || {
        let outcome = TcpStream::connect(address).await;
        outcome.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    in_time("a refusal", async {
        while !is_refused().await {
            yield_now().await;
        }
    })
    .await;
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
            sleep(Duration::from_millis(1)).await;
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
pub async fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Writes until a write has to wait, and drops that one. Returns how many bytes were taken.
pub async fn fill(stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<usize> {
    let chunk = [7; 100_000];
    let mut taken = 0;
    loop {
        yield_now().await; // otherwise the cooperative budget may run out, which looks like a full socket
        match poll_once(stream.write(&chunk)).await {
            Poll::Ready(written) => taken += written?,
            Poll::Pending => return Ok(taken),
        }
    }
}

/// Counts the open connections.
pub fn counter(open: &Arc<AtomicU64>) -> impl Fn(&Event) + Send + Sync + use<> {
    let open = Arc::clone(open);
    move |event| {
        match event {
            Event::Accepted { .. } => open.fetch_add(1, Ordering::SeqCst),
            Event::Closed { .. } => open.fetch_sub(1, Ordering::SeqCst),
            Event::Ended { .. } => panic!("it was stopped"),
            _ => 0,
        };
    }
}

/// Stops an acceptor while clients connect: once it is closed, nothing more is accepted, and every connection has ended.
pub async fn close_among_clients<F>(acceptor: Acceptor, open: Arc<AtomicU64>, connect: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut clients = JoinSet::new();
    for _ in 0..20 {
        clients.spawn(connect());
    }
    // The first of them are served; the others are on their way.
    in_time("some clients", async {
        while acceptor.stats().accepted < 3 {
            yield_now().await;
        }
    })
    .await;
    let (stopped, closed) =
        in_time("the end", async { tokio::join!(acceptor.stop(Duration::from_millis(1)), acceptor.closed()) }).await;
    closed.unwrap();
    let stats = acceptor.stats();
    assert_eq!((stats.busy, open.load(Ordering::SeqCst)), (0, 0), "{stopped:?} {stats:?}");
    sleep(Duration::from_millis(5)).await;
    assert_eq!(acceptor.stats().accepted, stats.accepted);
    in_time("the clients", clients.join_all()).await;
}

/// Sends lines of a megabyte until one of them waits, which is returned with the number of those that were sent. (One long line is
/// not enough: Windows takes a write whole if it takes anything.)
pub async fn send_that_waits(conn: &LineConn) -> (usize, Pin<Box<dyn Future<Output = io::Result<()>> + '_>>) {
    for sent in 0..100 {
        let mut send = Box::pin(conn.send(vec![b'x'; MEGABYTE]));
        match poll_once(send.as_mut()).await {
            Poll::Pending => return (sent, send),
            Poll::Ready(outcome) => outcome.unwrap(),
        }
    }
    panic!("the system takes whatever is sent");
}

/// The length of each of these lines, without its end.
pub const MEGABYTE: usize = 1 << 20;
