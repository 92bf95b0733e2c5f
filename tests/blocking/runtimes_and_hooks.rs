//! Use on the threads of a runtime, over streams that are not sockets, and in hooks.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use perconn::blocking::Conn;
use perconn::{Event, dial_fn};
use tokio::io::DuplexStream;

use crate::support::{HANG, Server, alone, in_time, is_closed, quick, spawn};

fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (peer, _) = listener.accept().unwrap();
        io::copy(&mut &peer, &mut &peer)
    });
    address
}

/// Makes more operations than the cooperative budget of a tokio task allows, and a wait.
fn talk(mut conn: Conn) {
    for number in 0..300_u32 {
        conn.write_all(&number.to_be_bytes()).unwrap();
        let mut echo = [0; 4];
        conn.read_exact(&mut echo).unwrap();
        assert_eq!(echo, number.to_be_bytes());
    }
    conn.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert_eq!(conn.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    conn.close();
}

#[test]
fn connection_works_on_the_threads_of_a_runtime() {
    let _alone = alone();
    for mut builder in [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()] {
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        let done = spawn(move || {
            runtime.block_on(async {
                talk(Conn::connect(echo_server()).unwrap());
                tokio::spawn(async { talk(Conn::connect(echo_server()).unwrap()) }).await.unwrap();
                tokio::task::spawn_blocking(|| talk(Conn::connect(echo_server()).unwrap())).await.unwrap();
            });
        });
        in_time("talking in a runtime", &done);
    }
}

/// A connection over pipes in memory, and their far ends.
fn pipes() -> (Conn<DuplexStream>, Receiver<DuplexStream>) {
    let (sender, peers) = mpsc::channel();
    let dialer = dial_fn(move || {
        let (near, far) = tokio::io::duplex(64);
        let _ = sender.send(far);
        std::future::ready(Ok(near))
    });
    (quick(perconn::Conn::builder("memory").dialer(dialer)).connect_blocking().unwrap(), peers)
}

#[test]
fn other_streams_than_sockets_work_on_and_off_the_threads_of_a_runtime() {
    let _alone = alone();
    let talk = || {
        let (mut conn, peers) = pipes();
        let server = spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for peer in peers.iter().take(3) {
                let (mut read, mut write) = tokio::io::split(peer);
                // Ten bytes are echoed; then the pipe is dropped.
                let mut read = tokio::io::AsyncReadExt::take(&mut read, 10);
                runtime.block_on(tokio::io::copy(&mut read, &mut write)).unwrap();
            }
        });
        // Before it reports a break, a read lets the runtime look at the stream once more.
        conn.break_link(1);
        assert_eq!(conn.read(&mut [0; 10]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
        for _ in 0..2 {
            conn.write_all(b"0123456789").unwrap();
            conn.read_exact(&mut [0; 10]).unwrap();
            assert_eq!(conn.read(&mut [0; 10]).unwrap(), 0);
        }
        conn.close();
        in_time("the server", &server);
    };
    in_time("talking", &spawn(talk));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    in_time(
        "talking in a runtime",
        &spawn(move || runtime.block_on(async move { tokio::spawn(async move { talk() }).await })),
    )
    .unwrap();
}

#[test]
fn dialer_that_would_wait_for_a_connection_gets_a_deadlock_error() {
    let _alone = alone();
    let server = Server::start();
    let (other, _other_peer) = server.pair();
    let (sender, outcomes) = mpsc::channel();
    let dialer = dial_fn(move || {
        let read = (&other).read(&mut [0]).map_err(|error| error.kind());
        // Operations that need not wait work.
        let write = (&other).write(b"x").map_err(|error| error.kind());
        let connect = Conn::connect("127.0.0.1:1").map(drop).map_err(|error| error.kind());
        other.close();
        let _ = sender.send((read, write, connect));
        std::future::pending::<io::Result<DuplexStream>>()
    });
    let conn = quick(perconn::Conn::builder("memory").dialer(dialer)).build_blocking().unwrap();
    let deadlock = ErrorKind::Deadlock;
    assert_eq!(in_time("the dialer", &outcomes), (Err(deadlock), Ok(1), Err(deadlock)));
    conn.close();
}

#[test]
fn hook_may_wait_for_a_connection_and_for_the_next_link_of_its_own() {
    let _alone = alone();
    let server = Server::start();
    let (other, mut other_peer) = server.pair();
    let own: Arc<OnceLock<Conn>> = Arc::default();
    let (sender, outcomes) = mpsc::channel();
    let builder = server.client().on_event({
        let own = Arc::clone(&own);
        move |event| {
            if let Event::Disconnected { .. } = event {
                let read = (&other).read(&mut [0]).map_err(|error| error.kind());
                let connect = Conn::connect(echo_server()).map(drop).map_err(|error| error.kind());
                let connected = own.get().unwrap().connected(None).map_err(|error| error.kind());
                let _ = sender.send((read, connect, connected));
            }
        }
    });
    let conn = builder.connect_blocking().unwrap();
    let peer = server.accept();
    own.set(conn.try_clone().unwrap()).unwrap();
    drop(peer);
    let _peer = server.accept();
    other_peer.write_all(b"x").unwrap();
    assert_eq!(in_time("the hook", &outcomes), (Ok(1), Ok(()), Ok(())));
    conn.close();
}

#[test]
fn hook_that_blocks_for_ever_delays_no_link_and_no_close() {
    let _alone = alone();
    let mut server = Server::start();
    let (opener, opened) = mpsc::channel::<()>();
    let opened = Mutex::new(opened);
    let (sender, events) = mpsc::channel();
    let builder = server.client().on_event(move |event| {
        let _ = opened.lock().unwrap().recv();
        let _ = sender.send(event.clone());
    });
    let work = spawn(move || {
        let mut conn = builder.connect_blocking().unwrap();
        let mut peer = server.accept();
        for generation in 2..5 {
            server.stop();
            drop(peer);
            assert_eq!(conn.read(&mut [0]).unwrap(), 0);
            server.restart();
            peer = server.accept();
            peer.write_all(b"x").unwrap();
            conn.read_exact(&mut [0]).unwrap();
            assert_eq!(conn.generation(), generation);
        }
        conn.close();
        assert!(is_closed(&conn.read(&mut [0]).unwrap_err()));
    });
    in_time("the work beside a hook that blocks", &work);
    // It gets all events afterwards, in order.
    assert!(events.try_recv().is_err());
    drop(opener);
    let mut link = 0;
    for event in std::iter::from_fn(|| events.recv_timeout(HANG).ok()) {
        match event {
            Event::Connected { generation, .. } | Event::Reconnected { generation, .. } => {
                link += 1;
                assert_eq!(generation, link);
            }
            Event::Disconnected { generation, .. } => assert_eq!(generation, link),
            Event::DialFailed { .. } => assert!(link < 4),
            Event::Closed => link += 100,
            other => panic!("{other}"),
        }
    }
    assert_eq!(link, 104, "after the fourth link, the close");
}

#[test]
fn hook_that_panics_is_reported_to_the_logger_and_called_again() {
    let _alone = alone();
    let server = Server::start();
    let (sender, reports) = mpsc::channel();
    let builder = server.client().on_event(|event| panic!("at {event}")).logger(move |error| {
        let _ = sender.send(error.to_string());
        panic!("the logger");
    });
    let conn = builder.connect_blocking().unwrap();
    conn.close();
    let reports = [(); 2].map(|()| in_time("a report", &reports));
    assert!(reports[0].contains("the event hook panicked: at connected"), "{reports:?}");
    assert!(reports[1].contains("the event hook panicked: at closed"), "{reports:?}");
}
