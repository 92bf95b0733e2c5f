//! Connections of a process that forks: the new process makes its own, and those of the old one fail instead of hanging.
//!
//! A test program of its own, as only a thread that nothing else depends on may fork.

#![cfg(unix)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use perconn::blocking::Conn;
use perconn::{Builder, TcpDialer};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// Nothing here takes nearly as long.
const HANG: Duration = Duration::from_secs(20);

/// A server that sends back what it receives.
fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let stream = stream.unwrap();
                io::copy(&mut &stream, &mut &stream)
            });
        }
    });
    address
}

fn builder(address: SocketAddr) -> Builder<TcpDialer> {
    // Both threads that a connection can have besides the background thread run before the fork.
    perconn::Conn::builder(address).dial_timeout(HANG / 2).logger(|_| {}).on_event(|_| {})
}

fn exchange(conn: &mut Conn) -> io::Result<()> {
    conn.set_read_timeout(Some(HANG / 2))?;
    conn.write_all(b"ping")?;
    let mut answer = [0; 4];
    conn.read_exact(&mut answer)?;
    assert_eq!(&answer, b"ping");
    Ok(())
}

/// Runs `work` in a fork. Returns whether it was well; a fork that hangs is killed.
#[allow(unsafe_code, reason = "no crate has fork(2) without")]
fn is_well_in_a_fork(work: impl FnOnce() -> bool) -> bool {
    // SAFETY: the new process has one thread, which runs `work` and ends the process. The memory of libc is usable in it
    // (glibc and musl take the locks of `malloc` around the fork), and `work` uses no lock that another thread of the
    // test can hold.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
    if pid == 0 {
        let is_well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(false);
        // SAFETY: it ends the process at once.
        unsafe { libc::_exit(if is_well { 0 } else { 1 }) }
    }
    let pid = Pid::from_raw(pid).unwrap();
    let begin = Instant::now();
    loop {
        if let Some((_, status)) = waitpid(Some(pid), WaitOptions::NOHANG).unwrap() {
            return status.exit_status() == Some(0);
        }
        if begin.elapsed() > HANG {
            kill_process(pid, Signal::KILL).unwrap();
            let _ = waitpid(Some(pid), WaitOptions::empty());
            panic!("the fork hangs");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn fork_with_an_open_connection() {
    let address = echo_server();
    let mut conn = builder(address).connect_blocking().unwrap();
    exchange(&mut conn).unwrap();

    // A connection of its own works, and a fork of the fork has one, too.
    let new_one = || {
        let mut conn = builder(address).connect_blocking().unwrap();
        exchange(&mut conn).is_ok()
    };
    assert!(is_well_in_a_fork(|| new_one() && is_well_in_a_fork(new_one) && new_one()));

    // The old one says what is wrong, whatever waits.
    assert!(is_well_in_a_fork(|| {
        let error = conn.read(&mut [0]).unwrap_err();
        let waits = conn.connected(None).unwrap_err();
        [&error, &waits].into_iter().all(|error| {
            error.kind() == io::ErrorKind::Unsupported && error.to_string().starts_with("a connection of process ")
        })
    }));

    // Its drop and its close end, and leave the link alone.
    let mut closed = builder(address).connect_blocking().unwrap();
    let mut dropped = Some(conn);
    // So do the calls that would end the link.
    let mut abandoned = builder(address).connect_blocking().unwrap();
    assert!(is_well_in_a_fork(|| {
        closed.close();
        drop(dropped.take());
        abandoned.break_link(1);
        abandoned.abandon();
        abandoned.shutdown().is_err_and(|error| error.kind() == io::ErrorKind::Unsupported)
    }));
    for conn in [&mut closed, &mut dropped.unwrap(), &mut abandoned] {
        exchange(conn).unwrap();
        assert_eq!(conn.generation(), 1);
    }

    #[cfg(feature = "outbox")]
    fork_with_an_outbox(address);
}

/// In the same test, as no other thread may run a test during a fork.
#[cfg(feature = "outbox")]
fn fork_with_an_outbox(address: SocketAddr) {
    use perconn::outbox::{Fate, Outbox};
    let outbox = Outbox::builder(builder(address)).start_blocking().unwrap();
    assert_eq!(outbox.send_and_wait("before").unwrap(), Fate::Written);
    assert!(is_well_in_a_fork(|| {
        let errors = [outbox.send("a").unwrap_err(), outbox.flush(HANG).unwrap_err(), outbox.close(HANG).unwrap_err()];
        errors.iter().all(|error| error.kind() == io::ErrorKind::Unsupported)
            && outbox.try_send("a").unwrap_err().is_final()
    }));
    assert_eq!(outbox.send_and_wait("after").unwrap(), Fate::Written);
}
