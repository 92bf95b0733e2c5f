//! Links that the program gives up or breaks, dials that it asks for, and the peer's close as an error.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use perconn::blocking::Conn;
use perconn::{Error, dial_fn};

use crate::support::{HANG, SHORT, Server, alone, broken_generation, fill, in_time, is_closed, spawn, until};

/// Writes a request and reads the line that answers it.
fn ask(conn: &mut BufReader<Conn>, request: &str) -> std::io::Result<String> {
    conn.get_mut().write_all(request.as_bytes())?;
    let mut answer = String::new();
    conn.read_line(&mut answer)?;
    Ok(answer)
}

/// The server's side of one link: it answers each line, but lets `late` answer the line with a 3 on link 1.
fn serve(peer: &TcpStream, link: u32, mut late: impl FnMut()) {
    let mut lines = BufReader::new(peer).lines();
    while let Some(Ok(line)) = lines.next() {
        if link == 1 && line.ends_with('3') {
            // A part of the answer comes in time.
            let mut writer = peer;
            writer.write_all(b"echo req").unwrap();
            late();
            writer.write_all(b"uest 3\n").unwrap();
            late();
            continue;
        }
        if writeln!(&mut &*peer, "echo {line}").is_err() {
            break;
        }
    }
}

#[test]
fn every_answer_after_an_abandon_belongs_to_its_request() {
    let _alone = alone();
    let server = Server::start();
    let conn = server.client().close_as_error(true).connect_blocking().unwrap();
    let mut others = [conn.try_clone().unwrap(), conn.try_clone().unwrap()];
    // The late answer is sent when the client has lost patience, and has arrived when it gives the link up.
    let (impatient, is_impatient) = mpsc::channel::<()>();
    let (sent, is_sent) = mpsc::channel();
    let mut step = 0;
    let late = move || {
        step += 1;
        if step == 1 {
            is_impatient.recv().unwrap();
        } else {
            sent.send(()).unwrap();
        }
    };
    let serving = spawn(move || {
        serve(&server.accept(), 1, late);
        let second = server.accept();
        second.set_read_timeout(None).unwrap();
        serve(&second, 2, || ());
    });
    let mut conn = BufReader::new(conn);
    let mut timeouts = 0;
    for number in 0..8 {
        let answer = loop {
            conn.get_ref().set_read_timeout(Some(if number == 3 && timeouts == 0 { SHORT } else { HANG })).unwrap();
            match ask(&mut conn, &format!("request {number}\n")) {
                Ok(answer) => break answer,
                Err(error) => {
                    assert_eq!((error.kind(), number), (ErrorKind::WouldBlock, 3));
                    timeouts += 1;
                    impatient.send(()).unwrap();
                    in_time("the late answer", &is_sent);
                    conn.get_mut().abandon();
                    conn = BufReader::new(conn.into_inner());
                }
            }
        };
        assert_eq!(answer, format!("echo request {number}\n"));
    }
    assert_eq!((timeouts, conn.get_ref().generation(), conn.get_ref().last_reported()), (1, 2, 1));
    // Each of the other handles reports the break once.
    let [writer, reader] = &mut others;
    assert_eq!(broken_generation(&writer.write(b"torn").unwrap_err()), 1);
    let error = reader.read(&mut [0; 8]).unwrap_err();
    assert_eq!((error.kind(), broken_generation(&error)), (ErrorKind::ConnectionAborted, 1));
    writer.write_all(b"request 8\n").unwrap();
    let mut answer = [0; 15];
    reader.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"echo request 8\n");
    conn.get_ref().close();
    in_time("the server", &serving);
}

#[test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
fn abandon_gives_up_the_rest_of_a_write() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, peer) = server.pair();
    fill(&conn);
    conn.set_write_timeout(Some(SHORT)).unwrap();
    // The kernels of both sides take no more than a part of this.
    let serving = spawn(move || {
        let mut peer = peer;
        peer.read_exact(&mut vec![0; 1_000_000]).unwrap();
        peer
    });
    let sent = loop {
        match conn.write(&vec![1; 50_000_000]) {
            Ok(n) => break n,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    };
    assert!(sent < 50_000_000);
    conn.set_write_timeout(None).unwrap();
    conn.abandon();
    let _old = in_time("the server", &serving);
    let mut peer = server.accept();
    // Not the rest: no break is reported, and nothing else is on the link.
    conn.write_all(b"new").unwrap();
    let mut bytes = [0; 3];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!((&bytes, conn.generation()), (b"new", 2));
}

