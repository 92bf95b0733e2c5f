//! Tokio-util's own types at a break, and the crate's in the same place.

use std::pin::pin;

use futures_util::{SinkExt, StreamExt};
use perconn::Conn;
use perconn::codec::FramedError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::bytes::Bytes;
use tokio_util::codec::{self, LengthDelimitedCodec, LinesCodec};

use super::support::{Server, in_time, reset};

/// A server that sends a whole message and a half, dies, comes back, and sends whole ones.
async fn serve(server: &Server, mut peer: TcpStream, first: &[u8], second: &[u8]) -> TcpStream {
    peer.write_all(first).await.unwrap();
    // Once the client answers, it has read the half.
    peer.read_u8().await.unwrap();
    reset(peer);
    let mut peer = server.accept().await;
    peer.write_all(second).await.unwrap();
    peer
}

const LINES: (&[u8], &[u8]) = (b"whole\nhalf of ", b"A\nB\n");
const FRAMES: (&[u8], &[u8]) = (b"\0\0\0\x05whole\0\0\0\x07half", b"\0\0\0\x02hi\0\0\0\x02ho");

#[tokio::test]
async fn their_stream_ends_at_a_break_and_glues_two_lines_if_polled_on() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let mut framed = codec::Framed::new(conn, LinesCodec::new());
    let client = async {
        assert_eq!(framed.next().await.unwrap().unwrap(), "whole");
        framed.get_mut().write_u8(b'!').await.unwrap();
        assert!(framed.next().await.unwrap().is_err());
        assert!(framed.next().await.is_none(), "a loop ends here");
        assert_eq!(framed.next().await.unwrap().unwrap(), "half of A");
    };
    in_time("theirs", async { tokio::join!(client, serve(&server, peer, LINES.0, LINES.1)) }).await;
}

#[tokio::test]
async fn our_stream_yields_the_break_and_then_the_line() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (read, mut write) = conn.into_split();
    let mut framed = perconn::codec::FramedRead::new(read, LinesCodec::new());
    let client = async {
        assert_eq!(framed.next().await.unwrap().unwrap(), "whole");
        write.write_u8(b'!').await.unwrap();
        assert!(matches!(framed.next().await, Some(Err(FramedError::Break { generation: 1, .. }))));
        assert_eq!(framed.next().await.unwrap().unwrap(), "A");
        assert_eq!(framed.next().await.unwrap().unwrap(), "B");
    };
    in_time("ours", async { tokio::join!(client, serve(&server, peer, LINES.0, LINES.1)) }).await;
}

#[tokio::test]
async fn their_stream_makes_a_frame_of_two_links() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let mut framed = codec::Framed::new(conn, LengthDelimitedCodec::new());
    let client = async {
        assert_eq!(framed.next().await.unwrap().unwrap(), "whole");
        framed.get_mut().write_u8(b'!').await.unwrap();
        assert!(framed.next().await.unwrap().is_err());
        assert!(framed.next().await.is_none());
        assert_eq!(framed.next().await.unwrap().unwrap(), "half\0\0\0");
    };
    in_time("theirs", async { tokio::join!(client, serve(&server, peer, FRAMES.0, FRAMES.1)) }).await;
}

#[tokio::test]
async fn our_stream_makes_a_frame_of_one_link() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (read, mut write) = conn.into_split();
    let mut framed = perconn::codec::FramedRead::new(read, LengthDelimitedCodec::new());
    let client = async {
        assert_eq!(framed.next().await.unwrap().unwrap(), "whole");
        write.write_u8(b'!').await.unwrap();
        assert!(matches!(framed.next().await, Some(Err(FramedError::Break { generation: 1, .. }))));
        assert_eq!(framed.next().await.unwrap().unwrap(), "hi");
        assert_eq!(framed.next().await.unwrap().unwrap(), "ho");
    };
    in_time("ours", async { tokio::join!(client, serve(&server, peer, FRAMES.0, FRAMES.1)) }).await;
}

/// Sends a frame of which the peer takes a part before it resets the link, then a short one. Returns the first bytes of the
/// second link.
async fn second_link_after_a_cut<T>(frame: impl FnOnce(Conn) -> T) -> Bytes
where
    T: futures_util::Sink<Bytes, Error: std::fmt::Debug>,
{
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let mut sink = pin!(frame(conn));
    let die = async {
        peer.read_exact(&mut [0; 1000]).await.unwrap();
        reset(peer);
    };
    let big = sink.send(Bytes::from(vec![b'x'; 8 << 20]));
    let (outcome, ()) = in_time("the break", async { tokio::join!(big, die) }).await;
    outcome.unwrap_err();
    let receive = async {
        let mut begin = [0; 6];
        server.accept().await.read_exact(&mut begin).await.unwrap();
        Bytes::copy_from_slice(&begin)
    };
    // Tokio-util's send does not end before the rest of the first frame is read.
    let mut receive = pin!(receive);
    in_time("the second link", async {
        tokio::select! {
            begin = &mut receive => begin,
            _ = sink.send(Bytes::from("hi")) => receive.await,
        }
    })
    .await
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn their_sink_begins_a_link_with_the_rest_of_a_frame() {
    let begin = second_link_after_a_cut(|conn| codec::Framed::new(conn, LengthDelimitedCodec::new())).await;
    assert_eq!(begin, "xxxxxx");
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn our_sink_begins_a_link_with_a_frame() {
    let begin = second_link_after_a_cut(|conn| perconn::codec::Framed::new(conn, LengthDelimitedCodec::new())).await;
    assert_eq!(begin, "\0\0\0\x02hi");
}
