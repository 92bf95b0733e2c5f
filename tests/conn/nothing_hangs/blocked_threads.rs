//! No operation blocks its thread, and none keeps another task from running.

use std::sync::Arc;
use std::time::Duration;

use perconn::{Status, WhenDown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{HANG_LIMIT, Server, in_time};

/// Runs `test` on a runtime of one thread, and fails if it blocks that thread.
fn without_blocking(what: &str, test: impl Future<Output = ()> + Send + 'static) {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test);
        done.send(()).unwrap();
    });
    is_done.recv_timeout(HANG_LIMIT).unwrap_or_else(|_| panic!("blocks its thread: {what}"));
}

#[test]
fn loop_of_errors_lets_the_actor_run() {
    without_blocking("a loop of errors", async {
        let mut server = Server::start().await;
        server.stop();
        let mut conn = server.client().when_down(WhenDown::Fail).build().unwrap();
        server.restart().await;
        while conn.write_all(b"x").await.is_err() {}
    });
}

#[test]
fn loop_of_final_errors_lets_other_tasks_run() {
    without_blocking("a loop of final errors", async {
        let server = Server::start().await;
        let (mut conn, peer) = server.pair().await;
        conn.shutdown().await.unwrap();
        drop(peer);
        let reader = tokio::spawn(async move {
            loop {
                let _ = conn.read(&mut [0; 4]).await;
            }
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        reader.abort();
    });
}

#[test]
fn watching_the_status_blocks_no_task() {
    without_blocking("a watch of the status", async {
        let server = Server::start().await;
        let (conn, _peer) = server.pair().await;
        let mut status = conn.watch_status();
        assert!(status.current().is_connected());
        conn.break_link(1);
        let _peer = server.accept().await;
        in_time("connected", conn.connected()).await.unwrap();
        in_time("the status", status.wait_for(|status| status.is_connected())).await.unwrap();
        drop(conn);
        in_time("closed", status.wait_for(Status::is_final)).await.unwrap();
    });
}

#[test]
fn waker_that_drops_a_half_blocks_no_task() {
    use std::task::{Context, Wake, Waker};
    /// Drops a half when it is woken.
    struct Dropper(std::sync::Mutex<Option<perconn::ReadHalf>>);
    impl Wake for Dropper {
        fn wake(self: Arc<Self>) {
            self.0.lock().unwrap().take();
        }
    }
    without_blocking("a waker", async {
        let server = Server::start().await;
        let (conn, _peer) = server.pair().await;
        let (read, write) = conn.into_split();
        let mut status = read.watch_status();
        let waker = Waker::from(Arc::new(Dropper(std::sync::Mutex::new(Some(read)))));
        let mut changed = std::pin::pin!(status.changed());
        assert!(changed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        in_time("close", write.close()).await;
    });
}

#[tokio::test]
async fn pending_read_never_blocks_a_write() {
    let server = Server::start().await;
    let (conn, mut peer) = server.pair().await;
    let (mut read, mut write) = conn.into_split();
    let reader = tokio::spawn(async move { read.read_u8().await });
    for _ in 0..100 {
        in_time("write", write.write_all(b"ping")).await.unwrap();
        in_time("peer", peer.read_exact(&mut [0; 4])).await.unwrap();
    }
    peer.write_all(b"A").await.unwrap();
    assert_eq!(in_time("reader", reader).await.unwrap().unwrap(), b'A');
}
