//! A proxy that only copies bytes, in front of an HTTP server: a stop of the proxy waits for the answers.

use std::time::Duration;

use perconn::acceptor::{Acceptor, Stream};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::http::{App, Version, acceptor, ask, expected};
use crate::support::in_time;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_copying_proxy_are_served() {
    for (version, paths) in [
        (Version::One, &["/slow"][..]),
        (Version::One, &["/stream"]),
        (Version::One, &["/upload"]),
        (Version::Two, &["/quick", "/slow", "/stream"]),
    ] {
        let app = App::new();
        let server = acceptor(version, app.clone(), true);
        let upstream = server.local_addr().unwrap();
        let copy = move |mut stream: Stream, _| async move {
            let mut upstream = TcpStream::connect(upstream).await?;
            tokio::io::copy_bidirectional(&mut stream, &mut upstream).await.map(drop)
        };
        let proxy = Acceptor::builder("127.0.0.1:0").handler(copy).logger(|_| {}).build().unwrap();
        let mut clients = JoinSet::new();
        for _ in 0..8 {
            clients.spawn(ask(proxy.local_addr().unwrap(), version, paths));
        }
        app.wait_for(8 * paths.len()).await;
        sleep(Duration::from_millis(250)).await;
        let stopped = in_time("stop", proxy.stop(Duration::from_secs(30))).await;
        for outcome in in_time("the clients", clients.join_all()).await {
            assert_eq!(outcome.unwrap(), expected(paths), "{version:?} {paths:?}");
        }
        assert_eq!(stopped.cut, 0, "{version:?} {paths:?}: {stopped:?}");
    }
}
