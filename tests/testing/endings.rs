//! A proxy that is dropped leaves nothing behind.

use std::net::TcpListener;
use std::sync::Arc;

use perconn::testing::{Direction, FaultProxy, Link};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::in_time;
use crate::{dial, proxy, read_to_end};

#[tokio::test]
async fn drop_closes_the_links_and_frees_the_port() {
    for round in 0..20 {
        let proxy = proxy().await;
        proxy.script([Link::pass(), Link::accept_and_stall(), Link::refuse()]);
        let (mut one, mut other) = (dial(&proxy).await, dial(&proxy).await);
        match round % 4 {
            1 => proxy.refuse(),
            2 => proxy.stall(),
            3 => proxy.black_hole(Direction::ToServer),
            _ => {}
        }
        let address = proxy.addr();
        drop(proxy);
        let _ = read_to_end(&mut one).await;
        let _ = read_to_end(&mut other).await;
        // Nobody has the port, whatever the state of the old links.
        drop((one, other));
        let again = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        #[cfg(unix)]
        again.set_reuse_address(true).unwrap();
        again.bind(&address.into()).unwrap_or_else(|error| panic!("round {round}: {address}: {error}"));
    }
}

#[tokio::test]
async fn start_that_is_dropped_leaves_no_proxy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for _ in 0..50 {
        let start = FaultProxy::start_at(address, "127.0.0.1:1");
        // Polled once, then dropped. The proxy of the round before may still have the address.
        let _ = futures_util::future::FutureExt::now_or_never(start);
    }
    let proxy = in_time("the address is free", async {
        loop {
            match FaultProxy::start_at(address, "127.0.0.1:1").await {
                Ok(proxy) => return proxy,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    drop(proxy.await);
}

#[tokio::test]
async fn calls_work_while_a_runtime_is_blocked_or_its_time_is_paused() {
    tokio::time::pause();
    let proxy = proxy().await;
    let mut client = dial(&proxy).await;
    proxy.cut(perconn::testing::Cut::Close);
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    proxy.wait_for_ends(1).await;
}

/// The script runs on the proxy's thread, which cannot wait for itself.
#[tokio::test]
async fn script_that_calls_or_drops_its_own_proxy_ends_and_hangs_nobody() {
    let proxy = Arc::new(proxy().await);
    let own = Arc::clone(&proxy);
    proxy.script(std::iter::from_fn(move || {
        own.heal();
        Some(Link::accept_and_close())
    }));
    let mut client = dial(&proxy).await;
    client.write_all(b"x").await.unwrap();
    // Every link passes when the script is at its end.
    assert_eq!(in_time("an echo", client.read_u8()).await.unwrap(), b'x');

    let mut last = Some(Arc::clone(&proxy));
    let address = proxy.addr();
    let (dropped, is_dropped) = std::sync::mpsc::channel();
    proxy.script(std::iter::from_fn(move || {
        if Arc::strong_count(last.as_ref()?) == 1 {
            last = None;
            dropped.send(()).unwrap();
        }
        Some(Link::accept_and_close())
    }));
    drop(proxy);
    let drop_by_script = async {
        // Each link takes an entry, until one of them drops the proxy.
        while is_dropped.try_recv().is_err() {
            let _ = tokio::net::TcpStream::connect(address).await;
        }
    };
    in_time("the script drops the proxy", drop_by_script).await;
    in_time("the port is closed", async { while tokio::net::TcpStream::connect(address).await.is_ok() {} }).await;
}
