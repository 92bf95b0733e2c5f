//! Like a `TcpStream` of std's.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};

use perconn::Error;
use perconn::blocking::Conn;

use crate::support::{SHORT, Server, alone, begin, in_time, reported_generation, until};

#[test]
fn it_is_read_and_written_with_the_tools_of_std() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, peer) = server.pair();
    let echo = begin(move || io::copy(&mut &peer, &mut &peer));
    write!(conn, "one {}\ntwo\n", 1).unwrap();
    conn.flush().unwrap();
    let mut lines = BufReader::new(conn.try_clone().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "one 1");
    assert_eq!(lines.next().unwrap().unwrap(), "two");
    let parts = [io::IoSlice::new(b"a"), io::IoSlice::new(b""), io::IoSlice::new(b"bc")];
    assert_eq!(conn.write_vectored(&parts).unwrap(), 3);
    assert_eq!(conn.read(&mut []).unwrap(), 0);
    conn.shutdown().unwrap();
    let mut rest = Vec::new();
    assert_eq!(io::copy(&mut &conn, &mut rest).unwrap(), 3);
    assert_eq!(rest, b"abc");
    assert_eq!(in_time("the echo ends", &echo).unwrap(), 13);
}

#[test]
fn first_dial_that_fails_is_returned_and_bad_settings_are_named() {
    let _alone = alone();
    let mut server = Server::start();
    server.stop();
    let error = Conn::connect(server.address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(matches!(Error::of(&error), Some(Error::DialFailure { attempt: 1, .. })));
    let error = Conn::builder("no-port").build_blocking().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("no-port"), "{error}");
}

#[test]
fn addresses_and_state_are_those_of_the_live_link() {
    let _alone = alone();
    let mut server = Server::start();
    let (mut conn, peer) = server.pair();
    assert_eq!(conn.peer_addr().unwrap(), server.address);
    assert_eq!(conn.local_addr().unwrap(), peer.peer_addr().unwrap());
    assert!(conn.is_connected() && conn.status().is_connected());
    assert_eq!(conn.generation(), 1);
    server.stop();
    drop(peer);
    until("the break is noticed", || !conn.is_connected());
    assert_eq!(conn.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(conn.connected(SHORT).unwrap_err().kind(), ErrorKind::WouldBlock);
    server.restart();
    conn.connected(None).unwrap();
    let peer = server.accept();
    assert_eq!(conn.generation(), 2);
    // The break is untold, so the link is not this handle's yet.
    assert_eq!(conn.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(reported_generation(&conn.write(b"x").unwrap_err()), 1);
    assert_eq!(conn.local_addr().unwrap(), peer.peer_addr().unwrap());
}
