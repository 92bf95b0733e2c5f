//! Invalid settings: building the connection fails with an error that names the value and what was expected.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::support::{Server, in_time, quick};
use perconn::{Builder, Conn, Error, TcpDialer, dial_fn};

fn rejected(builder: Builder<TcpDialer>, expected: &[&str]) {
    let error = builder.build().unwrap_err();
    assert!(matches!(error, Error::InvalidConfig(_)), "{error:?}");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    let text = error.to_string();
    for part in expected {
        assert!(text.contains(part), "{part:?} is missing in {text:?}");
    }
}

#[tokio::test]
async fn invalid_settings_are_named() {
    let good = || Conn::builder("127.0.0.1:9");
    let zero = Duration::ZERO;
    rejected(good().retry_min(zero), &["retry_min 0ns"]);
    rejected(good().retry_max(zero), &["retry_max 0ns", "1s"]);
    rejected(good().retry_min(Duration::from_secs(5)).retry_max(Duration::from_secs(4)), &["retry_max 4s", "5s"]);
    rejected(good().retry_min(Duration::from_secs(90)), &["retry_max 60s", "90s"]);
    rejected(good().dial_timeout(zero), &["dial_timeout 0ns", "None"]);
    rejected(good().job_queue_size(0), &["job_queue_size 0"]);
    // With 32 bits, no number is too large.
    #[cfg(target_pointer_width = "64")]
    rejected(good().job_queue_size(usize::MAX), &["job_queue_size 18446744073709551615"]);
}

#[tokio::test]
async fn addresses_that_cannot_be_dialed_are_named() {
    for (address, reason) in [
        ("", "\"\""),
        ("localhost", "no port"),
        ("localhost:0", "port 0"),
        ("localhost:65536", "65535"),
        ("::1:80", "brackets"),
        ("not a host:80", "neither a name nor an IP address"),
    ] {
        rejected(Conn::builder(address), &[&format!("{address:?}"), reason]);
        let error = in_time("connect", Conn::connect(address)).await.unwrap_err();
        assert!(matches!(error, Error::InvalidConfig(_)));
    }
    rejected(Conn::builder(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))), &["127.0.0.1:0"]);
}

#[test]
fn building_outside_of_a_runtime_is_an_error_and_no_panic() {
    rejected(Conn::builder("127.0.0.1:9"), &["runtime"]);
}

#[tokio::test]
async fn extreme_settings_work() {
    let server = Server::start().await;
    let builder = server
        .client()
        .retry_min(Duration::from_nanos(1))
        .retry_max(Duration::MAX)
        .dial_timeout(Duration::MAX)
        .stable_after(Duration::MAX)
        .max_retries(u32::MAX)
        .job_queue_size(1_000_000);
    let (conn, _peer) = tokio::join!(builder.connect(), server.accept());
    conn.unwrap();
    let builder = server.client().dial_timeout(None).max_retries(None);
    let (conn, _peer) = tokio::join!(builder.connect(), server.accept());
    conn.unwrap();
}

#[tokio::test]
async fn nodelay_needs_a_tcp_stream() {
    let memory = dial_fn(|| std::future::ready(Ok(tokio::io::duplex(64).0)));
    let error = quick(Conn::builder("memory").dialer(memory)).nodelay(true).build().unwrap_err();
    assert!(matches!(&error, Error::InvalidConfig(text) if text.contains("DuplexStream")), "{error:?}");
}

#[tokio::test]
async fn nodelay_is_set_on_every_link() {
    let server = Server::start().await;
    for nodelay in [true, false] {
        let builder = server.client().nodelay(nodelay);
        let (conn, mut peer) = tokio::join!(builder.connect(), server.accept());
        let mut conn = conn.unwrap();
        for _ in 0..3 {
            assert_eq!(conn.get_ref().unwrap().nodelay().unwrap(), nodelay);
            drop(peer);
            in_time("the break", tokio::io::AsyncReadExt::read(&mut conn, &mut [0; 4])).await.unwrap();
            peer = server.accept().await;
            in_time("connected", conn.connected()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn address_of_a_custom_dialer_can_be_any_text() {
    let memory = || std::future::ready(Ok(tokio::io::duplex(64).0));
    let conn = in_time("connect", Conn::builder("the queue in the cellar").dialer(memory).connect()).await.unwrap();
    assert!(format!("{conn:?}").contains("the queue in the cellar"));
}
