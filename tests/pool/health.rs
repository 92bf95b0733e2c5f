//! Which connections are never lent again.

use std::io;
use std::time::Duration;

use perconn::pool::{CloseReason, Pool};
use perconn::{Dial, TcpDialer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use crate::fixtures::{CloseReasons, EchoServer, echo};
use crate::support::{Server, in_time, reset};

#[tokio::test]
async fn connection_that_its_peer_has_closed_is_not_lent() {
    let server = Server::start().await;
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(1));
    let resource = pool.resource(server.address).unwrap();
    for end in [drop::<TcpStream>, reset] {
        let (conn, peer) = in_time("a dial", async { tokio::join!(resource.get(), server.accept()) }).await;
        drop(conn.unwrap());
        end(peer);
        // On the loopback the close has arrived when the call returns. The runtime has not polled its sockets since.
    }
    let (conn, _peer) = in_time("a dial", async { tokio::join!(resource.get(), server.accept()) }).await;
    assert!(!conn.unwrap().is_reused());
    assert_eq!(reasons.list(), [CloseReason::Dead, CloseReason::Dead]);
    assert_eq!(pool.stats().found_dead, 2);
}

#[tokio::test]
async fn connection_with_unexpected_bytes_is_not_lent() {
    let server = Server::start().await;
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(1));
    let resource = pool.resource(server.address).unwrap();
    let (conn, mut peer) = in_time("a dial", async { tokio::join!(resource.get(), server.accept()) }).await;
    drop(conn.unwrap());
    peer.write_all(b"an answer that came too late").await.unwrap();
    let (conn, _peer) = in_time("a dial", async { tokio::join!(resource.get(), server.accept()) }).await;
    assert!(!conn.unwrap().is_reused());
    assert_eq!(reasons.list(), [CloseReason::Dead]);
}

#[tokio::test]
async fn connection_whose_bytes_were_all_read_is_lent() {
    let server = EchoServer::start().await;
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource(server.address).unwrap();
    for _ in 0..100 {
        echo(&mut in_time("get", resource.get()).await.unwrap()).await;
    }
    assert_eq!((pool.stats().opened, pool.stats().found_dead), (1, 0));
}

