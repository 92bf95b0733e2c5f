//! Sockets inside of another type: the connection cannot see that they are sockets, and loses no bytes.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use perconn::{Conn, dial_fn};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::support::{Server, in_time, quick, reported_generation};

/// A socket in a wrapper, which the connection cannot recognise as a socket.
struct Wrapped(TcpStream);

impl AsyncRead for Wrapped {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wrapped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        pin!(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn last_bytes_are_read_before_the_runtime_polls_the_socket() {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (start, may_start) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        may_start.recv().unwrap();
        stream.write_all(b"tail").unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        listener
    });
    let dialer = dial_fn(move || async move { TcpStream::connect(address).await.map(Wrapped) });
    let conn = in_time("connect", quick(Conn::builder(address).dialer(dialer)).connect()).await.unwrap();
    let (mut read, mut write) = conn.into_split();
    let mut buf = [0; 8];
    assert!(tokio_test::task::spawn(read.read(&mut buf)).poll().is_pending());
    // Blocks the runtime's only thread until the kernel has the bytes and the reset.
    start.send(()).unwrap();
    let _listener = server.join().unwrap();
    assert!(in_time("write", write.write_all(b"x")).await.is_err());
    assert_eq!(in_time("read", read.read(&mut buf)).await.unwrap(), 4);
    assert_eq!(reported_generation(&in_time("read", read.read(&mut buf)).await.unwrap_err()), 1);
}

#[tokio::test]
async fn boxed_streams_work_over_several_links() {
    // A boxed stream hides its type, and is treated as a custom stream.
    trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
    impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}
    let server = Server::start().await;
    let address = server.address;
    let dialer = dial_fn(move || async move {
        let stream = TcpStream::connect(address).await?;
        Ok(Box::new(stream) as Box<dyn Stream>)
    });
    let (conn, peer) = tokio::join!(quick(Conn::builder(address).dialer(dialer)).connect(), server.accept());
    let (mut conn, mut peer) = (conn.unwrap(), peer);
    for _ in 0..3 {
        in_time("write", conn.write_all(b"A")).await.unwrap();
        assert_eq!(in_time("peer", peer.read_u8()).await.unwrap(), b'A');
        drop(peer);
        assert_eq!(in_time("read", conn.read(&mut [0; 4])).await.unwrap(), 0);
        peer = server.accept().await;
    }
}
