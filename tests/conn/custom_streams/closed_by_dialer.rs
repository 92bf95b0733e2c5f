//! `Dial::is_closed`: a dialer of its own stream type reports that the peer has closed.

#![cfg(target_os = "linux")]

use std::io::{self, ErrorKind};

use perconn::{Conn, Dial, TcpDialer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::{Server, in_time, quick, reported_generation, reset};

/// A dialer of TCP with a layer on top, as TLS is.
struct Layered(TcpDialer);

impl Dial for Layered {
    type Stream = BufStream<TcpStream>;

    async fn dial(&mut self) -> io::Result<Self::Stream> {
        self.0.dial().await.map(BufStream::new)
    }

    fn is_closed(stream: &Self::Stream) -> bool {
        TcpDialer::is_closed(stream.get_ref())
    }
}

#[tokio::test]
async fn dialer_can_report_that_the_peer_has_closed() {
    use std::io::{Read, Write};
    for in_halves in [false, true] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // A set-up that returns the same stream type keeps the dialer's `is_closed`.
        let dialer = Layered(TcpDialer::new(address)).and_then(|stream| std::future::ready(Ok(stream)));
        let mut conn = in_time("connect", quick(Conn::builder(address).dialer(dialer)).connect()).await.unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        in_time("write", conn.write_all(b"heard")).await.unwrap();
        in_time("flush", conn.flush()).await.unwrap();
        let mut heard = [0; 5];
        peer.read_exact(&mut heard).unwrap();
        peer.write_all(b"421 closing").unwrap();
        drop(peer);
        let error = if in_halves {
            let (mut read, mut write) = conn.into_split();
            let error = in_time("write", write.write_all(b"lost?")).await.unwrap_err();
            let mut banner = [0; 11];
            in_time("read", read.read_exact(&mut banner)).await.unwrap();
            assert_eq!(in_time("the end", read.read(&mut banner)).await.unwrap(), 0);
            error
        } else {
            in_time("write", conn.write_all(b"lost?")).await.unwrap_err()
        };
        assert_eq!((error.kind(), reported_generation(&error)), (ErrorKind::BrokenPipe, 1));
    }
}

/// A dialer that knows why the peer has closed.
struct Talkative(Layered);

impl Dial for Talkative {
    type Stream = BufStream<TcpStream>;

    async fn dial(&mut self) -> io::Result<Self::Stream> {
        self.0.dial().await
    }

    fn is_closed(stream: &Self::Stream) -> bool {
        Layered::is_closed(stream)
    }

    fn closing_error(_: &mut Self::Stream) -> Option<io::Error> {
        Some(io::Error::new(ErrorKind::PermissionDenied, "the peer's reason"))
    }
}

/// Its reason replaces "the peer closed the connection", and the error of a write that finds the reset itself.
#[tokio::test]
async fn dialer_can_say_why_the_peer_has_closed() {
    for (in_halves, is_reset) in [(false, false), (false, true), (true, false), (true, true)] {
        let server = Server::start().await;
        let dialer = Talkative(Layered(TcpDialer::new(server.address)));
        let dialer = dialer.and_then(|stream| std::future::ready(Ok(stream)));
        let builder = quick(Conn::builder(server.address).dialer(dialer));
        let (conn, mut peer) = tokio::join!(builder.connect(), server.accept());
        let conn = conn.unwrap();
        peer.write_all(b"banner").await.unwrap();
        if is_reset {
            reset(peer);
        } else {
            drop(peer);
        }
        let error = if in_halves {
            let (mut read, mut write) = conn.into_split();
            let error = in_time("write", write.write_all(b"lost?")).await.unwrap_err();
            let mut banner = [0; 6];
            in_time("read", read.read_exact(&mut banner)).await.unwrap();
            assert_eq!(&banner, b"banner");
            let at_end = in_time("the end", read.read_u8()).await.unwrap_err();
            assert_eq!((at_end.kind(), reported_generation(&at_end)), (ErrorKind::PermissionDenied, 1));
            error
        } else {
            let mut conn = conn;
            in_time("write", conn.write_all(b"lost?")).await.unwrap_err()
        };
        assert_eq!((error.kind(), reported_generation(&error)), (ErrorKind::PermissionDenied, 1));
    }
}

/// The dialer reports that the peer is gone, and not how. A reset must not look like a clean end.
#[tokio::test]
async fn reset_found_by_the_dialer_is_not_an_end_of_stream() {
    let server = Server::start().await;
    let dialer = Layered(TcpDialer::new(server.address));
    let builder = quick(Conn::builder(server.address).dialer(dialer));
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let (mut read, mut write) = conn.unwrap().into_split();
    reset(peer);
    let error = in_time("write", write.write_all(b"lost?")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    let error = in_time("read", read.read_u8()).await.unwrap_err();
    assert_eq!((error.kind(), reported_generation(&error)), (ErrorKind::ConnectionReset, 1));
}

/// The kernel reports the close to the writer, and the runtime to the reader. Another worker may be polling the sockets
/// at that moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_before_the_close_are_read_after_the_writer_reported_it() {
    const LINKS: u64 = 200;
    let server = Server::start().await;
    let dialer = Layered(TcpDialer::new(server.address));
    let (mut read, mut write) = quick(Conn::builder(server.address).dialer(dialer)).build().unwrap().into_split();
    let writer = tokio::spawn(async move {
        loop {
            // It goes on after each reported break.
            let _ = write.write_all(b"x").await;
            let _ = write.flush().await;
            tokio::task::yield_now().await;
        }
    });
    let (sender, mut has_read) = mpsc::unbounded_channel();
    let reader = tokio::spawn(async move {
        for link in 1..=LINKS {
            let mut received = Vec::new();
            in_time("the end", read.read_to_end(&mut received)).await.unwrap();
            assert_eq!((received.as_slice(), read.last_reported()), (&b"before the close"[..], link));
            let _ = sender.send(());
        }
    });
    for link in 1..=LINKS {
        let mut peer = server.accept().await;
        // A reader that is two links behind loses the bytes of the first.
        if link > 1 {
            in_time("the reader", has_read.recv()).await.unwrap();
        }
        peer.write_all(b"before the close").await.unwrap();
        peer.shutdown().await.unwrap();
        // Reads what the client still writes, so that the end stays clean.
        tokio::spawn(async move { tokio::io::copy(&mut peer, &mut tokio::io::sink()).await });
    }
    in_time("the reader", reader).await.unwrap();
    writer.abort();
}
