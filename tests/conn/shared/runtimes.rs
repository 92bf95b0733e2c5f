//! Other runtimes and executors: calls work on them, and end when the connection's own runtime does.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use perconn::Conn;
use tokio_test::task::spawn;

use super::within;
use crate::support::{CLOSE_LIMIT, in_time};

#[test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
fn runtime_shutdown_ends_every_call() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let conn = runtime.block_on(async { Conn::connect(address).await.unwrap().into_shared() });
    let _peer = listener.accept().unwrap();
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(async {
        let bytes = vec![1; 50_000_000];
        let mut small = spawn(conn.write_all(b"small"));
        let _ = small.poll();
        let mut large = spawn(conn.write_all(&bytes));
        assert!(large.poll().is_pending());
        tokio::task::spawn_blocking(move || drop(runtime)).await.unwrap();
        assert!(in_time("write", large).await.is_err());
        assert!(in_time("write", conn.write_all(b"late")).await.is_err());
        assert!(in_time("read", conn.read(&mut [0; 8])).await.is_err());
    });
}

#[test]
fn close_works_on_a_foreign_executor() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let conn = runtime.block_on(async { Conn::connect(address).await.unwrap().into_shared() });
    let _peer = listener.accept().unwrap();
    block_on(conn.write_all(b"x")).unwrap();
    block_on(conn.close(CLOSE_LIMIT));
}

#[test]
fn close_works_on_a_runtime_without_timers() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let conn = runtime.block_on(async { Conn::connect(address).await.unwrap().into_shared() });
    let _peer = listener.accept().unwrap();
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    other.block_on(conn.close(CLOSE_LIMIT));
}

/// A minimal executor: it parks the thread until the waker unparks it.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Thread(std::thread::Thread);
    impl Wake for Thread {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Thread(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn runtime_that_ends_before_the_writing_task_ran_ends_every_write() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let conn = runtime.block_on(async { Conn::connect(address).await.unwrap().into_shared() });
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(async {
        for task in 0..3 {
            let conn = conn.clone();
            let call = tokio::spawn(async move { within(2000, conn.write_all(b"x")).await });
            let outcome = call.await.unwrap();
            assert!(outcome.is_some(), "task {task} hangs");
        }
    });
}
