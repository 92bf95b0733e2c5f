//! Closing at any moment, after which nothing is left.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::mpsc;

use crate::support::{HANG, Server, alone, fill, in_time, is_closed, spawn, spawn_waiting};

#[test]
fn close_wakes_every_waiting_reader_and_writer() {
    let _alone = alone();
    let server = Server::start();
    let (conn, _peer) = server.pair();
    fill(&conn);
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut reader = conn.try_clone().unwrap();
        waiting.push(spawn_waiting(move || reader.read(&mut [0; 8]).map(drop)));
        let mut writer = conn.try_clone().unwrap();
        waiting.push(spawn_waiting(move || writer.write_all(&vec![0; 50_000_000])));
    }
    let mut other = conn.try_clone().unwrap();
    in_time("close", &spawn(move || conn.close()));
    for outcome in &waiting {
        assert!(is_closed(&in_time("a waiting operation", outcome).unwrap_err()));
    }
    assert!(is_closed(&other.read(&mut [0]).unwrap_err()));
    assert!(is_closed(&other.write(b"x").unwrap_err()));
    assert!(is_closed(&other.connected(None).unwrap_err()));
}

#[test]
fn close_during_an_outage_wakes_every_wait_for_a_link() {
    let _alone = alone();
    let mut server = Server::start();
    server.stop();
    let conn = server.client().build_blocking().unwrap();
    let (mut reader, mut writer, up) =
        (conn.try_clone().unwrap(), conn.try_clone().unwrap(), conn.try_clone().unwrap());
    let waiting = [
        spawn_waiting(move || reader.read(&mut [0; 8]).map(drop)),
        spawn_waiting(move || writer.write_all(b"x")),
        spawn_waiting(move || up.connected(None)),
    ];
    in_time("close", &spawn(move || conn.close()));
    for outcome in &waiting {
        assert!(is_closed(&in_time("a waiting operation", outcome).unwrap_err()));
    }
}

#[test]
fn shutdown_ends_the_writing_side_and_a_waiting_write() {
    let _alone = alone();
    let server = Server::start();
    let (conn, mut peer) = server.pair();
    fill(&conn);
    let mut writer = conn.try_clone().unwrap();
    let write = spawn_waiting(move || writer.write_all(&vec![0; 50_000_000]));
    conn.shutdown().unwrap();
    assert_eq!(in_time("the write", &write).unwrap_err().kind(), ErrorKind::BrokenPipe);
    let server = spawn(move || {
        io::copy(&mut peer, &mut io::sink()).unwrap();
        peer.write_all(b"bye").unwrap();
    });
    let mut bytes = Vec::new();
    (&conn).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"bye");
    in_time("the server", &server);
    assert!(is_closed(&(&conn).read(&mut [0]).unwrap_err()));
}

#[test]
fn last_handle_that_is_dropped_closes_the_socket() {
    let _alone = alone();
    let server = Server::start();
    let (conn, mut peer) = server.pair();
    let clone = conn.try_clone().unwrap();
    drop(conn);
    (&clone).write_all(b"still here").unwrap();
    peer.read_exact(&mut [0; 10]).unwrap();
    drop(clone);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

#[test]
fn waiting_read_reports_a_break_on_purpose() {
    let _alone = alone();
    let server = Server::start();
    let (conn, _peer) = server.pair();
    let mut reader = conn.try_clone().unwrap();
    let read = spawn_waiting(move || (reader.read(&mut [0; 8]), reader));
    conn.break_link(1);
    let (outcome, mut reader) = in_time("the read", &read);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    server.accept().write_all(b"x").unwrap();
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn background_thread_and_descriptors_are_gone_with_the_last_connection() {
    use crate::support::until;

    // The thread of the hooks ends ten seconds after its last call, which may be another test's.
    fn names() -> Vec<String> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let name = |task: io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
        tasks.filter_map(name).filter(|name| name.starts_with("perconn") && name != "perconn-hooks\n").collect()
    }
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let _alone = alone();
    // The first runtime of a process opens descriptors that stay.
    drop(Server::start().pair());
    until("an earlier thread ends", || names().is_empty());
    let before = descriptors();
    for _ in 0..3 {
        let server = Server::start();
        let pairs: Vec<_> = (0..50).map(|_| server.pair()).collect();
        assert_eq!(names(), ["perconn-blockin\n"]);
        drop(pairs);
        drop(server);
        until("the thread ends", || names().is_empty());
        until("all is closed", || descriptors() <= before);
    }
}

#[test]
fn closed_event_comes_after_the_last_handle_is_gone() {
    let _alone = alone();
    let server = Server::start();
    let (sender, events) = mpsc::channel();
    let conn = server.client().on_event(move |event| drop(sender.send(event.to_string()))).connect_blocking().unwrap();
    drop(conn);
    let mut seen = Vec::new();
    // The hook is dropped with the actor.
    while let Ok(event) = events.recv_timeout(HANG) {
        seen.push(event);
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}
