//! A task that panics while its job waits is like one that was cancelled: the link and the other jobs go on.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{Server, in_time};
use perconn::{Conn, SharedConn, dial_fn};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

/// Begins a job of this many bytes in a task of its own, which panics elsewhere while the job waits.
async fn panic_beside_a_job(conn: &SharedConn, length: usize) {
    let conn = conn.clone();
    let task = tokio::spawn(async move {
        let bytes = vec![7; length];
        tokio::select! {
            outcome = conn.write_all(&bytes) => panic!("the job does not wait: {outcome:?}"),
            () = sleep(Duration::from_millis(20)) => resume_unwind(Box::new("the program's own")),
        }
    });
    assert!(in_time("the task", task).await.is_err_and(|error| error.is_panic()));
}

#[tokio::test]
async fn link_stays_up_and_the_job_is_sent_to_its_end() {
    const LENGTH: usize = 32 << 20;
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let conn = conn.into_shared();
    panic_beside_a_job(&conn, LENGTH).await;
    assert_eq!((conn.generation(), conn.is_connected()), (1, true));
    let other = conn.clone();
    let next = tokio::spawn(async move { other.write_all(b"next").await });
    let mut received = vec![0; LENGTH + 4];
    in_time("both jobs", peer.read_exact(&mut received)).await.unwrap();
    assert_eq!(&received[LENGTH - 1..], b"\x07next");
    in_time("the next job", next).await.unwrap().unwrap();
    assert_eq!((conn.generation(), conn.is_connected()), (1, true));
}

#[tokio::test]
async fn delay_of_an_outage_is_not_cut_short() {
    let dials = Arc::new(AtomicUsize::new(0));
    let server = Server::start().await;
    let (counted, address) = (Arc::clone(&dials), server.address);
    let dialer = dial_fn(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        TcpStream::connect(address)
    });
    let hour = Duration::from_secs(3600);
    let builder = Conn::builder("server").logger(|_| {}).retry_min(hour).retry_max(hour).dialer(dialer);
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let conn = conn.unwrap().into_shared();
    drop((peer, server));
    in_time("the break", conn.watch_status().wait_for(|status| !status.is_connected())).await.unwrap();
    for _ in 0..10 {
        panic_beside_a_job(&conn, 1 << 20).await;
    }
    assert_eq!(dials.load(Ordering::SeqCst), 1);
}
