//! Several threads on one connection.

use std::collections::HashMap;
use std::future::pending;
use std::io::{self, Read, Write};
use std::thread;

use perconn::{Conn, DialLimit, dial_fn};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use tokio::io::DuplexStream;

use crate::support::{Server, alone, in_time, length, read_record, record, spawn, spawn_waiting, until};

#[test]
fn waiting_read_does_not_delay_a_write() {
    let _alone = alone();
    let server = Server::start();
    let (conn, mut peer) = server.pair();
    let mut reader = conn.try_clone().unwrap();
    let read = spawn_waiting(move || reader.read(&mut [0; 8]));
    let written = spawn(move || ((&conn).write_all(b"hello"), conn.peer_addr(), conn));
    let (outcome, address, _conn) = in_time("the write", &written);
    outcome.unwrap();
    assert_eq!(address.unwrap(), server.address);
    peer.read_exact(&mut [0; 5]).unwrap();
    peer.write_all(b"hi").unwrap();
    assert_eq!(in_time("the read", &read).unwrap(), 2);
}

#[test]
fn connections_share_a_limit_of_dials_and_the_drop_of_one_that_dials_lets_the_waiting_one_dial() {
    let _alone = alone();
    let server = Server::start();
    let limit = DialLimit::new(1, 1_000).unwrap();
    let hangs = Conn::builder("hangs").dialer(dial_fn(pending::<io::Result<DuplexStream>>));
    let hangs = hangs.dial_limit(&limit).build_blocking().unwrap();
    until("it dials", || limit.dialing() == 1);
    let _waits = Conn::builder(server.address).dial_limit(&limit).build_blocking().unwrap();
    until("it waits", || limit.waiting() == 1);
    drop(hangs);
    server.accept();
    until("its turn ends", || limit.dialing() + limit.waiting() == 0);
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
        assert_eq!(number, *next, "record {number} of thread {thread}");
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
            spawn(move || {
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
        // Each handle reports the end once.
        all.extend(in_time("a reader", reader).unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (0..=200).collect::<Vec<u8>>());
}
