//! The counts of a break: an `IoError` has the unacknowledged bytes, and the `Disconnected` event has all bytes of its
//! link.

use std::io;

use crate::support::{Recorder, Server, in_time, next_event, perconn_error, pipes};
#[cfg(all(target_os = "linux", not(perconn_portable)))]
use crate::support::{quick, reset, wait_for_break};
use perconn::{Error, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn unacknowledged(error: &io::Error) -> Option<u64> {
    match perconn_error(error) {
        Error::IoError { unacknowledged, .. } => *unacknowledged,
        other => panic!("expected IoError, got {other:?}"),
    }
}

/// A receiver stops reading until both kernels' buffers are full, and resets. The bytes that its kernel held were
/// acknowledged, and the rest were not.
#[cfg(all(target_os = "linux", not(perconn_portable)))]
#[tokio::test]
async fn written_is_acknowledged_plus_unacknowledged() {
    use std::time::Duration;
    use tokio::time::{sleep, timeout};

    for in_halves in [false, true] {
        let server = Server::start().await;
        let (recorder, mut events) = Recorder::new();
        let (conn, mut peer) = tokio::join!(server.client().on_event(recorder.hook()).connect(), server.accept());
        let mut conn = conn.unwrap();
        // Bytes that the receiver has read count as acknowledged, too.
        conn.write_all(&[1; 1_000]).await.unwrap();
        let mut first = [0; 1_000];
        in_time("the first bytes", peer.read_exact(&mut first)).await.unwrap();
        let mut written = 1_000;
        let error;
        let chunk = vec![7; 100_000];
        let held;
        if in_halves {
            let (_read, mut write) = conn.into_split();
            while let Ok(n) = timeout(Duration::from_millis(300), write.write(&chunk)).await {
                written += n.unwrap();
            }
            held = held_by_the_kernel(&peer).await;
            reset(peer);
            error = in_time("the break", write.write(&chunk)).await.unwrap_err();
        } else {
            while let Ok(n) = timeout(Duration::from_millis(300), conn.write(&chunk)).await {
                written += n.unwrap();
            }
            held = held_by_the_kernel(&peer).await;
            reset(peer);
            error = in_time("the break", conn.write(&chunk)).await.unwrap_err();
        }
        let unacknowledged = unacknowledged(&error).expect("known on Linux");
        assert!(unacknowledged > 0 && held > 0, "the buffers were not full");
        assert_eq!(written as u64, 1_000 + held + unacknowledged);
        let (bytes_read, bytes_written) = next_event(&mut events, |event| match event {
            Event::Disconnected { bytes_read, bytes_written, cause, .. } => {
                let Error::IoError { unacknowledged: in_event, .. } = **cause else { panic!("{cause:?}") };
                assert_eq!(in_event, Some(unacknowledged), "event and error differ");
                Some((*bytes_read, *bytes_written))
            }
            _ => None,
        })
        .await;
        assert_eq!((bytes_read, bytes_written), (0, written as u64));
    }

    /// The bytes in the receiver's kernel, after all of them have been acknowledged.
    async fn held_by_the_kernel(peer: &tokio::net::TcpStream) -> u64 {
        // An acknowledgement may be delayed by up to 200 ms (`TCP_DELACK_MAX` in Linux's net/tcp.h).
        sleep(Duration::from_millis(500)).await;
        rustix::io::ioctl_fionread(peer).unwrap()
    }
}

/// The FIN takes a sequence number, and is not counted as a byte of the program.
#[cfg(all(target_os = "linux", not(perconn_portable)))]
#[tokio::test]
async fn clean_ends_leave_nothing_unacknowledged() {
    let server = Server::start().await;
    // The peer's close, found by a write.
    let (mut conn, mut peer) = server.pair().await;
    conn.write_all(b"all of this").await.unwrap();
    let mut all = [0; 11];
    in_time("peer", peer.read_exact(&mut all)).await.unwrap();
    drop(peer);
    wait_for_break(&conn).await;
    let error = in_time("write", conn.write_all(b"more")).await.unwrap_err();
    assert_eq!(unacknowledged(&error), Some(0));
    // A break on purpose.
    let mut peer = server.accept().await;
    in_time("write", conn.write_all(b"all of this")).await.unwrap();
    in_time("peer", peer.read_exact(&mut all)).await.unwrap();
    conn.break_link(2);
    let error = in_time("write", conn.write_all(b"more")).await.unwrap_err();
    assert_eq!(unacknowledged(&error), Some(0));
    // A reset after this side's own shutdown.
    let mut peer = server.accept().await;
    in_time("write", conn.write_all(b"all of this")).await.unwrap();
    in_time("peer", peer.read_exact(&mut all)).await.unwrap();
    in_time("shutdown", conn.shutdown()).await.unwrap();
    assert_eq!(in_time("peer", peer.read(&mut all)).await.unwrap(), 0);
    reset(peer);
    let error = in_time("read", conn.read_u8()).await.unwrap_err();
    assert_eq!((error.kind(), unacknowledged(&error)), (io::ErrorKind::ConnectionReset, Some(0)));
}

/// No check can stop a write that crosses the peer's close: the close is still on its way. The write is lost, and the
/// error counts it.
#[cfg(all(target_os = "linux", not(perconn_portable)))]
#[tokio::test]
async fn write_that_crosses_the_close_is_lost_and_counted() {
    use std::io::Read;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut conn = quick(perconn::Conn::builder(listener.local_addr().unwrap())).connect().await.unwrap();
    let (mut lost, mut counted) = (0, 0);
    for _ in 0..60 {
        let (mut peer, _) = listener.accept().unwrap();
        in_time("write", conn.write_all(b"heard")).await.unwrap();
        let mut heard = [0; 5];
        peer.read_exact(&mut heard).unwrap();
        // Nothing is awaited between the close and the write, so most writes come before the runtime has polled the
        // socket.
        drop(peer);
        let mut outcome = in_time("write", conn.write_all(b"lost")).await;
        if outcome.is_ok() {
            lost += 4;
            outcome = in_time("the report", conn.write_all(b"next")).await;
        }
        counted += unacknowledged(&outcome.expect_err("the break is not reported")).unwrap();
        in_time("the next link", conn.connected()).await.unwrap();
    }
    println!("lost {lost} bytes of 240, counted {counted}");
    assert_eq!(counted, lost);
}

#[tokio::test]
async fn disconnected_event_counts_only_the_bytes_of_its_link() {
    let server = Server::start().await;
    let (recorder, mut events) = Recorder::new();
    let (conn, mut peer) = tokio::join!(server.client().on_event(recorder.hook()).connect(), server.accept());
    let (mut read, mut write) = conn.unwrap().into_split();
    for link in 1..6_u64 {
        let (up, down) = (vec![1; 1_000 * link as usize], vec![2; 77 * link as usize]);
        in_time("write", write.write_all(&up)).await.unwrap();
        peer.write_all(&down).await.unwrap();
        let mut received = vec![0; down.len()];
        in_time("read", read.read_exact(&mut received)).await.unwrap();
        // All of it is read, so that the close is clean.
        let mut all = vec![0; up.len()];
        in_time("peer", peer.read_exact(&mut all)).await.unwrap();
        drop(peer);
        let counted = next_event(&mut events, |event| match event {
            Event::Disconnected { generation, bytes_read, bytes_written, .. } => {
                Some((*generation, *bytes_read, *bytes_written))
            }
            _ => None,
        });
        assert_eq!(counted.await, (link, 77 * link, 1_000 * link));
        peer = server.accept().await;
        assert_eq!(in_time("the end", read.read(&mut received)).await.unwrap(), 0);
        in_time("the report", write.write_all(&up)).await.unwrap_err();
    }
}

#[tokio::test]
async fn custom_stream_has_no_unacknowledged_count() {
    let (mut conn, mut peers) = pipes().await;
    drop(peers.recv().await.unwrap());
    let error = in_time("write", conn.write_all(b"lost?")).await.unwrap_err();
    assert_eq!(unacknowledged(&error), None);
}
