//! Both halves report a reset, although the kernel reports it only to the operation that comes first.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

use perconn::{ReadHalf, WriteHalf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Server, in_time, reset};

const RESETS: u64 = 1000;

/// Reads until every link has been reset. Counts what the reads return.
async fn read(mut half: ReadHalf) -> BTreeMap<String, u32> {
    let mut seen = BTreeMap::new();
    while half.last_reported() < RESETS {
        match in_time("a read", half.read(&mut [0; 64])).await {
            Ok(0) => *seen.entry("the end of the stream".to_owned()).or_default() += 1,
            Ok(_) => {}
            Err(error) => *seen.entry(error.kind().to_string()).or_default() += 1,
        }
    }
    seen
}

/// Writes until every link has been reset. Counts what the writes return.
async fn write(mut half: WriteHalf) -> BTreeMap<String, u32> {
    let mut seen = BTreeMap::new();
    while half.last_reported() < RESETS {
        if let Err(error) = in_time("a write", half.write_all(&[0; 512])).await {
            *seen.entry(error.kind().to_string()).or_default() += 1;
        }
    }
    seen
}

/// Reads for a moment, and resets the link.
async fn reset_links(server: Server) {
    loop {
        let mut peer = server.accept().await;
        let mut buf = vec![0; 65_536];
        let reads = async { while peer.read(&mut buf).await.is_ok_and(|n| n > 0) {} };
        let _ = tokio::time::timeout(Duration::from_millis(1), reads).await;
        reset(peer);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reset_is_reported_by_the_reader_and_by_the_writer() {
    let server = Server::start().await;
    let builder = server.client().retry_min(Duration::from_micros(100)).retry_max(Duration::from_millis(1));
    let conn = builder.build().unwrap();
    let (reader, writer) = conn.into_split();
    let (reader, writer) = (tokio::spawn(read(reader)), tokio::spawn(write(writer)));
    let resets = tokio::spawn(reset_links(server));
    // Each of their operations has its limit.
    let both = [reader.await.unwrap(), writer.await.unwrap()];
    resets.abort();
    for seen in both {
        // The system may stop a thread between the call that takes the error and the record of it, so not all.
        let seen_as_reset = seen.get(&ErrorKind::ConnectionReset.to_string()).copied().unwrap_or_default();
        assert!(u64::from(seen_as_reset) >= RESETS * 99 / 100, "{seen:?}");
    }
}
