//! Streams that are no sockets: with buffers of their own, with things to say before they shut down, with moods. The
//! promises hold for them as well.

mod support;

use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use perconn::{Conn, Error, dial_fn};
use support::{Server, inside, pipes, quick, soon, told_generation};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// A stream whose every answer is the test's.
#[derive(Clone, Default)]
struct Puppet(Arc<Mutex<Strings>>);

#[derive(Default)]
struct Strings {
    /// What reads get, in order; then they wait.
    reads: Vec<io::Result<&'static [u8]>>,
    is_flush_stuck: bool,
    /// How many polls a shutdown takes.
    shutdown_polls: usize,
    is_shut: bool,
    is_dropped: bool,
    wakers: Vec<Waker>,
}

impl Puppet {
    fn pull(&self, change: impl FnOnce(&mut Strings)) {
        let mut strings = self.0.lock().unwrap();
        change(&mut strings);
        strings.wakers.drain(..).for_each(Waker::wake);
    }

    fn is_shut(&self) -> bool {
        self.0.lock().unwrap().is_shut
    }

    fn is_dropped(&self) -> bool {
        self.0.lock().unwrap().is_dropped
    }
}

/// The end that the connection holds.
struct PuppetStream(Puppet);

impl Drop for PuppetStream {
    fn drop(&mut self) {
        self.0.pull(|strings| strings.is_dropped = true);
    }
}

impl AsyncRead for PuppetStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut strings = self.0.0.lock().unwrap();
        if strings.reads.is_empty() {
            strings.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(strings.reads.remove(0).map(|bytes| buf.put_slice(bytes)))
    }
}

impl AsyncWrite for PuppetStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut strings = self.0.0.lock().unwrap();
        if strings.is_flush_stuck {
            strings.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut strings = self.0.0.lock().unwrap();
        if strings.shutdown_polls > 0 {
            strings.shutdown_polls -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        strings.is_shut = true;
        Poll::Ready(Ok(()))
    }
}

/// A connection over puppets, and the puppets of its links.
async fn puppets() -> (Conn<impl AsyncRead + AsyncWrite + Unpin + Send>, mpsc::UnboundedReceiver<Puppet>) {
    let (sender, links) = mpsc::unbounded_channel();
    let dialer = dial_fn(move || {
        let puppet = Puppet::default();
        sender.send(puppet.clone()).unwrap();
        std::future::ready(Ok(PuppetStream(puppet)))
    });
    (soon("connect", quick(Conn::builder("puppets").dialer(dialer)).connect()).await.unwrap(), links)
}

#[tokio::test]
async fn flush_that_waited_is_told_though_the_read_was_told_first() {
    let (mut conn, mut links) = puppets().await;
    soon("write", conn.write_all(b"in the stream's own buffer")).await.unwrap();
    let link = links.recv().await.unwrap();
    link.pull(|strings| strings.is_flush_stuck = true);
    let (mut read, mut write) = tokio::io::split(conn);
    let mut flush = tokio_test::task::spawn(write.flush());
    assert!(flush.poll().is_pending());
    link.pull(|strings| strings.reads.push(Err(ErrorKind::ConnectionReset.into())));
    assert!(soon("read", read.read_u8()).await.is_err());
    assert_eq!(told_generation(&soon("flush", flush).await.unwrap_err()), 1, "its bytes are lost");
}

#[tokio::test]
async fn flush_that_waited_and_succeeded_leaves_nothing_to_tell() {
    let (mut conn, mut links) = puppets().await;
    soon("write", conn.write_all(b"x")).await.unwrap();
    let link = links.recv().await.unwrap();
    link.pull(|strings| strings.is_flush_stuck = true);
    {
        let mut flush = tokio_test::task::spawn(conn.flush());
        assert!(flush.poll().is_pending());
        link.pull(|strings| strings.is_flush_stuck = false);
        soon("flush", flush).await.unwrap();
    }
    link.pull(|strings| strings.reads.push(Err(ErrorKind::ConnectionReset.into())));
    assert!(soon("read", conn.read_u8()).await.is_err());
    soon("a write on the next link", conn.write_all(b"x")).await.unwrap();
}