#[test]
fn abandon_keeps_a_link_that_no_handle_has_used() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, mut peer) = server.pair();
    for _ in 0..2 {
        // The second call does nothing.
        conn.abandon();
        conn.abandon();
        let generation = conn.last_reported() + 1;
        peer = server.accept();
        until("the next link is up", || conn.generation() == generation && conn.is_connected());
        conn.abandon();
        conn.write_all(b"x").unwrap();
        peer.read_exact(&mut [0]).unwrap();
        peer.write_all(b"y").unwrap();
        conn.read_exact(&mut [0]).unwrap();
        assert_eq!(conn.generation(), generation);
    }
    // What had broken by itself is forgotten, too.
    peer.write_all(b"left").unwrap();
    drop(peer);
    let mut peer = server.accept();
    conn.abandon();
    peer.write_all(b"new").unwrap();
    let mut bytes = [0; 3];
    conn.read_exact(&mut bytes).unwrap();
    assert_eq!((&bytes, conn.generation(), conn.last_reported()), (b"new", 4, 3));
}

#[test]
fn abandon_gives_up_a_link_on_which_the_handle_has_only_read_or_only_written() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, mut peer) = server.pair();
    for generation in 2..=7 {
        conn.abandon();
        assert_eq!(conn.last_reported(), generation - 1);
        let ended = peer.read(&mut [0; 8]);
        assert!(ended.as_ref().map_or(true, |n| *n == 0), "link {} goes on: {ended:?}", generation - 1);
        peer = server.accept();
        if generation % 2 == 0 {
            conn.write_all(b"x").unwrap();
            peer.read_exact(&mut [0]).unwrap();
        } else {
            peer.write_all(b"y").unwrap();
            conn.read_exact(&mut [0]).unwrap();
        }
    }
    assert_eq!(conn.generation(), 7);
}

#[test]
fn break_link_breaks_that_link_only_and_every_handle_reports_it() {
    let _alone = alone();
    let server = Server::start();
    let (mut conn, _first) = server.pair();
    let mut other = conn.try_clone().unwrap();
    conn.break_link(0);
    conn.break_link(2);
    assert!(conn.is_connected());
    conn.break_link(1);
    conn.break_link(1);
    for handle in [&mut conn, &mut other] {
        let error = handle.read(&mut [0; 8]).unwrap_err();
        assert_eq!((error.kind(), broken_generation(&error)), (ErrorKind::ConnectionAborted, 1));
    }
    let mut peer = server.accept();
    conn.write_all(b"x").unwrap();
    for generation in [0, 1, 3, u64::MAX] {
        other.break_link(generation);
        assert!(conn.is_connected(), "break_link({generation}) broke link 2");
    }
    peer.write_all(b"y").unwrap();
    assert_eq!(conn.read(&mut [0; 8]).unwrap(), 1);
    assert_eq!(conn.generation(), 2);
}

#[test]
fn loop_over_dial_now_dials_at_most_once_in_retry_min() {
    /// With the delays of this seed, and without the calls, they would take longer than [`HANG`].
    const DIALS: usize = 12;
    let _alone = alone();
    let retry_min = Duration::from_millis(40);
    let (sender, dials) = mpsc::channel();
    let dialer = dial_fn(move || {
        let _ = sender.send(Instant::now());
        std::future::ready(Err::<tokio::net::TcpStream, _>(ErrorKind::ConnectionRefused.into()))
    });
    let conn = perconn::Conn::builder("refused")
        .dialer(dialer)
        .retry_min(retry_min)
        .retry_max(Duration::from_secs(3600))
        .jitter_seed(7)
        .logger(|_| {})
        .build_blocking()
        .unwrap();
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < DIALS {
        assert!(start.elapsed() < HANG, "{} dials", times.len());
        conn.dial_now();
        times.extend(dials.try_iter());
        thread::yield_now();
    }
    conn.close();
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| *gap >= retry_min), "{gaps:?}");
}

#[test]
fn read_line_reports_the_peers_close_as_an_error_with_its_generation() {
    let _alone = alone();
    let server = Server::start();
    let conn = server.client().close_as_error(true).connect_blocking().unwrap();
    let mut other = conn.try_clone().unwrap();
    let mut conn = BufReader::new(conn);
    for generation in 1..=3 {
        server.accept().write_all(b"whole\nhalf of a li").unwrap();
        let mut line = String::new();
        conn.read_line(&mut line).unwrap();
        assert_eq!(line, "whole\n");
        let error = conn.read_line(&mut line).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(Error::of(&error).and_then(Error::generation), Some(generation));
        conn = BufReader::new(conn.into_inner());
        // A handle that comes later gets the same error.
        let error = other.read(&mut [0; 8]).unwrap_err();
        assert_eq!((error.kind(), broken_generation(&error)), (ErrorKind::UnexpectedEof, generation));
    }
    // The end that the program has asked for is no error.
    let mut peer = server.accept();
    conn.get_ref().connected(None).unwrap();
    conn.get_ref().shutdown().unwrap();
    peer.write_all(b"last\n").unwrap();
    drop(peer);
    let mut lines = conn.lines();
    assert_eq!(lines.next().unwrap().unwrap(), "last");
    assert!(lines.next().is_none());
    assert_eq!(other.read(&mut [0; 8]).unwrap(), 0);
    assert!(is_closed(&other.read(&mut [0; 8]).unwrap_err()));
}
