//! Promise 6: cancel safe. Any future may be dropped at any await, and no byte is lost or sent twice because of it.

use std::time::Duration;

use crate::support::{ReservedPort, Server, in_time, quick};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_under_a_ticking_select_get_every_byte_in_order() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    const TOTAL: usize = 1_000_000;
    let sender = tokio::spawn(async move {
        let counter: Vec<u8> = (0..TOTAL).map(|i| (i % 251) as u8).collect();
        for chunk in counter.chunks(777) {
            peer.write_all(chunk).await.unwrap();
            if chunk[0] % 50 == 0 {
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
        }
        peer
    });
    let mut seen = 0;
    let mut cancelled = 0;
    let mut buf = [0; 1000];
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    while seen < TOTAL {
        tokio::select! {
            biased;
            _ = tick.tick() => cancelled += 1,
            n = conn.read(&mut buf) => {
                let n = n.unwrap();
                assert_ne!(n, 0);
                for byte in &buf[..n] {
                    assert_eq!(usize::from(*byte), seen % 251, "at byte {seen}");
                    seen += 1;
                }
            }
        }
    }
    assert!(cancelled > 0);
    assert_eq!(conn.generation(), 1);
    in_time("sender", sender).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_writes_are_sent_whole_or_not_at_all() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        let mut buf = [0; 4096];
        loop {
            match peer.read(&mut buf).await.unwrap() {
                0 => return all,
                n => all.extend_from_slice(&buf[..n]),
            }
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
    });
    // Writes a counter. After each dropped `write`, it continues where the last completed one stopped.
    let source: Vec<u8> = (0..8_000_000_u32).map(|i| (i % 251) as u8).collect();
    let mut sent = 0;
    let mut dropped = 0;
    while sent < source.len() && dropped < 500 {
        let end = source.len().min(sent + 100_000);
        let write = tokio::time::timeout(Duration::from_micros(50), conn.write(&source[sent..end]));
        match write.await {
            Ok(n) => sent += n.unwrap(),
            Err(_) => dropped += 1,
        }
    }
    conn.shutdown().await.unwrap();
    let all = in_time("the peer reads", reader).await.unwrap();
    assert_eq!(all.len(), sent, "bytes lost or sent twice after {dropped} dropped writes");
    assert!(all == source[..sent], "bytes out of order");
}

#[tokio::test]
async fn dropped_operation_that_waited_for_a_link_does_not_stop_the_redial() {
    let port = ReservedPort::new();
    let mut conn = quick(perconn::Conn::builder(port.address)).build().unwrap();
    for _ in 0..20 {
        let wait = tokio::time::timeout(Duration::from_millis(1), conn.write(b"dropped"));
        assert!(wait.await.is_err(), "there is no link");
    }
    let listener = port.listen();
    let (mut peer, _) = in_time("accept", listener.accept()).await.unwrap();
    in_time("write", conn.write_all(b"kept")).await.unwrap();
    let mut buf = [0; 16];
    assert_eq!(in_time("peer", peer.read(&mut buf)).await.unwrap(), 4);
    assert_eq!(&buf[..4], b"kept", "bytes of a dropped write arrived");
}

#[tokio::test]
async fn dropped_connect_cancels_its_dial() {
    let server = Server::start().await;
    let (started, mut dials) = tokio::sync::mpsc::unbounded_channel();
    let (guard, mut dropped) = tokio::sync::mpsc::channel::<()>(1);
    let dialer = perconn::dial_fn(move || {
        started.send(()).unwrap();
        let guard = guard.clone();
        async move {
            let _guard = guard;
            std::future::pending::<()>().await;
            tokio::net::TcpStream::connect("127.0.0.1:1").await
        }
    });
    let connect = tokio::spawn(quick(server.client().dialer(dialer)).connect());
    in_time("the dial begins", dials.recv()).await.unwrap();
    connect.abort();
    assert!(in_time("the dial and the dialer are dropped", dropped.recv()).await.is_none());
    assert!(dials.try_recv().is_err(), "no further dial");
}

#[tokio::test]
async fn dropped_close_still_closes() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    {
        let mut close = tokio_test::task::spawn(conn.close());
        let _ = close.poll();
    }
    assert!(in_time("write", conn.write_all(b"x")).await.is_err());
    assert_eq!(in_time("peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
}
