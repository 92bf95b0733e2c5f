//! `into_split` compared with tokio's: a task for each half, the drop of one, and reunion.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::bytes::pattern;
use super::comparison::{Log, bare_pair, yield_times};
use crate::support::{Server, in_time};

/// Runs the same code with tokio's types and with this crate's.
macro_rules! over_both {
    ($server:ident, |$stream:ident, $peer:ident, $log:ident| $case:block) => {{
        let mut logs = [Log::default(), Log::default()];
        {
            let $log = &mut logs[0];
            let ($stream, $peer) = bare_pair(&$server).await;
            in_time("the case over a TcpStream", async { $case }).await;
        }
        {
            let $log = &mut logs[1];
            let ($stream, $peer) = $server.pair().await;
            in_time("the case over a Conn", async { $case }).await;
        }
        let [bare, conn] = logs;
        assert_eq!(conn, bare, "the Conn is on the left, the TcpStream on the right");
        conn
    }};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn halves_work_in_separate_tasks_on_one_thread() {
    halves_in_tasks().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_work_in_separate_tasks_on_two_threads() {
    halves_in_tasks().await;
}

async fn halves_in_tasks() {
    let server = Server::start().await;
    let log = over_both!(server, |stream, peer, log| {
        let (mut peer, (mut read, mut write)) = (peer, stream.into_split());
        let reader = tokio::spawn(async move {
            let mut received = vec![0; 1 << 20];
            read.read_exact(&mut received).await.map(|_| received == pattern(1 << 20))
        });
        let writer = tokio::spawn(async move { write.write_all(&pattern(1 << 20)).await.map(|()| write) });
        let mut received = vec![0; 1 << 20];
        let (mut peer_read, mut peer_write) = peer.split();
        let sent = pattern(1 << 20);
        let (at_peer, to_side) = tokio::join!(peer_read.read_exact(&mut received), peer_write.write_all(&sent));
        log.outcome("to the peer", at_peer.map(|_| received == sent));
        log.outcome("from the peer", to_side);
        log.outcome("the reader", reader.await.unwrap());
        log.outcome("the writer", writer.await.unwrap().map(drop));
    });
    assert_eq!(
        log.lines(),
        ["to the peer: Ok(true)", "from the peer: Ok(())", "the reader: Ok(true)", "the writer: Ok(())"]
    );
}

#[tokio::test]
async fn dropped_write_half_ends_the_stream_and_the_read_half_still_reads() {
    let server = Server::start().await;
    let log = over_both!(server, |stream, peer, log| {
        let (mut peer, (mut read, mut write)) = (peer, stream.into_split());
        write.write_all(b"the end").await.unwrap();
        // A read is waiting.
        let waiting =
            poll_fn(|cx| Poll::Ready(Pin::new(&mut read).poll_read(cx, &mut ReadBuf::new(&mut [0; 8])).is_pending()));
        log.note("a read waits", waiting.await);
        drop(write);
        let mut text = String::new();
        log.outcome("the peer's read", peer.read_to_string(&mut text).await);
        log.note("text", text);
        peer.write_all(b"response").await.unwrap();
        drop(peer);
        let mut text = String::new();
        log.outcome("read", read.read_to_string(&mut text).await);
        log.note("text", text);
    });
    assert_eq!(
        log.lines(),
        ["a read waits: true", "the peer's read: Ok(7)", "text: \"the end\"", "read: Ok(8)", "text: \"response\""]
    );
}

#[tokio::test]
async fn write_half_works_after_the_read_half_is_dropped() {
    let server = Server::start().await;
    let log = over_both!(server, |stream, peer, log| {
        let (mut peer, (read, mut write)) = (peer, stream.into_split());
        drop(read);
        yield_times(20).await;
        log.outcome("write", write.write_all(b"still here").await);
        log.outcome("the peer's read", peer.read_exact(&mut [0; 10]).await);
        log.outcome("shutdown", write.shutdown().await);
        log.outcome("the peer's read", peer.read(&mut [0; 10]).await);
    });
    assert_eq!(log.lines(), ["write: Ok(())", "the peer's read: Ok(10)", "shutdown: Ok(())", "the peer's read: Ok(0)"]);
}

#[tokio::test]
async fn forgotten_write_half_sends_no_end_of_the_stream() {
    let server = Server::start().await;
    let log = over_both!(server, |stream, peer, log| {
        let (mut peer, (mut read, write)) = (peer, stream.into_split());
        write.forget();
        yield_times(20).await;
        let quiet =
            poll_fn(|cx| Poll::Ready(Pin::new(&mut peer).poll_read(cx, &mut ReadBuf::new(&mut [0; 8])).is_pending()));
        log.note("the peer receives nothing", quiet.await);
        peer.write_all(b"abc").await.unwrap();
        log.outcome("read", read.read_exact(&mut [0; 3]).await);
        drop(read);
        log.outcome("the peer's read", peer.read(&mut [0; 8]).await);
    });
    assert_eq!(log.lines(), ["the peer receives nothing: true", "read: Ok(3)", "the peer's read: Ok(0)"]);
}

#[tokio::test]
async fn matching_halves_are_reunited() {
    let server = Server::start().await;
    let log = over_both!(server, |stream, peer, log| {
        let (mut peer, (mut read, mut write)) = (peer, stream.into_split());
        write.write_all(b"a").await.unwrap();
        peer.write_all(b"b").await.unwrap();
        log.outcome("read", read.read_u8().await);
        let mut whole = read.reunite(write).unwrap();
        yield_times(20).await;
        log.outcome("write", whole.write_all(b"c").await);
        peer.write_all(b"d").await.unwrap();
        log.outcome("read", whole.read_u8().await);
        // And the other way round.
        let (read, write) = whole.into_split();
        let mut whole = write.reunite(read).unwrap();
        log.outcome("shutdown", whole.shutdown().await);
        let mut text = String::new();
        log.outcome("the peer's read", peer.read_to_string(&mut text).await);
        log.note("text", text);
    });
    assert_eq!(
        log.lines(),
        [
            "read: Ok(98)",
            "write: Ok(())",
            "read: Ok(100)",
            "shutdown: Ok(())",
            "the peer's read: Ok(2)",
            "text: \"ac\""
        ]
    );
}

#[tokio::test]
async fn failed_reunion_returns_both_halves_in_order() {
    let server = Server::start().await;
    let log = over_both!(server, |stream, peer, log| {
        let mut peer = peer;
        let (read, write) = stream.into_split();
        // Another stream of the same type.
        let (other, mut other_peer) = same_kind(&read, &server).await;
        let (other_read, other_write) = other.into_split();
        let error = read.reunite(other_write).unwrap_err();
        fn is_error(_: &(impl std::error::Error + Send + Sync + 'static)) {}
        is_error(&error);
        let (read, other_write) = (error.0, error.1);
        let error = other_write.reunite(read).unwrap_err();
        let (mut read, mut other_write) = (error.0, error.1);
        // The failed reunions shut nothing down.
        log.outcome("write", other_write.write_all(b"a").await);
        log.outcome("the other's peer", other_peer.read_u8().await);
        peer.write_all(b"b").await.unwrap();
        log.outcome("read", read.read_u8().await);
        let mut whole = read.reunite(write).unwrap();
        log.note("the other's halves, too", other_read.reunite(other_write).is_ok());
        log.outcome("write", whole.write_all(b"c").await);
        log.outcome("the peer's read", peer.read_u8().await);
    });
    assert_eq!(
        log.lines(),
        [
            "write: Ok(())",
            "the other's peer: Ok(97)",
            "read: Ok(98)",
            "the other's halves, too: true",
            "write: Ok(())",
            "the peer's read: Ok(99)"
        ]
    );
}

/// The halves of `tokio::io::split` are reunited by tokio's `unsplit`.
#[tokio::test]
async fn halves_of_io_split_are_unsplit() {
    let server = Server::start().await;
    let log = over_both!(server, |stream, peer, log| {
        let mut peer = peer;
        let (read, mut write) = tokio::io::split(stream);
        log.note("a pair", read.is_pair_of(&write));
        log.outcome("write", write.write_all(b"a").await);
        // The drop of this half does not shut the stream down.
        let mut whole = read.unsplit(write);
        log.outcome("write", whole.write_all(b"b").await);
        log.outcome("the peer's read", peer.read_exact(&mut [0; 2]).await);
    });
    assert_eq!(log.lines(), ["a pair: true", "write: Ok(())", "write: Ok(())", "the peer's read: Ok(2)"]);
}

/// Makes another pair of the same type as a half.
trait SameKind {
    type Whole;
    fn pair(&self, server: &Server) -> impl Future<Output = (Self::Whole, tokio::net::TcpStream)>;
}

impl SameKind for tokio::net::tcp::OwnedReadHalf {
    type Whole = tokio::net::TcpStream;

    async fn pair(&self, server: &Server) -> (Self::Whole, tokio::net::TcpStream) {
        bare_pair(server).await
    }
}

impl SameKind for perconn::ReadHalf {
    type Whole = perconn::Conn;

    async fn pair(&self, server: &Server) -> (Self::Whole, tokio::net::TcpStream) {
        server.pair().await
    }
}

async fn same_kind<K: SameKind>(half: &K, server: &Server) -> (K::Whole, tokio::net::TcpStream) {
    half.pair(server).await
}
