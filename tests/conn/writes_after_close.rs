//! Promise 3: writes to a closed connection fail, as soon as the close has reached this machine.

use std::time::Duration;

use crate::support::{Server, in_time, quick, reset, wait_for_break, wait_for_disconnect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[tokio::test]
async fn write_after_the_peers_close_fails_instead_of_vanishing() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    for round in 0..50 {
        // A close without and with an unread banner, and a reset.
        match round % 3 {
            0 => drop(peer),
            1 => {
                peer.write_all(b"421 closing").await.unwrap();
                drop(peer);
            }
            _ => reset(peer),
        }
        wait_for_break(&conn).await;
        assert!(in_time("write", conn.write_all(b"lost?")).await.is_err(), "round {round}");
        peer = server.accept().await;
        in_time("write", conn.write_all(b"heard")).await.unwrap();
        let mut buf = [0; 5];
        in_time("peer", peer.read_exact(&mut buf)).await.unwrap();
        assert_eq!(&buf, b"heard");
    }
}

/// A client writes small records and never reads; the server closes cleanly after every fifth. Every write that
/// returned `Ok` must have arrived.
#[tokio::test]
async fn three_hundred_writes_and_sixty_graceful_closes_lose_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut conn = quick(perconn::Conn::builder(address)).build().unwrap();
    let mut received = Vec::new();
    let mut accepted = Vec::new();
    let mut reported = 0;
    let mut number = 0_u32;
    for close in 0..60 {
        let (mut peer, _) = in_time("accept", listener.accept()).await.unwrap();
        for _ in 0..5 {
            loop {
                match in_time("write", conn.write_all(&number.to_be_bytes())).await {
                    Ok(()) => break accepted.push(number),
                    Err(_) => reported += 1,
                }
            }
            number += 1;
        }
        for _ in 0..5 {
            received.push(in_time("peer", peer.read_u32()).await.unwrap());
        }
        peer.shutdown().await.unwrap();
        drop(peer);
        wait_for_break(&conn).await;
        assert_eq!(reported, close, "each close fails one write");
    }
    assert_eq!(accepted.len(), 300);
    assert_eq!(received, accepted, "lost: {}", accepted.len() - received.len());
}

#[tokio::test]
async fn close_is_noticed_while_nobody_reads_or_writes() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    drop(peer);
    // The connection redials although no operation runs.
    let _peer = server.accept().await;
    in_time("the next link", conn.connected()).await.unwrap();
    assert_eq!(conn.generation(), 2);
}

#[tokio::test]
async fn unread_bytes_do_not_hide_the_close_from_a_write_half() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (mut read, mut write) = conn.into_split();
    peer.write_all(b"banner").await.unwrap();
    drop(peer);
    wait_for_disconnect(read.watch_status()).await;
    assert!(in_time("write", write.write_all(b"lost?")).await.is_err());
    let mut banner = [0; 6];
    in_time("read", read.read_exact(&mut banner)).await.unwrap();
    assert_eq!(&banner, b"banner");
}

/// The runtime has one thread, and that thread is busy while the close arrives.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn close_that_a_busy_runtime_has_not_seen_is_seen_by_the_write() {
    use std::io::Write;
    for with_banner in [false, true] {
        for in_halves in [false, true] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let mut conn = quick(perconn::Conn::builder(listener.local_addr().unwrap())).connect().await.unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            in_time("write", conn.write_all(b"heard")).await.unwrap();
            // Nothing is awaited from here to the next write.
            if with_banner {
                peer.write_all(b"421 closing").unwrap();
            }
            let mut heard = [0; 5];
            std::io::Read::read_exact(&mut peer, &mut heard).unwrap();
            drop(peer);
            std::thread::sleep(Duration::from_millis(50));
            let outcome = if in_halves {
                let (_read, mut write) = conn.into_split();
                in_time("write", write.write_all(b"lost?")).await
            } else {
                in_time("write", conn.write_all(b"lost?")).await
            };
            assert!(outcome.is_err(), "banner: {with_banner}, halves: {in_halves}");
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn close_of_a_unix_socket_is_noticed_too() {
    use tokio::net::{UnixListener, UnixStream};
    let folder = std::env::temp_dir().join(format!("perconn-writes-after-close-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let socket = path.clone();
    let dialer = perconn::dial_fn(move || UnixStream::connect(socket.clone()));
    let builder = quick(perconn::Conn::builder(path.display().to_string()).dialer(dialer));
    let (conn, peer) = tokio::join!(builder.connect(), listener.accept());
    let (mut conn, (mut peer, _)) = (conn.unwrap(), peer.unwrap());
    in_time("write", conn.write_all(b"ping")).await.unwrap();
    let mut buf = [0; 4];
    in_time("peer", peer.read_exact(&mut buf)).await.unwrap();
    drop(peer);
    wait_for_break(&conn).await;
    assert!(in_time("write", conn.write_all(b"lost?")).await.is_err());
    let (mut peer, _) = in_time("accept", listener.accept()).await.unwrap();
    in_time("write", conn.write_all(b"pong")).await.unwrap();
    in_time("peer", peer.read_exact(&mut buf)).await.unwrap();
    assert_eq!(&buf, b"pong");
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn link_to_a_server_that_only_reads_is_not_broken() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    for _ in 0..1_000 {
        in_time("write", conn.write_all(b"12345678")).await.unwrap();
    }
    let mut all = vec![0; 8_000];
    in_time("peer", peer.read_exact(&mut all)).await.unwrap();
    server.expect_no_dial(Duration::from_millis(20)).await;
    assert_eq!(conn.generation(), 1);
}
