//! Wakers that misbehave: they drop another call, or panic, and other calls go on.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use perconn::{Conn, SharedConn};
use tokio::io::AsyncReadExt;

use crate::support::{Server, in_time, quick, refused_address};

#[test]
fn waker_whose_drop_drops_another_call_does_not_deadlock() {
    type Call = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;
    struct Holder(#[expect(dead_code, reason = "only its drop matters")] Mutex<Option<Call>>);
    impl Wake for Holder {
        fn wake(self: Arc<Self>) {}
    }
    let (sender, done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let address = refused_address().await;
            let conn = quick(Conn::builder(address)).build().unwrap().into_shared();
            let mut noop = Context::from_waker(Waker::noop());
            let job = |conn: SharedConn| Box::pin(async move { conn.write_all(b"x").await });
            let mut front = job(conn.clone());
            assert!(front.as_mut().poll(&mut noop).is_pending());
            let mut held = job(conn.clone());
            assert!(held.as_mut().poll(&mut noop).is_pending());
            let waker = Waker::from(Arc::new(Holder(Mutex::new(Some(held)))));
            let mut call = job(conn.clone());
            assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            drop(call);
        });
        sender.send(()).unwrap();
    });
    assert!(done.recv_timeout(Duration::from_secs(5)).is_ok(), "deadlock");
}

#[tokio::test]
async fn waker_that_panics_does_not_affect_other_calls() {
    struct PanicsOnWake;
    impl Wake for PanicsOnWake {
        fn wake(self: Arc<Self>) {
            std::panic::resume_unwind(Box::new("from the waker"));
        }
    }
    let server = Server::start().await;
    let address = server.address;
    let conn = quick(Conn::builder(address)).build().unwrap().into_shared();
    let waker = Waker::from(Arc::new(PanicsOnWake));
    let small = vec![1; 10];
    let large = vec![2; 20_000];
    let mut calls = [Box::pin(conn.write_all(&small)), Box::pin(conn.write_all(&large))];
    for call in &mut calls {
        assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    let mut peer = server.accept().await;
    in_time("the small job", peer.read_exact(&mut [0; 10])).await.unwrap();
    for call in calls {
        in_time("write", call).await.unwrap();
    }
    in_time("another job", conn.write_all(b"x")).await.unwrap();
}
