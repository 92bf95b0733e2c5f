//! A handler that never returns, on a TLS session that has ended.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime;
use tokio::sync::oneshot;

use crate::authority::Authority;
use crate::common::local;
use crate::support::HANG;

/// The handler reads `Ok(0)` in a loop and so never waits. `stop` aborts it all the same.
#[test]
fn loop_over_the_end_of_a_session_can_be_aborted() {
    let test = async {
        let authority = Authority::new();
        let (sender, ended) = oneshot::channel();
        let sender = Mutex::new(Some(sender));
        let acceptor = local().tls(authority.server()).handler(move |mut stream, _| {
            let mut sender = sender.lock().unwrap().take();
            async move {
                loop {
                    let _ = stream.read(&mut [0; 4]).await?;
                    drop(sender.take());
                }
            }
        });
        let acceptor = acceptor.build().unwrap();
        let mut session = authority.session(&acceptor).await.unwrap();
        session.shutdown().await.unwrap();
        let _: Result<(), _> = ended.await;
        let stopped = acceptor.stop(Duration::from_millis(50)).await;
        assert_eq!((stopped.finished + stopped.idle, stopped.cut), (0, 1));
    };
    // A busy loop would keep a timeout of the same runtime from firing, so a thread of its own runs the test.
    let (sender, done) = mpsc::channel();
    std::thread::spawn(move || {
        runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
        let _ = sender.send(());
    });
    assert!(done.recv_timeout(HANG / 2).is_ok(), "hangs: a loop over Ok(0)");
}
