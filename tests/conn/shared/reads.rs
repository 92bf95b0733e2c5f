//! Reads through clones: no read blocks a write, and each clone reports each break once.

use perconn::SharedConn;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{wait_for_generation, within};
use crate::support::{Server, in_time, pipes, reported_generation, reset};

#[tokio::test]
async fn waiting_read_never_blocks_a_write_and_each_clone_reports_once() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let conn = conn.into_shared();
    let read = |conn: SharedConn| async move {
        let mut buf = [0; 64];
        conn.read(&mut buf).await.map(|n| buf[..n].to_vec())
    };
    let (one, other) = (conn.clone(), conn.clone());
    let waiting = [tokio::spawn(read(one.clone())), tokio::spawn(read(other.clone()))];
    tokio::task::yield_now().await;
    in_time("write", conn.write_all(b"not waited")).await.unwrap();
    let mut text = [0; 10];
    in_time("peer", peer.read_exact(&mut text)).await.unwrap();
    reset(peer);
    // Both waiting reads report the break, each through its own clone.
    for call in waiting {
        assert_eq!(reported_generation(&in_time("read", call).await.unwrap().unwrap_err()), 1);
    }
    let mut peer = server.accept().await;
    peer.write_all(b"welcome").await.unwrap();
    // The handles that these clones came from have not reported it. Each reports it once.
    for clone in [one, other] {
        assert_eq!(reported_generation(&in_time("read", read(clone.clone())).await.unwrap_err()), 1);
        assert_eq!(reported_generation(&in_time("read", clone.read(&mut [0; 8])).await.unwrap_err()), 1);
    }
    assert_eq!(reported_generation(&in_time("read", conn.read(&mut [0; 8])).await.unwrap_err()), 1);
    let mut buf = [0; 8];
    assert_eq!(in_time("read", conn.read(&mut buf)).await.unwrap(), 7);
}

#[tokio::test]
async fn clone_that_missed_many_breaks_reports_none_twice() {
    let (conn, mut peers) = pipes().await;
    let conn = conn.into_shared();
    let clone = conn.clone();
    let next = async |peers: &mut tokio::sync::mpsc::UnboundedReceiver<DuplexStream>, generation: u64| {
        let peer = in_time("dial", peers.recv()).await.unwrap();
        wait_for_generation(&conn, generation).await;
        peer
    };
    drop(next(&mut peers, 1).await);
    // Only `conn` reports the first break; `clone` reads nothing.
    assert_eq!(in_time("read", conn.read(&mut [0; 8])).await.unwrap(), 0);
    assert_eq!((conn.last_reported(), clone.last_reported()), (1, 0));
    for generation in 2..=19 {
        let _peer = next(&mut peers, generation).await;
        conn.break_link(generation);
    }
    let _peer = next(&mut peers, 20).await;
    let mut reported = Vec::new();
    while let Some(outcome) = within(100, clone.read(&mut [0; 8])).await {
        reported.push(match outcome {
            Ok(n) => (n as u64, "end"),
            Err(error) => (reported_generation(&error), "error"),
        });
    }
    let mut unique = reported.clone();
    unique.dedup();
    assert_eq!(reported, unique);
}