#[cfg(unix)]
#[tokio::test]
async fn unix_connection_is_checked_as_well() {
    let folder = std::env::temp_dir().join(format!("perconn-pool-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource_with("a socket", perconn::UnixDialer::new(&path)).unwrap();
    for is_quiet in [true, false] {
        let (conn, peer) = in_time("a dial", async { tokio::join!(resource.get(), listener.accept()) }).await;
        drop(conn.unwrap());
        let (mut peer, _) = peer.unwrap();
        if is_quiet {
            assert!(in_time("get", resource.get()).await.unwrap().is_reused());
        } else {
            peer.write_all(b"!").await.unwrap();
        }
    }
    let (conn, _peer) = in_time("a dial", async { tokio::join!(resource.get(), listener.accept()) }).await;
    assert!(!conn.unwrap().is_reused());
    assert_eq!(pool.stats().found_dead, 2);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn dialer_is_asked_whether_a_stream_of_its_own_is_closed() {
    struct Buffered(TcpDialer);
    impl Dial for Buffered {
        type Stream = BufStream<TcpStream>;
        async fn dial(&mut self) -> io::Result<Self::Stream> {
            self.0.dial().await.map(BufStream::new)
        }
        fn is_closed(stream: &Self::Stream) -> bool {
            TcpDialer::is_closed(stream.get_ref())
        }
    }
    let server = Server::start().await;
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource_with("buffered", Buffered(TcpDialer::new(server.address))).unwrap();
    let (conn, peer) = in_time("a dial", async { tokio::join!(resource.get(), server.accept()) }).await;
    drop((conn.unwrap(), peer));
    let (conn, _peer) = in_time("a dial", async { tokio::join!(resource.get(), server.accept()) }).await;
    assert!(!conn.unwrap().is_reused());
}

#[tokio::test]
async fn after_a_failover_each_caller_dials_once_and_gets_no_error() {
    let server = EchoServer::start().await;
    let address = server.address;
    let pool = Pool::new(20).unwrap();
    let resources: Vec<_> = (0..20).map(|_| pool.resource(address).unwrap()).collect();
    for resource in &resources {
        echo(&mut in_time("get", resource.get()).await.unwrap()).await;
    }
    server.stop().await;
    let _server = EchoServer::start_at(address).await;
    for resource in &resources {
        echo(&mut in_time("get", resource.get()).await.unwrap()).await;
    }
    assert_eq!((pool.stats().opened, pool.stats().found_dead), (40, 20));
}

/// A resource that is not a socket: only the time limits apply to it.
fn timed(pool: &Pool) -> perconn::pool::Resource<u8> {
    pool.resource_fn("a byte", || std::future::ready(Ok(1)))
}

#[tokio::test(start_paused = true)]
async fn connection_that_is_too_old_is_not_lent() {
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(1).max_age(Duration::from_secs(60)));
    let resource = timed(&pool);
    drop(resource.get().await.unwrap());
    // The limit of a connection is up to a tenth lower.
    tokio::time::sleep(Duration::from_secs(53)).await;
    assert!(resource.get().await.unwrap().is_reused());
    tokio::time::sleep(Duration::from_secs(8)).await;
    let conn = resource.get().await.unwrap();
    assert!(!conn.is_reused());
    // A connection that has become too old in use is closed as well.
    tokio::time::sleep(Duration::from_secs(61)).await;
    drop(conn);
    assert_eq!(reasons.list(), [CloseReason::Aged, CloseReason::Aged]);
}

#[tokio::test(start_paused = true)]
async fn connection_that_is_idle_for_too_long_is_closed() {
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(2).idle_timeout(Duration::from_secs(60)));
    let (one, two) = (timed(&pool), timed(&pool));
    drop(one.get().await.unwrap());
    tokio::time::sleep(Duration::from_secs(30)).await;
    drop(two.get().await.unwrap());
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!((pool.stats().idle, reasons.list()), (1, vec![CloseReason::Idle]));
    // A connection in use stays open.
    for _ in 0..10 {
        drop(two.get().await.unwrap());
        tokio::time::sleep(Duration::from_secs(50)).await;
    }
    assert_eq!(pool.stats().idle, 1);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(pool.stats().idle, 0);
    // The task that closed it has ended; another one begins.
    drop(one.get().await.unwrap());
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!((pool.stats().idle, reasons.list().len()), (0, 3));
}

#[test]
fn idle_connections_are_closed_by_the_next_runtime_when_one_is_gone() {
    let pool = Pool::builder(1).idle_timeout(Duration::from_millis(20)).build().unwrap();
    let resource = timed(&pool);
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { drop(resource.get().await.unwrap()) });
        drop(runtime);
        assert_eq!(pool.stats().idle, 1);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        drop(resource.get().await.unwrap());
        in_time("the close", async {
            while pool.stats().idle > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    });
}

#[tokio::test]
async fn connection_is_lent_again_after_a_read_that_fills_its_buffer_exactly() {
    let server = Server::start().await;
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource(server.address).unwrap();
    let (conn, mut peer) = in_time("a dial", async { tokio::join!(resource.get(), server.accept()) }).await;
    let mut conn = conn.unwrap();
    peer.write_all(b"12345678").await.unwrap();
    conn.read_exact(&mut [0; 8]).await.unwrap();
    drop(conn);
    assert!(in_time("get", resource.get()).await.unwrap().is_reused());
}

#[test]
fn connections_of_a_runtime_that_is_gone_are_not_lent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let pool = Pool::new(2).unwrap();
    let resource = pool.resource(address).unwrap();
    let mut peers = Vec::new();
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut conn = in_time("get", resource.get()).await.unwrap();
            conn.write_all(b"x").await.unwrap();
        });
        peers.push(listener.accept().unwrap());
    }
    assert_eq!((pool.stats().opened, pool.stats().found_dead), (3, 2));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn connection_with_an_urgent_byte_is_not_lent() {
    let server = Server::start().await;
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource(server.address).unwrap();
    let (conn, peer) = in_time("a dial", async { tokio::join!(resource.get(), server.accept()) }).await;
    drop(conn.unwrap());
    socket2::SockRef::from(&peer).send_out_of_band(b"!").unwrap();
    let (conn, _peer) = in_time("a dial", async { tokio::join!(resource.get(), server.accept()) }).await;
    assert!(!conn.unwrap().is_reused());
}

