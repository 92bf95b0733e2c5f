//! Promise 3: no write into a link known to be dead.

mod support;

use std::time::Duration;

use support::{Server, break_noticed, quick, reset, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[tokio::test]
async fn write_after_the_peers_close_fails_instead_of_vanishing() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    for round in 0..50 {
        // With a banner unread, without one, and by reset.
        match round % 3 {
            0 => drop(peer),
            1 => {
                peer.write_all(b"421 closing").await.unwrap();
                drop(peer);
            }
            _ => reset(peer),
        }
        break_noticed(&conn).await;
        assert!(soon("write", conn.write_all(b"lost?")).await.is_err(), "round {round}");
        peer = server.accept().await;
        soon("write", conn.write_all(b"heard")).await.unwrap();
        let mut buf = [0; 5];
        soon("peer", peer.read_exact(&mut buf)).await.unwrap();
        assert_eq!(&buf, b"heard");
    }
}

/// A client that writes small records and never reads, against a server that closes gracefully after every few: each
/// record that was acknowledged with `Ok` after the close had arrived must be at the server.
#[tokio::test]
async fn three_hundred_writes_and_sixty_graceful_closes_lose_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut conn = quick(perconn::Conn::builder(address)).build().unwrap();
    let mut received = Vec::new();
    let mut accepted = Vec::new();
    let mut told = 0;
    let mut number = 0_u32;
    for close in 0..60 {
        let (mut peer, _) = soon("accept", listener.accept()).await.unwrap();
        for _ in 0..5 {
            loop {
                match soon("write", conn.write_all(&number.to_be_bytes())).await {
                    Ok(()) => break accepted.push(number),
                    Err(_) => told += 1,
                }
            }
            number += 1;
        }
        for _ in 0..5 {
            received.push(soon("peer", peer.read_u32()).await.unwrap());
        }
        peer.shutdown().await.unwrap();
        drop(peer);
        break_noticed(&conn).await;
        assert_eq!(told, close, "each close is told to one write");
    }
    assert_eq!(accepted.len(), 300);
    assert_eq!(received, accepted, "lost: {}", accepted.len() - received.len());
}

#[tokio::test]
async fn close_is_noticed_while_nobody_reads_or_writes() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    drop(peer);
    // The redial comes although the connection is not touched.
    let _peer = server.accept().await;
    soon("the next link", conn.connected()).await.unwrap();
    assert_eq!(conn.generation(), 2);
}

#[tokio::test]
async fn unread_bytes_do_not_hide_the_close_from_a_write_half() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (mut read, mut write) = conn.into_split();
    peer.write_all(b"banner").await.unwrap();
    drop(peer);
    let mut status = read.watch_status();
    soon("break", status.wait_for(|status| !status.is_connected())).await.unwrap();
    assert!(soon("write", write.write_all(b"lost?")).await.is_err());
    let mut banner = [0; 6];
    soon("read", read.read_exact(&mut banner)).await.unwrap();
    assert_eq!(&banner, b"banner");
}

/// The runtime has one thread, and something keeps it from looking at its sockets while the close arrives.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn close_that_a_busy_runtime_has_not_seen_is_seen_by_the_write() {
    use std::io::Write;
    for with_banner in [false, true] {
        for in_halves in [false, true] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let mut conn = quick(perconn::Conn::builder(listener.local_addr().unwrap())).connect().await.unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            soon("write", conn.write_all(b"heard")).await.unwrap();
            // From here to the next write nothing is awaited.
            if with_banner {
                peer.write_all(b"421 closing").unwrap();
            }
            let mut heard = [0; 5];
            std::io::Read::read_exact(&mut peer, &mut heard).unwrap();
            drop(peer);
            std::thread::sleep(Duration::from_millis(50));
            let outcome = if in_halves {
                let (_read, mut write) = conn.into_split();
                soon("write", write.write_all(b"lost?")).await
            } else {
                soon("write", conn.write_all(b"lost?")).await
            };
            assert!(outcome.is_err(), "banner: {with_banner}, halves: {in_halves}");
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn unix_sockets_are_looked_after_as_well() {
    use tokio::net::{UnixListener, UnixStream};
    let folder = std::env::temp_dir().join(format!("perconn-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("dead_link.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let socket = path.clone();
    let dialer = perconn::dial_fn(move || UnixStream::connect(socket.clone()));
    let builder = quick(perconn::Conn::builder(path.display().to_string()).dialer(dialer));
    let (conn, peer) = tokio::join!(builder.connect(), listener.accept());
    let (mut conn, (mut peer, _)) = (conn.unwrap(), peer.unwrap());
    soon("write", conn.write_all(b"ping")).await.unwrap();
    let mut buf = [0; 4];
    soon("peer", peer.read_exact(&mut buf)).await.unwrap();
    drop(peer);
    let mut status = conn.watch_status();
    soon("break", status.wait_for(|status| !status.is_connected())).await.unwrap();
    assert!(soon("write", conn.write_all(b"lost?")).await.is_err());
    let (mut peer, _) = soon("accept", listener.accept()).await.unwrap();
    soon("write", conn.write_all(b"pong")).await.unwrap();
    soon("peer", peer.read_exact(&mut buf)).await.unwrap();
    assert_eq!(&buf, b"pong");
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn server_that_only_listens_is_left_alone() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    for _ in 0..1_000 {
        soon("write", conn.write_all(b"12345678")).await.unwrap();
    }
    let mut all = vec![0; 8_000];
    soon("peer", peer.read_exact(&mut all)).await.unwrap();
    server.expect_silence(Duration::from_millis(20)).await;
    assert_eq!(conn.generation(), 1);
}
