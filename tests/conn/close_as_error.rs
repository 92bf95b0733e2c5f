//! `Builder::close_as_error`: the peer's close as an error with the generation, for readers of lines and lengths.

use std::io::ErrorKind;

use crate::support::{Server, in_time, reported_generation, wait_for_break};
use perconn::Conn;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A connection with the setting, and the server's end of its first link.
async fn pair(server: &Server) -> (Conn, TcpStream) {
    let (conn, peer) = tokio::join!(server.client().close_as_error(true).connect(), server.accept());
    (conn.unwrap(), peer)
}

#[tokio::test]
async fn combinators_return_the_generation() {
    let server = Server::start().await;
    let (mut conn, mut peer) = pair(&server).await;
    peer.write_all(b"half").await.unwrap();
    drop(peer);
    let error = in_time("read_exact", conn.read_exact(&mut [0; 100])).await.unwrap_err();
    assert_eq!((error.kind(), reported_generation(&error)), (ErrorKind::UnexpectedEof, 1));

    let mut peer = server.accept().await;
    peer.write_all(b"one\nhalf").await.unwrap();
    drop(peer);
    let mut conn = BufReader::new(conn);
    let mut line = String::new();
    in_time("a line", conn.read_line(&mut line)).await.unwrap();
    assert_eq!(line, "one\n");
    let error = in_time("read_line", conn.read_line(&mut line)).await.unwrap_err();
    assert_eq!((error.kind(), reported_generation(&error)), (ErrorKind::UnexpectedEof, 2));

    drop(server.accept().await);
    let mut lines = conn.lines();
    let error = in_time("next_line", lines.next_line()).await.unwrap_err();
    assert_eq!(reported_generation(&error), 3, "`lines` does not end");
    let mut peer = server.accept().await;
    peer.write_all(b"two\n").await.unwrap();
    let mut lines = BufReader::new(lines.into_inner().into_inner()).lines();
    assert_eq!(in_time("a line", lines.next_line()).await.unwrap().unwrap(), "two");
}

#[tokio::test]
async fn every_kind_of_handle_keeps_to_the_setting() {
    let server = Server::start().await;
    let (conn, peer) = pair(&server).await;
    drop(peer);
    let (mut read, write) = conn.into_split();
    let error = in_time("a read of a half", read.read(&mut [0; 4])).await.unwrap_err();
    assert_eq!((error.kind(), reported_generation(&error)), (ErrorKind::UnexpectedEof, 1));
    drop(server.accept().await);
    let conn = read.reunite(write).unwrap().into_shared();
    let clone = conn.clone();
    for conn in [conn, clone] {
        let error = in_time("a read of a clone", conn.read(&mut [0; 4])).await.unwrap_err();
        assert_eq!((error.kind(), reported_generation(&error)), (ErrorKind::UnexpectedEof, 2));
    }
}

#[tokio::test]
async fn end_that_follows_a_shutdown_is_no_error() {
    let server = Server::start().await;
    let (mut conn, mut peer) = pair(&server).await;
    conn.write_all(b"last request").await.unwrap();
    conn.shutdown().await.unwrap();
    in_time("the request", peer.read_to_end(&mut Vec::new())).await.unwrap();
    peer.write_all(b"last answer").await.unwrap();
    drop(peer);
    let mut answer = Vec::new();
    in_time("the answer", conn.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"last answer");
}

#[tokio::test]
async fn close_that_comes_just_before_the_shutdown_is_no_error() {
    for is_split in [false, true] {
        let server = Server::start().await;
        let (mut conn, mut peer) = pair(&server).await;
        peer.write_all(b"last answer").await.unwrap();
        drop(peer);
        wait_for_break(&conn).await;
        let mut answer = Vec::new();
        if is_split {
            let (mut read, mut write) = conn.into_split();
            write.shutdown().await.unwrap();
            in_time("the answer", read.read_to_end(&mut answer)).await.unwrap();
        } else {
            conn.shutdown().await.unwrap();
            in_time("the answer", conn.read_to_end(&mut answer)).await.unwrap();
        }
        assert_eq!(answer, b"last answer", "is_split: {is_split}");
    }
}

#[tokio::test]
async fn without_the_setting_a_close_is_the_end_of_the_stream() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    peer.write_all(b"a message").await.unwrap();
    drop(peer);
    let mut message = Vec::new();
    in_time("the message", conn.read_to_end(&mut message)).await.unwrap();
    assert_eq!((&message[..], conn.last_reported()), (&b"a message"[..], 1));
}
