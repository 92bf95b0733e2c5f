//! File descriptors: an idle handle keeps few, and a dial that finds none left fails and recovers.
//!
//! A binary of its own, for two reasons. One test counts the descriptors of its process. Another starts a process,
//! which holds copies of all descriptors until its `exec`: a socket that a test drops meanwhile is closed late.

#![cfg(unix)]

mod support;

use std::fs::File;
use std::io;
use std::process::Command;
use std::sync::Arc;

use perconn::Event;
use support::{Recorder, Server, in_time, next_event};

/// One test at a time counts the descriptors.
#[cfg(target_os = "linux")]
static COUNTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[cfg(target_os = "linux")]
#[tokio::test]
async fn idle_handle_keeps_at_most_one_broken_link() {
    use support::{reset, wait_for_generation};

    const CLIENTS: usize = 60;
    let _alone = COUNTING.lock().await;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let server = Server::start().await;
    let mut pairs = Vec::new();
    for _ in 0..CLIENTS {
        pairs.push(server.pair().await);
    }
    let before = descriptors();
    for generation in 2..=4 {
        let mut next = Vec::new();
        for (conn, peer) in pairs {
            reset(peer);
            let peer = server.accept().await;
            wait_for_generation(&conn, generation).await;
            next.push((conn, peer));
        }
        pairs = next;
    }
    // Each handle keeps its live link and the broken one that it has not reported. The other test of this binary takes
    // a few.
    let after = descriptors();
    assert!(after <= before + CLIENTS + CLIENTS / 2, "{before} descriptors, then {after}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn connection_that_is_only_written_keeps_one_descriptor() {
    use perconn::SharedConn;
    use support::wait_for_disconnect;
    use tokio::io::AsyncWriteExt;

    const CLIENTS: usize = 60;
    let _alone = COUNTING.lock().await;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let server = Server::start().await;
    let before = descriptors();
    let mut all: Vec<(SharedConn, _)> = Vec::new();
    for _ in 0..CLIENTS {
        let (conn, mut peer) = server.pair().await;
        let conn = conn.into_shared();
        for generation in 1..4 {
            // Bytes that nobody will read.
            peer.write_all(b"banner").await.unwrap();
            in_time("a job", conn.write_all(b"log")).await.unwrap();
            let break_seen = wait_for_disconnect(conn.watch_status());
            drop(peer);
            in_time("the break", break_seen).await;
            peer = server.accept().await;
            let next = |status: &perconn::Status| matches!(status, perconn::Status::Connected { generation: up, .. } if *up > generation);
            in_time("the next link", conn.watch_status().wait_for(next)).await.unwrap();
            in_time("a job", conn.write_all(b"log")).await.unwrap();
        }
        all.push((conn, peer));
    }
    // Its live link, and the server's end of it. The other tests of this binary take a few.
    let each = (descriptors() - before) as f64 / CLIENTS as f64;
    assert!(each < 2.5, "{each} descriptors for each connection, and the server's end is one");
}

/// Runs the next test in a child process with a limit of 40 descriptors.
#[test]
fn dial_without_descriptors_fails_and_recovers() {
    let me = std::env::current_exe().unwrap();
    let script = "ulimit -n 40; exec \"$0\" --exact dial_without_descriptors_in_the_child_process --nocapture";
    let child = Command::new("sh").arg("-c").arg(script).arg(me).env(FEW_DESCRIPTORS, "1").output();
    let output = child.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("recovered from the descriptor limit"), "{text}");
}

const FEW_DESCRIPTORS: &str = "PERCONN_TEST_WITH_FEW_DESCRIPTORS";

/// Passes at once unless the test above has started this process.
#[tokio::test]
async fn dial_without_descriptors_in_the_child_process() {
    if std::env::var_os(FEW_DESCRIPTORS).is_none() {
        // The test above runs this one.
        return;
    }
    let server = Server::start().await;
    let (recorder, mut events) = Recorder::new();
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
        assert!(hoard.len() < 100, "the descriptor limit is not in force");
    }
    let conn = server.client().on_event(recorder.hook()).build().unwrap();
    let cause = next_event(&mut events, |event| match event {
        Event::DialFailed { attempt: 2, cause, .. } => Some(Arc::clone(cause)),
        _ => None,
    })
    .await;
    let source = std::error::Error::source(&*cause).unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(source.raw_os_error(), Some(24), "EMFILE");
    hoard.clear();
    let _peer = server.accept().await;
    in_time("connected", conn.connected()).await.unwrap();
    println!("recovered from the descriptor limit");
}