#[tokio::test]
async fn layered_connection_with_unexpected_bytes_is_not_lent() {
    let server = Server::start().await;
    let pool = Pool::new(1).unwrap();
    let address = server.address;
    let dialer = perconn::dial_fn(move || async move { TcpStream::connect(address).await.map(BufStream::new) });
    let resource = pool.resource_with("layered", dialer).unwrap();
    let (conn, mut peer) = in_time("a dial", async { tokio::join!(resource.get(), server.accept()) }).await;
    drop(conn.unwrap());
    assert!(in_time("get", resource.get()).await.unwrap().is_reused());
    peer.write_all(b"an answer that came too late").await.unwrap();
    // The runtime has to see the bytes first.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let (conn, _peer) = in_time("a dial", async { tokio::join!(resource.get(), server.accept()) }).await;
    assert!(!conn.unwrap().is_reused());
}

#[test]
fn connection_that_was_idle_for_too_long_is_not_lent_even_if_no_task_has_closed_it() {
    let limit = Duration::from_millis(20);
    let pool = Pool::builder(1).idle_timeout(limit).build().unwrap();
    let resource = timed(&pool);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let conn = runtime.block_on(resource.get()).unwrap();
    // Outside of the runtime there is no task that could close it.
    drop(conn);
    std::thread::sleep(2 * limit);
    assert!(!runtime.block_on(resource.get()).unwrap().is_reused());
}

#[tokio::test]
async fn panic_of_the_health_check_means_dead() {
    struct Panics;
    impl Dial for Panics {
        type Stream = tokio::io::DuplexStream;
        async fn dial(&mut self) -> io::Result<Self::Stream> {
            Ok(tokio::io::duplex(1).0)
        }
        fn is_closed(_: &Self::Stream) -> bool {
            std::panic::resume_unwind(Box::new("on purpose"))
        }
    }
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource_with("panics", Panics).unwrap();
    for _ in 0..3 {
        drop(resource.get().await.unwrap());
    }
    assert_eq!((pool.stats().opened, pool.stats().found_dead), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn task_that_closes_many_idle_connections_yields() {
    let limit = Duration::from_secs(60);
    let pool = Pool::builder(200).idle_timeout(limit).build().unwrap();
    let resources: Vec<_> = (0..200).map(|_| timed(&pool)).collect();
    for resource in &resources {
        drop(resource.get().await.unwrap());
    }
    tokio::task::yield_now().await;
    tokio::time::advance(2 * limit).await;
    let mut before = pool.stats().idle;
    assert!(before > 100);
    while before > 0 {
        tokio::task::yield_now().await;
        let idle = pool.stats().idle;
        assert!(before - idle <= 50, "{} were closed without a yield", before - idle);
        before = idle;
    }
}

#[cfg(all(target_os = "linux", not(perconn_portable)))]
#[tokio::test]
async fn unix_connection_whose_peer_has_stopped_reading_is_not_lent() {
    let (peers, mut dialed) = tokio::sync::mpsc::unbounded_channel();
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource_fn("a pair", move || {
        let pair = tokio::net::UnixStream::pair();
        std::future::ready(pair.map(|(stream, peer)| {
            peers.send(peer).unwrap();
            stream
        }))
    });
    drop(resource.get().await.unwrap());
    let peer = dialed.recv().await.unwrap();
    assert!(resource.get().await.unwrap().is_reused());
    // The check has sent nothing.
    assert_eq!(peer.try_read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    socket2::SockRef::from(&peer).shutdown(std::net::Shutdown::Read).unwrap();
    assert!(!resource.get().await.unwrap().is_reused());
}
