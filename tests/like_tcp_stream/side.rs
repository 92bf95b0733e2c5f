//! One end of a connection, whatever it is made of, and the record of what it did.

use std::fmt::{Debug, Write as _};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::support::{Server, soon};

pub trait Reader: AsyncRead + Send + Unpin {}
impl<T: AsyncRead + Send + Unpin> Reader for T {}
pub trait Writer: AsyncWrite + Send + Unpin {}
impl<T: AsyncWrite + Send + Unpin> Writer for T {}
pub trait Stream: Reader + Writer {}
impl<T: Reader + Writer> Stream for T {}

/// How the end is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Whole,
    /// By `tokio::io::split`.
    IoSplit,
    /// By `into_split`.
    Halves,
}

const SHAPES: [Shape; 3] = [Shape::Whole, Shape::IoSplit, Shape::Halves];

/// The end that is under test.
pub enum Side {
    Whole(Box<dyn Stream>),
    Halves(Box<dyn Reader>, Box<dyn Writer>),
}

impl Side {
    pub async fn bare(server: &Server, shape: Shape) -> (Self, TcpStream) {
        let (stream, peer) = bare_pair(server).await;
        let side = match shape {
            Shape::Whole | Shape::IoSplit => Self::one(stream, shape),
            Shape::Halves => {
                let (read, write) = stream.into_split();
                Self::Halves(Box::new(read), Box::new(write))
            }
        };
        (side, peer)
    }

    pub async fn conn(server: &Server, shape: Shape) -> (Self, TcpStream) {
        let (conn, peer) = server.pair().await;
        let side = match shape {
            Shape::Whole | Shape::IoSplit => Self::one(conn, shape),
            Shape::Halves => {
                let (read, write) = conn.into_split();
                Self::Halves(Box::new(read), Box::new(write))
            }
        };
        (side, peer)
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
            Self::Whole(stream) => Pin::new(&mut **stream),
            Self::Halves(read, _) => Pin::new(&mut **read),
        }
    }

    fn writer(&mut self) -> Pin<&mut dyn Writer> {
        match self {
            Self::Whole(stream) => Pin::new(&mut **stream),
            Self::Halves(_, write) => Pin::new(&mut **write),
        }
    }
}

impl AsyncRead for Side {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.reader().poll_read(cx, buf)
    }
}

impl AsyncWrite for Side {
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

/// What a side did, one line for each step.
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

    /// The lines, for a comparison with what is expected of both.
    pub fn lines(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

/// Runs the case over a bare stream and over a connection, in every shape. Both must do the same at every step, and so
/// must all shapes.
pub async fn alike(case: impl AsyncFn(&mut Side, TcpStream, &mut Log)) -> Log {
    let mut logs = Vec::new();
    for shape in SHAPES {
        let server = Server::start().await;
        let (mut bare, peer) = Side::bare(&server, shape).await;
        let mut expected = Log::default();
        soon("the case over a TcpStream", case(&mut bare, peer, &mut expected)).await;
        let (mut conn, peer) = Side::conn(&server, shape).await;
        let mut log = Log::default();
        soon("the case over a Conn", case(&mut conn, peer, &mut log)).await;
        assert!(!log.0.is_empty(), "the case notes nothing");
        assert_eq!(log, expected, "{shape:?}: the Conn is on the left, the TcpStream on the right");
        logs.push(log);
    }
    let first = logs.swap_remove(0);
    assert!(logs.iter().all(|log| *log == first), "the shapes differ");
    first
}

/// Lets whatever is ready run: the other tasks, and the runtime's look at its sockets.
pub async fn turns(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

/// A waker that counts.
#[derive(Debug, Default)]
pub struct Count(AtomicUsize);

impl Count {
    pub fn new() -> (Arc<Self>, Waker) {
        let count = Arc::<Self>::default();
        (Arc::clone(&count), Waker::from(count))
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Lets the runtime run until somebody has woken this.
    pub async fn woken(&self, what: &str) {
        soon(what, async {
            while self.get() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
