//! Paths of Unix sockets that several servers compete for.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use perconn::acceptor::{Acceptor, Error, Listen, Overflow};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixStream;
use tokio::runtime::Handle;

use crate::common::{LONG, echo, figures};
use crate::support::{HANG_LIMIT, in_time};

/// A folder for one test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("perconn-{}-{test}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn build(path: &Path) -> Result<Acceptor, Error> {
    Acceptor::builder(Listen::unix(path)).logger(|_| {}).handler(echo).build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn socket_of_an_overloaded_server_is_not_stale() {
    let folder = Folder::new("overloaded");
    let path = folder.socket();
    let builder = Acceptor::builder(Listen::unix(&path)).acceptors(1).overflow(Overflow::Wait).backlog(1);
    let overloaded = builder.handler(echo).build().unwrap();
    let _served = UnixStream::connect(&path).await.unwrap();
    figures(&overloaded, "it is served", |stats| stats.busy == 1).await;
    // This fills the kernel's queue.
    let mut waiting = Vec::new();
    let error = loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        match socket.connect(&SockAddr::unix(&path).unwrap()) {
            Ok(()) => waiting.push(socket),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    // It runs in a thread of its own, because a fault would block it.
    let (sender, outcome) = mpsc::channel();
    let (runtime, copy) = (Handle::current(), path.clone());
    thread::spawn(move || {
        let _within = runtime.enter();
        let _ = sender.send(build(&copy));
    });
    let outcome = tokio::task::spawn_blocking(move || outcome.recv_timeout(HANG_LIMIT / 2)).await.unwrap();
    let error = outcome.expect("build blocks").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(path.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_servers_that_start_at_once_gets_the_path() {
    let folder = Folder::new("two");
    let path = folder.socket();
    for round in 0..200 {
        if round % 2 == 0 {
            crate::listeners::leave_stale_file(&path);
        }
        let barrier = Arc::new(Barrier::new(2));
        let start = || {
            let (barrier, runtime, path) = (Arc::clone(&barrier), Handle::current(), path.clone());
            thread::spawn(move || {
                let _within = runtime.enter();
                barrier.wait();
                build(&path)
            })
        };
        let [first, second] = [start(), start()].map(|thread| thread.join().unwrap());
        let (winner, error) = match (first, second) {
            (Ok(acceptor), Err(error)) | (Err(error), Ok(acceptor)) => (acceptor, error),
            both => panic!("in round {round}: {both:?}"),
        };
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        in_time("connect", UnixStream::connect(&path)).await.unwrap();
        in_time("stop", winner.stop(LONG)).await;
        assert!(!path.exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn successor_keeps_its_file_when_its_predecessor_stops() {
    const ROUNDS: usize = 300;
    let folder = Folder::new("successor");
    let path = folder.socket();
    let [served, stopped, lost] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
    let contend = || {
        let (runtime, path) = (Handle::current(), path.clone());
        let (served, stopped, lost) = (Arc::clone(&served), Arc::clone(&stopped), Arc::clone(&lost));
        thread::spawn(move || {
            let _within = runtime.enter();
            while stopped.load(Ordering::SeqCst) < ROUNDS {
                let Ok(acceptor) = build(&path) else {
                    thread::yield_now();
                    continue;
                };
                let predecessors = served.fetch_add(1, Ordering::SeqCst);
                while stopped.load(Ordering::SeqCst) < predecessors {
                    thread::sleep(Duration::from_micros(20));
                }
                if std::os::unix::net::UnixStream::connect(&path).is_err() {
                    lost.fetch_add(1, Ordering::SeqCst);
                }
                runtime.block_on(acceptor.stop(LONG));
                stopped.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    let contenders = [contend(), contend(), contend()];
    let joining = tokio::task::spawn_blocking(|| contenders.map(|thread| thread.join().unwrap()));
    in_time("all rounds", joining).await.unwrap();
    assert_eq!(lost.load(Ordering::SeqCst), 0, "unreachable, of {}", served.load(Ordering::SeqCst));
}

/// Marks a child process. It has a working folder of its own, and a process has only one.
const CHILD: &str = "PERCONN_TEST_CHILD";

/// Returns whether this is the child process. If not, runs the test in one that starts in `folder`.
fn is_child(test: &str, folder: impl FnOnce() -> PathBuf) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env(CHILD, "").current_dir(folder());
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    false
}

#[tokio::test]
async fn relative_path_is_removed_although_the_program_has_changed_its_folder() {
    let folder = Folder::new("relative");
    if !is_child("unix::relative_path_is_removed_although_the_program_has_changed_its_folder", || folder.0.clone()) {
        return;
    }
    let acceptor = build(Path::new("socket")).unwrap();
    let path = std::env::current_dir().unwrap().join("socket");
    assert!(path.exists());
    // Daemons do this.
    std::env::set_current_dir("/").unwrap();
    in_time("stop", acceptor.stop(LONG)).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn relative_path_may_be_short_in_a_folder_with_a_long_name() {
    let folder = Folder::new("long");
    let deep = || {
        let path = folder.0.join("x".repeat(150));
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    if !is_child("unix::relative_path_may_be_short_in_a_folder_with_a_long_name", deep) {
        return;
    }
    let acceptor = build(Path::new("socket")).unwrap();
    in_time("connect", UnixStream::connect("socket")).await.unwrap();
    in_time("stop", acceptor.stop(LONG)).await;
    assert!(!Path::new("socket").exists());
}
