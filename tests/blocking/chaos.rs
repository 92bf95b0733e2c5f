//! A proxy that cuts link after link in the middle of the stream. `PERCONN_CHAOS_SEED` repeats a plan.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use perconn::Conn;
use perconn::testing::{Cut, FaultProxy, Link, LinkEnd};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::support::{Server, alone, broken_generation, in_time, is_closed, length, quick, read_record, record, spawn};

const LINKS: usize = 12;
const THREADS: u8 = 3;

/// How all links but the last are cut, and how many the server gets. Each is up first: a reset comes behind a byte that the
/// client sent or that answers one, as it could overtake the dial.
fn script(random: &mut SmallRng) -> (Vec<Link>, u8) {
    let (mut script, mut served) = (Vec::new(), 1);
    for _ in 1..LINKS {
        if random.random_bool(0.3) {
            script.push(Link::refuse().lasting(Duration::from_millis(random.random_range(0..30))));
        }
        let cut = if random.random_bool(0.5) { Cut::Close } else { Cut::Reset };
        let most = 1_u64 << random.random_range(0..22);
        let kind = random.random_range(0..5);
        script.push(match kind {
            // The greeting, and then a byte for each record.
            0..2 => Link::pass().cut_after_from_server(random.random_range(2..60), cut),
            2..4 => Link::pass().cut_after(random.random_range(1..=most), cut),
            _ => Link::accept_and_close(),
        });
        served += u8::from(kind < 4);
    }
    (script, served)
}

/// Threads write records and read replies while links are cut in the middle of the stream, and dials are refused.
fn chaos(seed: u64) {
    let (script, served) = script(&mut SmallRng::seed_from_u64(seed));
    let server = Server::start();
    let proxy = FaultProxy::start_blocking(server.address).unwrap();
    proxy.script(script);
    let listener = server.listener.unwrap();
    let server = spawn(move || {
        let mut received = Vec::new();
        for link in 1..=served {
            // On some platforms, to accept a link fails that was reset already.
            let Ok((mut peer, _)) = listener.accept() else { continue };
            // The number of this link, and then one byte for each record. It fails only as the next read does.
            let _ = peer.write_all(&[link]);
            while let Some(record) = read_record(&mut peer) {
                received.push(record);
                let _ = peer.write_all(&[200]);
            }
        }
        received
    });
    let is_last = Arc::new(AtomicBool::new(false));
    // Does not wait for the first link, as the first dial may be refused.
    let conn = quick(Conn::builder(proxy.addr())).build_blocking().unwrap();
    let writers: Vec<_> = (0..THREADS)
        .map(|thread| {
            let mut conn = conn.try_clone().unwrap();
            let mut random = SmallRng::seed_from_u64(seed ^ u64::from(thread) << 32);
            let is_last = Arc::clone(&is_last);
            spawn(move || {
                let (mut failed, mut reported) = (Vec::new(), Vec::new());
                let (mut number, mut more) = (0, 50);
                while more > 0 {
                    more -= u32::from(is_last.load(Ordering::SeqCst));
                    if let Err(error) = conn.write_all(&record(thread, number, length(&mut random))) {
                        reported.push(broken_generation(&error));
                        failed.push(number);
                    }
                    number += 1;
                }
                (failed, reported)
            })
        })
        .collect();
    let mut reader = conn.try_clone().unwrap();
    let reader = spawn(move || {
        // The bytes of each link, from the first to the last.
        let mut links = vec![Vec::<u8>::new()];
        let mut buf = [0; 100];
        loop {
            match reader.read(&mut buf) {
                Ok(n) if n > 0 => {
                    links.last_mut().unwrap().extend(&buf[..n]);
                    is_last.store(links.len() == LINKS, Ordering::SeqCst);
                }
                Err(error) if is_closed(&error) => return links,
                Err(error) => {
                    assert_eq!(broken_generation(&error), links.len() as u64);
                    links.push(Vec::new());
                }
                Ok(_) => links.push(Vec::new()),
            }
        }
    });
    let mut failed = Vec::new();
    for writer in &writers {
        let (numbers, reported) = in_time("a writer", writer);
        assert!(reported.is_sorted_by(|a, b| a < b), "a break was reported twice or out of order: {reported:?}");
        failed.push(numbers);
    }
    conn.close();
    let links = in_time("the reader", &reader);
    let received = in_time("the server", &server);
    let ledger = proxy.ledger();
    assert!(ledger[..LINKS - 1].iter().all(|link| matches!(link.end, Some(LinkEnd::Cut(_)))), "{ledger:#?}");
    assert_eq!((ledger.len(), conn.generation()), (LINKS, LINKS as u64), "{ledger:#?}");
    assert_eq!(links.len(), LINKS, "the reader reports each break");
    let mut greeting = 0;
    for bytes in links {
        // A reset may have lost a link's greeting, but no link has the greeting of another.
        if let Some((first, rest)) = bytes.split_first() {
            assert!(*first > greeting, "greeting {first} came after {greeting}");
            greeting = *first;
            assert!(rest.iter().all(|byte| *byte == 200), "bytes of two links came as those of one");
        }
    }
    let mut last = HashMap::new();
    for (thread, number) in received {
        assert!(
            last.insert(thread, number).is_none_or(|last| last < number),
            "record {number} of thread {thread} is out of order"
        );
        assert!(
            !failed[usize::from(thread)].contains(&number),
            "record {number} of thread {thread} failed and arrived whole"
        );
    }
}

#[test]
fn server_behind_cut_links_gets_whole_records_and_every_handle_reports_each_break_once() {
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
