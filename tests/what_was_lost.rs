//! What was in flight at a break is counted: the unacknowledged bytes of an `IoError`, the bytes of a link in its event.

mod support;

use std::io;

use perconn::{Error, Event};
use support::{Recorder, Server, break_noticed, event, inside, reset, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn unacknowledged(error: &io::Error) -> Option<u64> {
    match inside(error) {
        Error::IoError { unacknowledged, .. } => *unacknowledged,
        other => panic!("not a break: {other:?}"),
    }
}

/// A receiver stalls until both kernels' buffers are full, and is killed: what its kernel held was acknowledged, and the
/// rest was not.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn written_is_acknowledged_plus_unacknowledged() {
    use std::time::Duration;
    use tokio::time::{sleep, timeout};

    for in_halves in [false, true] {
        let server = Server::start().await;
        let (recorder, mut events) = Recorder::new();
        let (conn, mut peer) = tokio::join!(server.client().on_event(recorder.hook()).connect(), server.accept());
        let mut conn = conn.unwrap();
        // What was read by the receiver counts as acknowledged, too.
        conn.write_all(&[1; 1_000]).await.unwrap();
        let mut first = [0; 1_000];
        soon("the first bytes", peer.read_exact(&mut first)).await.unwrap();
        let mut written = 1_000;
        let error;
        let chunk = vec![7; 100_000];
        let held;
        if in_halves {
            let (_read, mut write) = conn.into_split();
            while let Ok(n) = timeout(Duration::from_millis(300), write.write(&chunk)).await {
                written += n.unwrap();
            }
            held = held_by_its_kernel(&peer).await;
            reset(peer);
            error = soon("the break", write.write(&chunk)).await.unwrap_err();
        } else {
            while let Ok(n) = timeout(Duration::from_millis(300), conn.write(&chunk)).await {
                written += n.unwrap();
            }
            held = held_by_its_kernel(&peer).await;
            reset(peer);
            error = soon("the break", conn.write(&chunk)).await.unwrap_err();
        }
        let unacknowledged = unacknowledged(&error).expect("known on Linux");
        assert!(unacknowledged > 0 && held > 0, "the buffers were full");
        assert_eq!(written as u64, 1_000 + held + unacknowledged);
        let (bytes_read, bytes_written) = event(&mut events, |event| match event {
            Event::Disconnected { bytes_read, bytes_written, cause, .. } => {
                let Error::IoError { unacknowledged: told, .. } = **cause else { panic!("{cause:?}") };
                assert_eq!(told, Some(unacknowledged), "logger and event hear the same");
                Some((*bytes_read, *bytes_written))
            }
            _ => None,
        })
        .await;
        assert_eq!((bytes_read, bytes_written), (0, written as u64));
    }

    /// The bytes that wait in the receiver's kernel, once they have all been acknowledged.
    async fn held_by_its_kernel(peer: &tokio::net::TcpStream) -> u64 {
        // An acknowledgement may be delayed by up to 200 ms (`TCP_DELACK_MAX` in Linux's net/tcp.h).
        sleep(Duration::from_millis(500)).await;
        rustix::io::ioctl_fionread(peer).unwrap()
    }
}

/// The end of the stream is no byte of the program's.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn orderly_ends_leave_nothing_unacknowledged() {
    let server = Server::start().await;
    // The peer's close, found by a write.
    let (mut conn, mut peer) = server.pair().await;
    conn.write_all(b"all of this").await.unwrap();
    let mut all = [0; 11];
    soon("peer", peer.read_exact(&mut all)).await.unwrap();
    drop(peer);
    break_noticed(&conn).await;
    let error = soon("write", conn.write_all(b"more")).await.unwrap_err();
    assert_eq!(unacknowledged(&error), Some(0));
    // A reconnect.
    let mut peer = server.accept().await;
    soon("write", conn.write_all(b"all of this")).await.unwrap();
    soon("peer", peer.read_exact(&mut all)).await.unwrap();
    conn.reconnect();
    let error = soon("write", conn.write_all(b"more")).await.unwrap_err();
    assert_eq!(unacknowledged(&error), Some(0));
    // A reset after this side's own shutdown.
    let mut peer = server.accept().await;
    soon("write", conn.write_all(b"all of this")).await.unwrap();
    soon("peer", peer.read_exact(&mut all)).await.unwrap();
    soon("shutdown", conn.shutdown()).await.unwrap();
    assert_eq!(soon("peer", peer.read(&mut all)).await.unwrap(), 0);
    reset(peer);
    let error = soon("read", conn.read_u8()).await.unwrap_err();
    assert_eq!((error.kind(), unacknowledged(&error)), (io::ErrorKind::ConnectionReset, Some(0)));
}

/// A write that crosses the peer's close cannot be stopped: no check can see what is still on its way. It is lost, and it
/// is counted.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn write_that_crosses_the_close_is_lost_and_counted() {
    use std::io::Read;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut conn = support::quick(perconn::Conn::builder(listener.local_addr().unwrap())).connect().await.unwrap();
    let (mut lost, mut counted) = (0, 0);
    for _ in 0..60 {
        let (mut peer, _) = listener.accept().unwrap();
        soon("write", conn.write_all(b"heard")).await.unwrap();
        let mut heard = [0; 5];
        peer.read_exact(&mut heard).unwrap();
        // Nothing is awaited between the close and the write, so that most of the writes come before anybody has looked.
        drop(peer);
        let mut outcome = soon("write", conn.write_all(b"lost")).await;
        if outcome.is_ok() {
            lost += 4;
            outcome = soon("told", conn.write_all(b"next")).await;
        }
        counted += unacknowledged(&outcome.expect_err("the break is told")).unwrap();
        soon("the next link", conn.connected()).await.unwrap();
    }
    println!("lost {lost} bytes of 240, counted {counted}");
    assert_eq!(counted, lost);
}

#[tokio::test]
async fn event_of_a_break_counts_the_links_bytes_and_no_others() {
    let server = Server::start().await;
    let (recorder, mut events) = Recorder::new();
    let (conn, mut peer) = tokio::join!(server.client().on_event(recorder.hook()).connect(), server.accept());
    let (mut read, mut write) = conn.unwrap().into_split();
    for link in 1..6_u64 {
        let (up, down) = (vec![1; 1_000 * link as usize], vec![2; 77 * link as usize]);
        soon("write", write.write_all(&up)).await.unwrap();
        peer.write_all(&down).await.unwrap();
        let mut received = vec![0; down.len()];
        soon("read", read.read_exact(&mut received)).await.unwrap();
        // All of it is read, so that the close is an orderly one.
        let mut all = vec![0; up.len()];
        soon("peer", peer.read_exact(&mut all)).await.unwrap();
        drop(peer);
        let counted = event(&mut events, |event| match event {
            Event::Disconnected { generation, bytes_read, bytes_written, .. } => {
                Some((*generation, *bytes_read, *bytes_written))
            }
            _ => None,
        });
        assert_eq!(counted.await, (link, 77 * link, 1_000 * link));
        peer = server.accept().await;
        assert_eq!(soon("told", read.read(&mut received)).await.unwrap(), 0);
        soon("told", write.write_all(&up)).await.unwrap_err();
    }
}

#[tokio::test]
async fn stream_that_is_no_tcp_socket_has_no_count() {
    let (mut conn, mut peers) = support::pipes().await;
    drop(peers.recv().await.unwrap());
    let error = soon("write", conn.write_all(b"lost?")).await.unwrap_err();
    assert_eq!(unacknowledged(&error), None);
}
