//! The halves of `into_split`: they are reunited, and each works after the other is dropped.

use crate::support::{Server, in_time, pipes, reported_generation, reset, wait_for_disconnect, wait_for_generation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn reunited_halves_are_the_same_connection_on_the_same_link() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    for _ in 0..3 {
        let (mut read, mut write) = conn.into_split();
        in_time("write", write.write_all(b"ping")).await.unwrap();
        in_time("peer", peer.read_exact(&mut [0; 4])).await.unwrap();
        peer.write_all(b"A").await.unwrap();
        assert_eq!(in_time("read", read.read_u8()).await.unwrap(), b'A');
        conn = write.reunite(read).unwrap();
        in_time("write", conn.write_all(b"ping")).await.unwrap();
        in_time("peer", peer.read_exact(&mut [0; 4])).await.unwrap();
    }
    assert_eq!(conn.generation(), 1);
    reset(peer);
    assert_eq!(reported_generation(&in_time("read", conn.read_u8()).await.unwrap_err()), 1);
    let mut peer = server.accept().await;
    peer.write_all(b"B").await.unwrap();
    assert_eq!(in_time("read", conn.read_u8()).await.unwrap(), b'B');
}

#[tokio::test]
async fn halves_of_different_connections_are_returned() {
    let server = Server::start().await;
    let (one, mut first) = server.pair().await;
    let (other, mut second) = server.pair().await;
    let (read_one, write_one) = one.into_split();
    let (read_other, write_other) = other.into_split();
    let error = read_one.reunite(write_other).unwrap_err();
    assert_eq!(error.to_string(), "the halves belong to different connections");
    let (mut one, mut other) = (error.0.reunite(write_one).unwrap(), read_other.reunite(error.1).unwrap());
    // The failed reunion shut nothing down.
    for (conn, peer) in [(&mut one, &mut first), (&mut other, &mut second)] {
        in_time("write", conn.write_all(b"A")).await.unwrap();
        assert_eq!(in_time("peer", peer.read_u8()).await.unwrap(), b'A');
    }
}

#[tokio::test]
async fn reunion_after_one_half_reported_the_break_reports_nothing() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (read, mut write) = conn.into_split();
    reset(peer);
    wait_for_disconnect(read.watch_status()).await;
    assert_eq!(reported_generation(&in_time("write", write.write(b"x")).await.unwrap_err()), 1);
    let mut conn = read.reunite(write).unwrap();
    let mut peer = server.accept().await;
    peer.write_all(b"A").await.unwrap();
    assert_eq!(in_time("read", conn.read_u8()).await.unwrap(), b'A');
}

#[tokio::test]
async fn reunion_before_a_report_reports_the_break_once() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (read, write) = conn.into_split();
    reset(peer);
    let mut conn = read.reunite(write).unwrap();
    assert_eq!(reported_generation(&in_time("read", conn.read_u8()).await.unwrap_err()), 1);
    let _peer = server.accept().await;
    wait_for_generation(&conn, 2).await;
    in_time("write", conn.write(b"x")).await.unwrap();
}

#[tokio::test]
async fn connection_may_be_split_before_its_first_link() {
    let mut server = Server::start().await;
    server.stop();
    let conn = server.client().build().unwrap();
    let (mut read, mut write) = conn.into_split();
    server.restart().await;
    let mut peer = server.accept().await;
    peer.write_all(b"A").await.unwrap();
    assert_eq!(in_time("read", read.read_u8()).await.unwrap(), b'A');
    in_time("write", write.write_all(b"B")).await.unwrap();
    assert_eq!(in_time("peer", peer.read_u8()).await.unwrap(), b'B');
    assert_eq!(read.peer_addr().unwrap(), server.address);
    assert_eq!(write.local_addr().unwrap(), peer.peer_addr().unwrap());
}

#[tokio::test]
async fn write_half_works_without_the_read_half() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (read, mut write) = conn.into_split();
    drop(read);
    reset(peer);
    let mut peer = server.accept().await;
    assert_eq!(reported_generation(&in_time("write", write.write(b"x")).await.unwrap_err()), 1);
    in_time("write", write.write_all(b"A")).await.unwrap();
    assert_eq!(in_time("peer", peer.read_u8()).await.unwrap(), b'A');
    drop(write);
    assert_eq!(in_time("peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
}

#[tokio::test]
async fn custom_streams_can_be_split_and_reunited() {
    let (mut conn, mut peers) = pipes().await;
    let mut peer = peers.recv().await.unwrap();
    for _ in 0..3 {
        let (mut read, mut write) = conn.into_split();
        assert!(read.get_ref().is_none(), "the halves share the stream behind a lock");
        let echo = async {
            let byte = peer.read_u8().await.unwrap();
            peer.write_u8(byte).await.unwrap();
        };
        let exchange = async {
            write.write_u8(b'A').await.unwrap();
            read.read_u8().await.unwrap()
        };
        assert_eq!(in_time("exchange", async { tokio::join!(echo, exchange) }).await.1, b'A');
        conn = read.reunite(write).unwrap();
        assert!(conn.get_ref().is_some(), "the whole owns the stream");
    }
    // One half has used the second link, the other has not.
    let (mut read, mut write) = conn.into_split();
    drop(peer);
    assert_eq!(in_time("read", read.read(&mut [0; 4])).await.unwrap(), 0);
    assert!(in_time("write", write.write(b"x")).await.is_err());
    let mut peer = in_time("redial", peers.recv()).await.unwrap();
    in_time("write", write.write_all(b"B")).await.unwrap();
    let mut conn = read.reunite(write).unwrap();
    assert_eq!(in_time("peer", peer.read_u8()).await.unwrap(), b'B');
    assert!(conn.get_ref().is_some());
    in_time("write", conn.write_all(b"C")).await.unwrap();
    assert_eq!(in_time("peer", peer.read_u8()).await.unwrap(), b'C');
}

#[tokio::test]
async fn dropped_write_half_shuts_down_custom_streams_too() {
    let (conn, mut peers) = pipes().await;
    let mut peer = peers.recv().await.unwrap();
    let (mut read, write) = conn.into_split();
    drop(write);
    assert_eq!(in_time("peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
    peer.write_all(b"A").await.unwrap();
    assert_eq!(in_time("read", read.read_u8()).await.unwrap(), b'A');
    drop(peer);
    assert_eq!(in_time("read", read.read(&mut [0; 4])).await.unwrap(), 0);
    assert!(in_time("no redial", peers.recv()).await.is_none());
}
