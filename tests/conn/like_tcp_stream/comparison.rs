//! Runs a case over a `TcpStream` and over a `Conn`, records each step, and compares the records.

use std::fmt::{Debug, Write as _};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::support::{Server, in_time};

pub trait Reader: AsyncRead + Send + Unpin {}
impl<T: AsyncRead + Send + Unpin> Reader for T {}
pub trait Writer: AsyncWrite + Send + Unpin {}
impl<T: AsyncWrite + Send + Unpin> Writer for T {}
/// Its methods are for Rust 1.85, in which one trait object does not become another by itself.
pub trait Stream: Reader + Writer {
    fn as_reader(&mut self) -> &mut dyn Reader;
    fn as_writer(&mut self) -> &mut dyn Writer;
}
impl<T: Reader + Writer> Stream for T {
    fn as_reader(&mut self) -> &mut dyn Reader {
        self
    }
    fn as_writer(&mut self) -> &mut dyn Writer {
        self
    }
}

/// How the test holds the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Whole,
    /// Split by `tokio::io::split`.
    IoSplit,
    /// The halves of `into_split`.
    Halves,
}

const SHAPES: [Shape; 3] = [Shape::Whole, Shape::IoSplit, Shape::Halves];

/// The stream under test, in one of the shapes.
pub enum Endpoint {
    Whole(Box<dyn Stream>),
    Halves(Box<dyn Reader>, Box<dyn Writer>),
}

impl Endpoint {
    pub async fn bare(server: &Server, shape: Shape) -> (Self, TcpStream) {
        let (stream, peer) = bare_pair(server).await;
        let stream = match shape {
            Shape::Whole | Shape::IoSplit => Self::one(stream, shape),
            Shape::Halves => {
                let (read, write) = stream.into_split();
                Self::Halves(Box::new(read), Box::new(write))
            }
        };
        (stream, peer)
    }

    pub async fn conn(server: &Server, shape: Shape) -> (Self, TcpStream) {
        let (conn, peer) = server.pair().await;
        let stream = match shape {
            Shape::Whole | Shape::IoSplit => Self::one(conn, shape),
            Shape::Halves => {
                let (read, write) = conn.into_split();
                Self::Halves(Box::new(read), Box::new(write))
            }
        };
        (stream, peer)
    }

    fn one(stream: impl Stream + 'static, shape: Shape) -> Self {
        if shape == Shape::Whole {
            return Self::Whole(Box::new(stream));
        }
        let (read, write) = tokio::io::split(stream);
        Self::Halves(Box::new(read), Box::new(write))
    }

    fn reader(&mut self) -> Pin<&mut dyn Reader> {
        match self {
            Self::Whole(stream) => Pin::new(stream.as_reader()),
            Self::Halves(read, _) => Pin::new(&mut **read),
        }
    }

    fn writer(&mut self) -> Pin<&mut dyn Writer> {
        match self {
            Self::Whole(stream) => Pin::new(stream.as_writer()),
            Self::Halves(_, write) => Pin::new(&mut **write),
        }
    }
}

impl AsyncRead for Endpoint {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.reader().poll_read(cx, buf)
    }
}

impl AsyncWrite for Endpoint {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writer().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writer().poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Whole(stream) => stream.is_write_vectored(),
            Self::Halves(_, write) => write.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_shutdown(cx)
    }
}

/// A bare stream to the server, and the server's end of it.
pub async fn bare_pair(server: &Server) -> (TcpStream, TcpStream) {
    let (stream, peer) = tokio::join!(TcpStream::connect(server.address), server.accept());
    (stream.unwrap(), peer)
}

/// The record of a case, with one line for each step.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Log(Vec<String>);

impl Log {
    pub fn note(&mut self, step: &str, what: impl Debug) {
        let mut line = format!("{step}: ");
        write!(line, "{what:?}").unwrap();
        self.0.push(line);
    }

    /// The value, or the kind of the error.
    pub fn outcome<T: Debug>(&mut self, step: &str, outcome: io::Result<T>) {
        self.note(step, outcome.map_err(|error| error.kind()));
    }

    /// The lines, to compare with what the test expects of both.
    pub fn lines(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

/// Runs the case over a bare stream and over a connection, in every shape. Every step must have the same outcome in all
/// six runs.
pub async fn compare(case: impl AsyncFn(&mut Endpoint, TcpStream, &mut Log)) -> Log {
    let mut logs = Vec::new();
    for shape in SHAPES {
        let server = Server::start().await;
        let (mut bare, peer) = Endpoint::bare(&server, shape).await;
        let mut expected = Log::default();
        in_time("the case over a TcpStream", case(&mut bare, peer, &mut expected)).await;
        let (mut conn, peer) = Endpoint::conn(&server, shape).await;
        let mut log = Log::default();
        in_time("the case over a Conn", case(&mut conn, peer, &mut log)).await;
        assert!(!log.0.is_empty(), "the case records no step");
        assert_eq!(log, expected, "{shape:?}: the Conn is on the left, the TcpStream on the right");
        logs.push(log);
    }
    let first = logs.swap_remove(0);
    assert!(logs.iter().all(|log| *log == first), "the shapes differ");
    first
}

/// Yields `count` times, so that other tasks run and the runtime polls its sockets.
pub async fn yield_times(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

/// A waker that counts its wake-ups.
#[derive(Debug, Default)]
pub struct WakeCounter(AtomicUsize);

impl WakeCounter {
    pub fn new() -> (Arc<Self>, Waker) {
        let count = Arc::<Self>::default();
        (Arc::clone(&count), Waker::from(count))
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Waits until this has been woken.
    pub async fn wait_until_woken(&self, what: &str) {
        in_time(what, async {
            while self.get() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Wake for WakeCounter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
