//! Several threads on one connection.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::thread;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::support::{Server, alone, begin, begin_to_wait, in_time, length, read_record, record};

#[test]
fn waiting_read_keeps_no_write_waiting() {
    let _alone = alone();
    let server = Server::start();
    let (conn, mut peer) = server.pair();
    let mut reader = conn.try_clone().unwrap();
    let read = begin_to_wait(move || reader.read(&mut [0; 8]));
    let written = begin(move || ((&conn).write_all(b"hello"), conn.peer_addr(), conn));
    let (outcome, address, _conn) = in_time("the write", &written);
    outcome.unwrap();
    assert_eq!(address.unwrap(), server.address);
    peer.read_exact(&mut [0; 5]).unwrap();
    peer.write_all(b"hi").unwrap();
    assert_eq!(in_time("the read", &read).unwrap(), 2);
}

#[test]
fn records_of_many_threads_are_never_mixed_and_keep_their_order() {
    let _alone = alone();
    const THREADS: u8 = 8;
    const RECORDS: u32 = 100;
    let server = Server::start();
    let (conn, mut peer) = server.pair();
    for thread in 0..THREADS {
        let mut conn = conn.try_clone().unwrap();
        thread::spawn(move || {
            let mut random = SmallRng::seed_from_u64(thread.into());
            for number in 0..RECORDS {
                conn.write_all(&record(thread, number, length(&mut random))).unwrap();
            }
        });
    }
    drop(conn);
    let mut next = HashMap::new();
    while let Some((thread, number)) = read_record(&mut peer) {
        let next = next.entry(thread).or_insert(0);
        assert_eq!(number, *next, "thread {thread}");
        *next += 1;
    }
    assert_eq!(next.len(), usize::from(THREADS));
    assert!(next.values().all(|next| *next == RECORDS));
}

#[test]
fn several_readers_get_every_byte_once() {
    let _alone = alone();
    let server = Server::start();
    let (conn, mut peer) = server.pair();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let mut conn = conn.try_clone().unwrap();
            begin(move || {
                let mut bytes = Vec::new();
                conn.read_to_end(&mut bytes).map(|_| bytes)
            })
        })
        .collect();
    for number in 0..=200 {
        peer.write_all(&[number]).unwrap();
    }
    drop(peer);
    let mut all = Vec::new();
    for reader in &readers {
        // Each is told of the end once.
        all.extend(in_time("a reader", reader).unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (0..=200).collect::<Vec<u8>>());
}
