//! The halves of `into_split`: two tasks, reunion, and what happens to one when the other goes.

mod support;

use support::{Server, generation_up, pipes, reset, soon, told_generation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn reunited_halves_are_the_same_connection_on_the_same_link() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    for _ in 0..3 {
        let (mut read, mut write) = conn.into_split();
        soon("write", write.write_all(b"ping")).await.unwrap();
        soon("peer", peer.read_exact(&mut [0; 4])).await.unwrap();
        peer.write_all(b"A").await.unwrap();
        assert_eq!(soon("read", read.read_u8()).await.unwrap(), b'A');
        conn = write.reunite(read).unwrap();
        soon("write", conn.write_all(b"ping")).await.unwrap();
        soon("peer", peer.read_exact(&mut [0; 4])).await.unwrap();
    }
    assert_eq!(conn.generation(), 1);
    reset(peer);
    assert_eq!(told_generation(&soon("read", conn.read_u8()).await.unwrap_err()), 1);
    let mut peer = server.accept().await;
    peer.write_all(b"B").await.unwrap();
    assert_eq!(soon("read", conn.read_u8()).await.unwrap(), b'B');
}

#[tokio::test]
async fn halves_of_different_connections_are_given_back() {
    let server = Server::start().await;
    let (one, mut first) = server.pair().await;
    let (other, mut second) = server.pair().await;
    let (read_one, write_one) = one.into_split();
    let (read_other, write_other) = other.into_split();
    let error = read_one.reunite(write_other).unwrap_err();
    assert_eq!(error.to_string(), "the halves belong to different connections");
    let (mut one, mut other) = (error.0.reunite(write_one).unwrap(), read_other.reunite(error.1).unwrap());
    // Nothing was shut down on the way.
    for (conn, peer) in [(&mut one, &mut first), (&mut other, &mut second)] {
        soon("write", conn.write_all(b"A")).await.unwrap();
        assert_eq!(soon("peer", peer.read_u8()).await.unwrap(), b'A');
    }
}

#[tokio::test]
async fn reunion_after_one_half_was_told_counts_as_told() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (read, mut write) = conn.into_split();
    reset(peer);
    let mut status = read.watch_status();
    soon("break", status.wait_for(|status| !status.is_connected())).await.unwrap();
    assert_eq!(told_generation(&soon("write", write.write(b"x")).await.unwrap_err()), 1);
    let mut conn = read.reunite(write).unwrap();
    let mut peer = server.accept().await;
    peer.write_all(b"A").await.unwrap();
    assert_eq!(soon("read", conn.read_u8()).await.unwrap(), b'A');
}

#[tokio::test]
async fn reunion_before_anyone_was_told_tells_the_whole() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (read, write) = conn.into_split();
    reset(peer);
    let mut conn = read.reunite(write).unwrap();
    assert_eq!(told_generation(&soon("read", conn.read_u8()).await.unwrap_err()), 1);
    let _peer = server.accept().await;
    generation_up(&conn, 2).await;
    soon("write", conn.write(b"x")).await.unwrap();
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
    assert_eq!(soon("read", read.read_u8()).await.unwrap(), b'A');
    soon("write", write.write_all(b"B")).await.unwrap();
    assert_eq!(soon("peer", peer.read_u8()).await.unwrap(), b'B');
    assert_eq!(read.peer_addr().unwrap(), server.address);
    assert_eq!(write.local_addr().unwrap(), peer.peer_addr().unwrap());
}

#[tokio::test]
async fn write_half_lives_on_without_the_read_half() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (read, mut write) = conn.into_split();
    drop(read);
    reset(peer);
    let mut peer = server.accept().await;
    assert_eq!(told_generation(&soon("write", write.write(b"x")).await.unwrap_err()), 1);
    soon("write", write.write_all(b"A")).await.unwrap();
    assert_eq!(soon("peer", peer.read_u8()).await.unwrap(), b'A');
    drop(write);
    assert_eq!(soon("peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
}

#[tokio::test]
async fn other_streams_can_be_split_and_reunited() {
    let (mut conn, mut peers) = pipes().await;
    let mut peer = peers.recv().await.unwrap();
    for _ in 0..3 {
        let (mut read, mut write) = conn.into_split();
        assert!(read.get_ref().is_none(), "behind a lock");
        let echo = async {
            let byte = peer.read_u8().await.unwrap();
            peer.write_u8(byte).await.unwrap();
        };
        let exchange = async {
            write.write_u8(b'A').await.unwrap();
            read.read_u8().await.unwrap()
        };
        assert_eq!(soon("exchange", async { tokio::join!(echo, exchange) }).await.1, b'A');
        conn = read.reunite(write).unwrap();
        assert!(conn.get_ref().is_some(), "owned again");
    }
    // One half has seen the second link, the other has not.
    let (mut read, mut write) = conn.into_split();
    drop(peer);
    assert_eq!(soon("read", read.read(&mut [0; 4])).await.unwrap(), 0);
    assert!(soon("write", write.write(b"x")).await.is_err());
    let mut peer = soon("redial", peers.recv()).await.unwrap();
    soon("write", write.write_all(b"B")).await.unwrap();
    let mut conn = read.reunite(write).unwrap();
    assert_eq!(soon("peer", peer.read_u8()).await.unwrap(), b'B');
    assert!(conn.get_ref().is_some());
    soon("write", conn.write_all(b"C")).await.unwrap();
    assert_eq!(soon("peer", peer.read_u8()).await.unwrap(), b'C');
}

#[tokio::test]
async fn dropped_write_half_shuts_other_streams_down_as_well() {
    let (conn, mut peers) = pipes().await;
    let mut peer = peers.recv().await.unwrap();
    let (mut read, write) = conn.into_split();
    drop(write);
    assert_eq!(soon("peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
    peer.write_all(b"A").await.unwrap();
    assert_eq!(soon("read", read.read_u8()).await.unwrap(), b'A');
    drop(peer);
    assert_eq!(soon("read", read.read(&mut [0; 4])).await.unwrap(), 0);
    assert!(soon("no redial", peers.recv()).await.is_none());
}
