//! The outbox of a program without a runtime.

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use perconn::Conn;
use perconn::outbox::{Fate, Outbox, SendError, TrySendError, WhenFull};

use crate::support::{HANG_LIMIT, quick};

/// A server that closes each connection after this many lines, and hands on all lines.
fn server(lines_of_a_link: usize) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            for line in BufReader::new(stream?).lines().map_while(Result::ok).take(lines_of_a_link) {
                let _ = sender.send(line);
            }
        }
        std::io::Result::Ok(())
    });
    (address, lines)
}

/// Where nobody listens.
fn refused() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn threads_send_through_breaks_and_every_message_has_its_fate() {
    let (address, lines) = server(100);
    let outbox = Outbox::builder(quick(Conn::builder(address))).capacity(10).start_blocking().unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let outbox = outbox.clone();
            scope.spawn(move || {
                for number in 0..1_000 {
                    outbox.send(format!("{thread} {number}\n")).unwrap();
                }
            });
        }
    });
    let tally = outbox.close(HANG_LIMIT).unwrap();
    assert_eq!((tally.accepted, tally.written + tally.in_doubt, tally.waiting), (4_000, 4_000, 0), "{tally}");
    assert!(lines.try_iter().count() > 100, "over more than one link");
    assert!(outbox.try_send("late\n").unwrap_err().is_final());
    assert_eq!(outbox.send("late\n").unwrap_err().kind(), ErrorKind::NotConnected);
}

#[test]
fn full_outbox_holds_a_thread_back_until_the_close() {
    let outbox = Outbox::builder(quick(Conn::builder(refused()))).capacity(1).start_blocking().unwrap();
    outbox.send("first").unwrap();
    assert!(matches!(outbox.try_send("second").unwrap_err(), TrySendError::Full));
    assert_eq!(outbox.flush(Duration::from_millis(20)).unwrap_err().kind(), ErrorKind::WouldBlock);
    let waiting = {
        let outbox = outbox.clone();
        thread::spawn(move || outbox.send("second").unwrap_err())
    };
    // Whether the thread waits already or comes later: it gets an error.
    assert_eq!(outbox.close(Duration::from_millis(50)).unwrap().to_string(), "1 accepted: 1 unsent");
    let error = waiting.join().unwrap();
    let error = error.get_ref().and_then(|error| error.downcast_ref::<SendError>()).unwrap();
    assert!(error.is_final());
}

#[test]
fn last_handle_leaves_the_rest_to_the_background() {
    let (address, lines) = server(usize::MAX);
    let outbox = Outbox::builder(Conn::builder(address)).start_blocking().unwrap();
    for number in 0..1_000 {
        outbox.send(format!("{number}\n")).unwrap();
    }
    drop(outbox);
    for number in 0..1_000 {
        assert_eq!(lines.recv_timeout(HANG_LIMIT).unwrap(), number.to_string());
    }
}

#[test]
fn hooks_may_send_and_wait() {
    let (address, lines) = server(usize::MAX);
    let (handles, handle) = mpsc::channel::<perconn::outbox::blocking::Outbox>();
    let handle = std::sync::Mutex::new(handle);
    let conn = quick(Conn::builder(address)).on_event(move |event| {
        if let perconn::Event::Connected { .. } = event {
            let outbox = handle.lock().unwrap().recv().unwrap();
            assert_eq!(outbox.send_and_wait("from the hook\n").unwrap(), Fate::Written);
        }
    });
    let outbox = Outbox::builder(conn).when_full(WhenFull::DropOldest).start_blocking().unwrap();
    handles.send(outbox).unwrap();
    assert_eq!(lines.recv_timeout(HANG_LIMIT).unwrap(), "from the hook");
}

#[tokio::test]
async fn tasks_of_a_runtime_may_use_it_too() {
    let (address, lines) = server(usize::MAX);
    let outbox = Outbox::builder(Conn::builder(address)).start_blocking().unwrap();
    assert_eq!(outbox.send_and_wait("from a task\n").unwrap(), Fate::Written);
    assert_eq!(lines.recv_timeout(HANG_LIMIT).unwrap(), "from a task");
    assert_eq!(outbox.close(HANG_LIMIT).unwrap().written, 1);
}