#[tokio::test]
async fn dropped_write_half_lets_the_stream_say_its_farewell() {
    let (conn, mut links) = puppets().await;
    let link = links.recv().await.unwrap();
    link.pull(|strings| strings.shutdown_polls = 3);
    let (read, write) = conn.into_split();
    drop(write);
    soon("the shutdown ends", async {
        while !link.is_shut() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(read);
}

#[tokio::test]
async fn stuck_farewell_ends_with_the_connection() {
    let (conn, mut links) = puppets().await;
    let link = links.recv().await.unwrap();
    link.pull(|strings| strings.shutdown_polls = usize::MAX);
    let (read, write) = conn.into_split();
    drop(write);
    drop(read);
    soon("the stream is dropped", async {
        while !link.is_dropped() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!link.is_shut());
}

#[tokio::test]
async fn interrupted_read_of_the_last_bytes_loses_none() {
    let (conn, mut links) = puppets().await;
    let link = links.recv().await.unwrap();
    let (mut read, write) = conn.into_split();
    assert!(tokio_test::task::spawn(read.read_u8()).poll().is_pending());
    link.pull(|strings| strings.reads.extend([Err(ErrorKind::Interrupted.into()), Ok(&b"tail"[..])]));
    write.reconnect();
    let mut buf = [0; 8];
    let first = soon("read", read.read(&mut buf)).await;
    assert_eq!(first.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(soon("read", read.read(&mut buf)).await.unwrap(), 4);
    assert_eq!(told_generation(&soon("read", read.read(&mut buf)).await.unwrap_err()), 1);
}

#[tokio::test]
async fn closed_stream_is_dropped_at_the_next_operation() {
    let (mut conn, mut peers) = pipes().await;
    let mut peer = peers.recv().await.unwrap();
    soon("write", conn.write_all(b"x")).await.unwrap();
    soon("peer", peer.read_u8()).await.unwrap();
    soon("close", conn.close()).await;
    assert!(matches!(inside(&conn.read_u8().await.unwrap_err()), Error::ClosedConnection));
    assert_eq!(soon("peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
}

#[tokio::test]
async fn shutdown_by_a_half_that_was_not_told_ends_the_newer_link_too() {
    for is_dropped in [true, false] {
        let (conn, mut peers) = pipes().await;
        let (mut read, mut write) = conn.into_split();
        soon("write", write.write_all(b"x")).await.unwrap();
        drop(peers.recv().await);
        assert_eq!(soon("read", read.read(&mut [0; 4])).await.unwrap(), 0);
        let mut peer = soon("redial", peers.recv()).await.unwrap();
        soon("connected", read.connected()).await.unwrap();
        if is_dropped {
            drop(write);
        } else {
            soon("shutdown", write.shutdown()).await.unwrap();
        }
        // The reader holds the second link; its peer sees the end all the same.
        assert!(tokio_test::task::spawn(read.read_u8()).poll().is_pending());
        assert_eq!(soon("peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
        peer.write_all(b"A").await.unwrap();
        assert_eq!(soon("read", read.read_u8()).await.unwrap(), b'A');
        drop(peer);
        assert_eq!(soon("read", read.read(&mut [0; 4])).await.unwrap(), 0);
        assert!(soon("no redial", peers.recv()).await.is_none());
    }
}

#[tokio::test]
async fn shutdown_of_a_whole_connection_that_was_not_told_ends_the_newer_link_too() {
    let (mut conn, mut peers) = pipes().await;
    let _first = peers.recv().await.unwrap();
    soon("write", conn.write_all(b"x")).await.unwrap();
    conn.reconnect();
    let mut second = soon("redial", peers.recv()).await.unwrap();
    soon("connected", conn.connected()).await.unwrap();
    assert_eq!(told_generation(&soon("shutdown", conn.shutdown()).await.unwrap_err()), 1);
    assert_eq!(soon("peer", second.read(&mut [0; 4])).await.unwrap(), 0);
    // The peer may answer to the end.
    second.write_all(b"bye").await.unwrap();
    drop(second);
    let mut answer = Vec::new();
    soon("read", conn.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"bye");
    let mut status = conn.watch_status();
    drop(conn);
    soon("the end", status.wait_for(|status| status.is_final())).await.unwrap();
    assert!(soon("no redial", peers.recv()).await.is_none());
}

/// As before, but a break lies between the one that the shutdown tells of and the link that it ends.
#[tokio::test]
async fn shutdown_by_one_who_was_not_told_leaves_the_other_breaks_to_be_told() {
    let (mut conn, mut peers) = pipes().await;
    for generation in 1..3 {
        let _broken = peers.recv().await.unwrap();
        conn.reconnect();
        support::generation_up(&conn, generation + 1).await;
    }
    let mut third = peers.recv().await.unwrap();
    assert_eq!(told_generation(&soon("shutdown", conn.shutdown()).await.unwrap_err()), 1);
    third.write_all(b"bye").await.unwrap();
    drop(third);
    assert_eq!(told_generation(&soon("read", conn.read_u8()).await.unwrap_err()), 2);
    let mut answer = Vec::new();
    soon("read", conn.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"bye");
}

/// A socket in a wrapper, which cannot be known for one.
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
async fn last_bytes_are_read_though_the_runtime_has_not_looked_yet() {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (go, may_go) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        may_go.recv().unwrap();
        stream.write_all(b"tail").unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        listener
    });
    let dialer = dial_fn(move || async move { TcpStream::connect(address).await.map(Wrapped) });
    let conn = soon("connect", quick(Conn::builder(address).dialer(dialer)).connect()).await.unwrap();
    let (mut read, mut write) = conn.into_split();
    let mut buf = [0; 8];
    assert!(tokio_test::task::spawn(read.read(&mut buf)).poll().is_pending());
    // Blocks the runtime's only thread until the kernel has it all.
    go.send(()).unwrap();
    let _listener = server.join().unwrap();
    assert!(soon("write", write.write_all(b"x")).await.is_err());
    assert_eq!(soon("read", read.read(&mut buf)).await.unwrap(), 4);
    assert_eq!(told_generation(&soon("read", read.read(&mut buf)).await.unwrap_err()), 1);
}

#[tokio::test]
async fn sockets_and_other_streams_follow_each_other_in_one_dialer() {
    // A boxed stream hides what it is, and is treated like any other.
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
        soon("write", conn.write_all(b"A")).await.unwrap();
        assert_eq!(soon("peer", peer.read_u8()).await.unwrap(), b'A');
        drop(peer);
        assert_eq!(soon("read", conn.read(&mut [0; 4])).await.unwrap(), 0);
        peer = server.accept().await;
    }
}

/// TCP with a layer on top, as TLS is.
struct Layered(perconn::TcpDialer);

impl perconn::Dial for Layered {
    type Stream = tokio::io::BufStream<TcpStream>;

    async fn dial(&mut self) -> io::Result<Self::Stream> {
        self.0.dial().await.map(tokio::io::BufStream::new)
    }

    fn is_closed(stream: &Self::Stream) -> bool {
        perconn::TcpDialer::is_closed(stream.get_ref())
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn dialer_can_say_that_the_peer_has_closed() {
    use perconn::Dial;
    use std::io::{Read, Write};
    for in_halves in [false, true] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // A set-up that leaves the type as it is keeps the dialer's answer.
        let dialer = Layered(perconn::TcpDialer::new(address)).and_then(|stream| std::future::ready(Ok(stream)));
        let mut conn = soon("connect", quick(Conn::builder(address).dialer(dialer)).connect()).await.unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        soon("write", conn.write_all(b"heard")).await.unwrap();
        soon("flush", conn.flush()).await.unwrap();
        let mut heard = [0; 5];
        peer.read_exact(&mut heard).unwrap();
        peer.write_all(b"421 closing").unwrap();
        drop(peer);
        let error = if in_halves {
            let (mut read, mut write) = conn.into_split();
            let error = soon("write", write.write_all(b"lost?")).await.unwrap_err();
            let mut banner = [0; 11];
            soon("read", read.read_exact(&mut banner)).await.unwrap();
            assert_eq!(soon("the end", read.read(&mut banner)).await.unwrap(), 0);
            error
        } else {
            soon("write", conn.write_all(b"lost?")).await.unwrap_err()
        };
        assert_eq!((error.kind(), told_generation(&error)), (ErrorKind::BrokenPipe, 1));
    }
}

/// The dialer only says that the peer is gone, and not how: a cut must not look like an end in good order.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn reset_of_which_the_dialer_tells_is_no_end_of_the_stream() {
    let server = Server::start().await;
    let dialer = Layered(perconn::TcpDialer::new(server.address));
    let builder = quick(Conn::builder(server.address).dialer(dialer));
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let (mut read, mut write) = conn.unwrap().into_split();
    support::reset(peer);
    let error = soon("write", write.write_all(b"lost?")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    let error = soon("read", read.read_u8()).await.unwrap_err();
    assert_eq!((error.kind(), told_generation(&error)), (ErrorKind::ConnectionReset, 1));
}

/// The writer is told by the kernel, the reader by a runtime whose other thread may be looking at the sockets just now.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn last_words_are_read_though_the_writer_was_told_first() {
    const LINKS: u64 = 200;
    let server = Server::start().await;
    let dialer = Layered(perconn::TcpDialer::new(server.address));
    let (mut read, mut write) = quick(Conn::builder(server.address).dialer(dialer)).build().unwrap().into_split();
    let writer = tokio::spawn(async move {
        loop {
            // Told of each end, it goes on.
            let _ = write.write_all(b"x").await;
            let _ = write.flush().await;
            tokio::task::yield_now().await;
        }
    });
    let (sender, mut has_read) = mpsc::unbounded_channel();
    let reader = tokio::spawn(async move {
        for link in 1..=LINKS {
            let mut words = Vec::new();
            soon("the end", read.read_to_end(&mut words)).await.unwrap();
            assert_eq!((words.as_slice(), read.last_reported()), (&b"last words"[..], link));
            let _ = sender.send(());
        }
    });
    for link in 1..=LINKS {
        let mut peer = server.accept().await;
        // (A reader who is two links behind has lost what lay on the first.)
        if link > 1 {
            soon("the reader", has_read.recv()).await.unwrap();
        }
        peer.write_all(b"last words").await.unwrap();
        peer.shutdown().await.unwrap();
        // (What the client still writes is taken, so that the end stays one in good order.)
        tokio::spawn(async move { tokio::io::copy(&mut peer, &mut tokio::io::sink()).await });
    }
    soon("the reader", reader).await.unwrap();
    writer.abort();
}
