//! Pipes in memory: a close drops the stream, and a shutdown ends the newest link.

use perconn::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{in_time, perconn_error, pipes, reported_generation, wait_for_generation};

#[tokio::test]
async fn closed_stream_is_dropped_at_the_next_operation() {
    let (mut conn, mut peers) = pipes().await;
    let mut peer = peers.recv().await.unwrap();
    in_time("write", conn.write_all(b"x")).await.unwrap();
    in_time("peer", peer.read_u8()).await.unwrap();
    in_time("close", conn.close()).await;
    assert!(matches!(perconn_error(&conn.read_u8().await.unwrap_err()), Error::ClosedConnection));
    assert_eq!(in_time("peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
}

#[tokio::test]
async fn shutdown_by_a_half_with_an_unreported_break_ends_the_newer_link_too() {
    for is_dropped in [true, false] {
        let (conn, mut peers) = pipes().await;
        let (mut read, mut write) = conn.into_split();
        in_time("write", write.write_all(b"x")).await.unwrap();
        drop(peers.recv().await);
        assert_eq!(in_time("read", read.read(&mut [0; 4])).await.unwrap(), 0);
        let mut peer = in_time("redial", peers.recv()).await.unwrap();
        in_time("connected", read.connected()).await.unwrap();
        if is_dropped {
            drop(write);
        } else {
            in_time("shutdown", write.shutdown()).await.unwrap();
        }
        // The reader uses the second link, whose peer sees the end of the stream too.
        assert!(tokio_test::task::spawn(read.read_u8()).poll().is_pending());
        assert_eq!(in_time("peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
        peer.write_all(b"A").await.unwrap();
        assert_eq!(in_time("read", read.read_u8()).await.unwrap(), b'A');
        drop(peer);
        assert_eq!(in_time("read", read.read(&mut [0; 4])).await.unwrap(), 0);
        assert!(in_time("no redial", peers.recv()).await.is_none());
    }
}

#[tokio::test]
async fn shutdown_of_a_whole_connection_with_an_unreported_break_ends_the_newer_link_too() {
    let (mut conn, mut peers) = pipes().await;
    let _first = peers.recv().await.unwrap();
    in_time("write", conn.write_all(b"x")).await.unwrap();
    conn.break_link(1);
    let mut second = in_time("redial", peers.recv()).await.unwrap();
    in_time("connected", conn.connected()).await.unwrap();
    assert_eq!(reported_generation(&in_time("shutdown", conn.shutdown()).await.unwrap_err()), 1);
    assert_eq!(in_time("peer", second.read(&mut [0; 4])).await.unwrap(), 0);
    // The peer may answer after it has seen the end.
    second.write_all(b"bye").await.unwrap();
    drop(second);
    let mut answer = Vec::new();
    in_time("read", conn.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"bye");
    let mut status = conn.watch_status();
    drop(conn);
    in_time("the end", status.wait_for(|status| status.is_final())).await.unwrap();
    assert!(in_time("no redial", peers.recv()).await.is_none());
}

/// Another break lies between the one that the shutdown reports and the link that it ends.
#[tokio::test]
async fn shutdown_with_several_unreported_breaks_leaves_the_later_ones_to_be_reported() {
    let (mut conn, mut peers) = pipes().await;
    for generation in 1..3 {
        let _peer = peers.recv().await.unwrap();
        conn.break_link(generation);
        wait_for_generation(&conn, generation + 1).await;
    }
    let mut third = peers.recv().await.unwrap();
    assert_eq!(reported_generation(&in_time("shutdown", conn.shutdown()).await.unwrap_err()), 1);
    third.write_all(b"bye").await.unwrap();
    drop(third);
    assert_eq!(reported_generation(&in_time("read", conn.read_u8()).await.unwrap_err()), 2);
    let mut answer = Vec::new();
    in_time("read", conn.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"bye");
}
