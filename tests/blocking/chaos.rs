//! A server that is killed again and again in mid-stream. `PERCONN_CHAOS_SEED` repeats a plan.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::support::{
    HANG_LIMIT, Server, alone, begin, in_time, is_closed, length, read_record, record, reported_generation, reset,
};

/// Threads write records and read replies while the server is killed in mid-stream, stopped, and started again.
fn chaos(seed: u64) {
    const LINKS: u64 = 12;
    const THREADS: u8 = 3;
    let mut random = SmallRng::seed_from_u64(seed);
    let server = Server::start();
    let builder = server.client();
    let listener = server.listener.unwrap();
    let address = server.address;
    // (A link that dies in the backlog of a listener counts for the client only.)
    let is_last = Arc::new(AtomicBool::new(false));
    let last_is_up = Arc::clone(&is_last);
    let server = begin(move || {
        let mut listener = Some(listener);
        let mut received = Vec::new();
        for link in 1..=LINKS {
            let mut peer = listener.as_ref().unwrap().accept().unwrap().0;
            peer.set_read_timeout(Some(HANG_LIMIT)).unwrap();
            // Which link this is, and then one byte for each record.
            peer.write_all(&[link as u8]).unwrap();
            last_is_up.store(link == LINKS, Ordering::SeqCst);
            let records = if link == LINKS { usize::MAX } else { random.random_range(0..60) };
            for _ in 0..records {
                let Some(record) = read_record(&mut peer) else { break };
                received.push(record);
                if peer.write_all(&[200]).is_err() {
                    break;
                }
            }
            if link == LINKS {
                break;
            }
            let has_outage = random.random_bool(0.3);
            if has_outage {
                listener = None;
            }
            match random.random_range(0..4) {
                0 => reset(peer),
                1 => drop(peer),
                // In the middle of a record.
                2 => {
                    let _ = peer.read(&mut [0; 5]);
                    reset(peer);
                }
                _ => {
                    let _ = peer.shutdown(Shutdown::Both);
                }
            }
            if has_outage {
                thread::sleep(Duration::from_millis(random.random_range(0..30)));
                listener = Some(TcpListener::bind(address).unwrap());
            }
        }
        received
    });
    // (The first link may die before its dial is done.)
    let conn = builder.build_blocking().unwrap();
    let writers: Vec<_> = (0..THREADS)
        .map(|thread| {
            let mut conn = conn.try_clone().unwrap();
            let mut random = SmallRng::seed_from_u64(seed ^ u64::from(thread) << 32);
            let is_last = Arc::clone(&is_last);
            begin(move || {
                let (mut failed, mut told) = (Vec::new(), Vec::new());
                let (mut number, mut more) = (0, 50);
                while more > 0 {
                    more -= u32::from(is_last.load(Ordering::SeqCst));
                    if let Err(error) = conn.write_all(&record(thread, number, length(&mut random))) {
                        told.push(reported_generation(&error));
                        failed.push(number);
                    }
                    number += 1;
                }
                (failed, told)
            })
        })
        .collect();
    let mut reader = conn.try_clone().unwrap();
    let reader = begin(move || {
        // The bytes of each link, from the first to the last.
        let mut links = vec![Vec::<u8>::new()];
        let mut buf = [0; 100];
        loop {
            match reader.read(&mut buf) {
                Ok(n) if n > 0 => links.last_mut().unwrap().extend(&buf[..n]),
                Err(error) if is_closed(&error) => return links,
                Err(error) => {
                    assert_eq!(reported_generation(&error), links.len() as u64);
                    links.push(Vec::new());
                }
                Ok(_) => links.push(Vec::new()),
            }
        }
    });
    let mut failed = Vec::new();
    for writer in &writers {
        let (numbers, told) = in_time("a writer", writer);
        assert!(told.is_sorted_by(|a, b| a < b), "told twice, or out of order: {told:?}");
        failed.push(numbers);
    }
    conn.close();
    let links = in_time("the reader", &reader);
    assert!(links.len() as u64 <= conn.generation(), "told more often than there were breaks");
    let mut greeting = 0;
    for bytes in links {
        // A link that was reset may have lost its greeting, but no link has another's.
        if let Some((first, rest)) = bytes.split_first() {
            assert!(*first > greeting, "{first} after {greeting}");
            greeting = *first;
            assert!(rest.iter().all(|byte| *byte == 200), "two links' bytes in one");
        }
    }
    let received = in_time("the server", &server);
    let mut last = HashMap::new();
    for (thread, number) in received {
        assert!(last.insert(thread, number).is_none_or(|last| last < number), "thread {thread}: {number} out of order");
        assert!(!failed[usize::from(thread)].contains(&number), "a record that failed has arrived whole");
    }
}

#[test]
fn server_killed_again_and_again_gets_whole_records_and_every_thread_is_told_once() {
    let _alone = alone();
    let seeds = match std::env::var("PERCONN_CHAOS_SEED") {
        Ok(text) => vec![text.parse().expect("a seed")],
        Err(_) => {
            let mut random: SmallRng = rand::make_rng();
            (0..4).map(|_| random.random_range(0..1_000_000)).collect()
        }
    };
    for seed in seeds {
        println!("PERCONN_CHAOS_SEED={seed}");
        chaos(seed);
    }
}
