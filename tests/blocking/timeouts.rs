//! Timeouts, which are not breaks and lose nothing.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;
use std::time::Instant;

use perconn::{Error, WhenDown};

use crate::support::{SHORT, Server, alone, broken_generation, in_time, reset, spawn, spawn_waiting};

#[test]
fn timeout_of_zero_is_refused() {
    let _alone = alone();
    let server = Server::start();
    let (conn, _peer) = server.pair();
    for outcome in [conn.set_read_timeout(Some(Duration::ZERO)), conn.set_write_timeout(Some(Duration::ZERO))] {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(conn.read_timeout().unwrap(), None);
    conn.set_read_timeout(Some(SHORT)).unwrap();
    let clone = conn.try_clone().unwrap();
    clone.set_write_timeout(Some(SHORT)).unwrap();
    assert_eq!(clone.read_timeout().unwrap(), Some(SHORT));
    assert_eq!(conn.write_timeout().unwrap(), None);
}

#[test]
fn read_that_times_out_is_not_a_break_and_loses_nothing() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, mut peer) = server.pair();
    conn.set_read_timeout(Some(SHORT)).unwrap();
    let start = Instant::now();
    let error = conn.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(start.elapsed() >= SHORT && Error::of(&error).is_none());
    conn.set_read_timeout(None).unwrap();
    peer.write_all(b"late").unwrap();
    let mut bytes = [0; 4];
    conn.read_exact(&mut bytes).unwrap();
    assert_eq!((&bytes, conn.generation()), (b"late", 1));
}

#[test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
fn write_that_times_out_says_what_it_sent_and_can_go_on() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, mut peer) = server.pair();
    conn.set_write_timeout(Some(SHORT)).unwrap();
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|at| (at / 1000) as u8).collect();
    let mut sent = 0;
    let error = loop {
        match conn.write(&bytes[sent..]) {
            Ok(n) => sent += n,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!((1..bytes.len()).contains(&sent), "{sent}");
    let expected = bytes.clone();
    let server = spawn(move || {
        let mut received = vec![0; expected.len()];
        peer.read_exact(&mut received).map(|()| received == expected)
    });
    conn.set_write_timeout(None).unwrap();
    conn.write_all(&bytes[sent..]).unwrap();
    assert!(in_time("the server has it all", &server).unwrap());
}

#[test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
fn timeouts_apply_during_an_outage_and_while_another_thread_writes() {
    let _alone = alone();
    let mut server = Server::start();
    let (mut conn, peer) = server.pair();
    conn.set_write_timeout(Some(SHORT)).unwrap();
    conn.set_read_timeout(Some(SHORT)).unwrap();
    let stuck = conn.try_clone().unwrap();
    stuck.set_write_timeout(None).unwrap();
    let stuck = spawn_waiting(move || (&stuck).write_all(&vec![0; 50_000_000]));
    // It waits for the other write to end.
    assert_eq!(conn.write(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    server.stop();
    reset(peer);
    assert_eq!(broken_generation(&in_time("the long write", &stuck).unwrap_err()), 1);
    assert_eq!(broken_generation(&conn.read(&mut [0]).unwrap_err()), 1);
    assert_eq!(conn.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(conn.write(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    server.restart();
    conn.set_write_timeout(None).unwrap();
    conn.write_all(b"back").unwrap();
    server.accept().read_exact(&mut [0; 4]).unwrap();
}

#[test]
fn when_down_of_the_builder_applies() {
    let _alone = alone();
    let mut server = Server::start();
    server.stop();
    let mut conn = server.client().when_down(WhenDown::Fail).build_blocking().unwrap();
    assert!(matches!(Error::of(&conn.write(b"x").unwrap_err()), Some(Error::Down { .. })));
    let mut conn = server.client().when_down(WhenDown::WaitFor(SHORT)).build_blocking().unwrap();
    assert!(matches!(Error::of(&conn.read(&mut [0]).unwrap_err()), Some(Error::WaitTimeout { .. })));
    let mut conn = server.client().max_retries(1).build_blocking().unwrap();
    assert!(matches!(Error::of(&conn.read(&mut [0]).unwrap_err()), Some(Error::GaveUp { .. })));
    assert!(matches!(Error::of(&conn.connected(None).unwrap_err()), Some(Error::GaveUp { .. })));
}
