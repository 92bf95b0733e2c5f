//! Breaks: each handle reports each one once, and no frame is torn.

use std::io::{Read, Write};
use std::sync::Arc;

use crate::support::{SHORT, Server, alone, broken_generation, fill, in_time, reset, spawn, spawn_waiting, until};

#[test]
fn break_reported_by_a_write_is_not_reported_by_the_next_read() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, mut peer) = server.pair();
    peer.write_all(b"left").unwrap();
    drop(peer);
    let mut peer = server.accept();
    peer.write_all(b"new").unwrap();
    assert_eq!(broken_generation(&conn.write(b"x").unwrap_err()), 1);
    let mut bytes = [0; 3];
    conn.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"new");
}

#[test]
fn break_reported_by_a_read_is_not_reported_by_the_next_write() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, peer) = server.pair();
    drop(peer);
    let other = conn.try_clone().unwrap();
    assert_eq!(conn.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!((conn.last_reported(), other.last_reported()), (1, 0));
    let mut peer = server.accept();
    conn.write_all(b"new").unwrap();
    let mut bytes = [0; 3];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"new");
}

#[test]
fn each_clone_reports_each_break_once_in_order() {
    let _alone = alone();
    let server = Server::start();
    let (conn, mut peer) = server.pair();
    let mut readers: Vec<_> = (0..3).map(|_| conn.try_clone().unwrap()).collect();
    let mut writers: Vec<_> = (0..3).map(|_| conn.try_clone().unwrap()).collect();
    for generation in 2..=4 {
        reset(peer);
        peer = server.accept();
        until("the next link is up", || conn.generation() == generation && conn.is_connected());
    }
    for generation in 1..=3 {
        for reader in &mut readers {
            assert_eq!(broken_generation(&reader.read(&mut [0; 8]).unwrap_err()), generation);
        }
        for writer in &mut writers {
            assert_eq!(broken_generation(&writer.write(b"torn").unwrap_err()), generation);
        }
    }
    // Now the readers write and the writers read.
    for (number, conn) in readers.iter_mut().enumerate() {
        conn.write_all(&[number as u8]).unwrap();
    }
    let mut bytes = [0; 3];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, [0, 1, 2]);
    for conn in &mut writers {
        peer.write_all(b"x").unwrap();
        assert_eq!(conn.read(&mut [0]).unwrap(), 1);
    }
    // A clone starts with the state of the handle it was made of. The first handle has not reported any break yet.
    assert_eq!(writers[0].try_clone().unwrap().write(b"y").unwrap(), 1);
    for generation in 1..=3 {
        assert_eq!(broken_generation(&(&conn).write(b"torn").unwrap_err()), generation);
    }
    assert_eq!((&conn).write(b"z").unwrap(), 1);
}

#[test]
fn reader_with_its_own_handle_reads_what_arrived_before_the_break() {
    let _alone = alone();
    let server = Server::start();
    let (mut writer, mut peer) = server.pair();
    let mut reader = writer.try_clone().unwrap();
    peer.write_all(b"last bytes").unwrap();
    drop(peer);
    let _peer = server.accept();
    assert_eq!(broken_generation(&writer.write(b"x").unwrap_err()), 1);
    let mut bytes = [0; 10];
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"last bytes");
    assert_eq!(reader.read(&mut bytes).unwrap(), 0);
}

#[test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
fn rest_of_a_write_is_never_sent_on_the_next_link() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, peer) = server.pair();
    let mut other = conn.try_clone().unwrap();
    let writer = spawn(move || {
        let outcome = conn.write_all(&vec![1; 50_000_000]);
        (conn, outcome)
    });
    (&peer).read_exact(&mut [0; 100_000]).unwrap();
    reset(peer);
    let mut peer = server.accept();
    let (mut conn, outcome) = in_time("the write fails", &writer);
    assert_eq!(broken_generation(&outcome.unwrap_err()), 1);
    conn.write_all(&[2; 10]).unwrap();
    let mut bytes = [0; 10];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, [2; 10]);
    assert_eq!(broken_generation(&other.write(b"x").unwrap_err()), 1);
}

#[test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
fn rest_of_a_write_stays_tied_to_its_link_even_if_a_read_reported_the_break_first() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, peer) = server.pair();
    conn.set_write_timeout(Some(SHORT)).unwrap();
    let bytes = vec![1; 50_000_000];
    let sent = conn.write(&bytes).unwrap();
    assert!((1..bytes.len()).contains(&sent), "{sent}");
    reset(peer);
    assert_eq!(broken_generation(&conn.read(&mut [0; 8]).unwrap_err()), 1);
    let mut peer = server.accept();
    assert_eq!(broken_generation(&conn.write(&bytes[sent..]).unwrap_err()), 1);
    conn.write_all(&[2]).unwrap();
    let mut first = [0];
    peer.read_exact(&mut first).unwrap();
    assert_eq!(first, [2]);
}

#[test]
fn waiting_read_and_write_of_one_handle_both_end_with_the_break() {
    let _alone = alone();
    let server = Server::start();
    let (conn, peer) = server.pair();
    fill(&conn);
    let conn = Arc::new(conn);
    let (for_read, for_write) = (Arc::clone(&conn), Arc::clone(&conn));
    let read = spawn_waiting(move || (&*for_read).read(&mut [0; 8]));
    let write = spawn_waiting(move || (&*for_write).write_all(&vec![0; 50_000_000]));
    reset(peer);
    let _peer = server.accept();
    assert_eq!(broken_generation(&in_time("the read", &read).unwrap_err()), 1);
    assert_eq!(broken_generation(&in_time("the write", &write).unwrap_err()), 1);
}
