//! What becomes of dials.

use std::io::ErrorKind;
use std::time::Duration;

use perconn::testing::{Cut, FaultProxy, Link, LinkEnd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{in_time, refused_address};
use crate::{dial, exchange, link, proxy, proxy_and_listener, read_to_end};

/// How a link ends on which nothing is sent. A reset may come before the dial is ready.
async fn end_of_dial(proxy: &FaultProxy) -> std::io::Result<()> {
    let mut client = in_time("dial", TcpStream::connect(proxy.addr())).await?;
    read_to_end(&mut client).await.1
}

#[tokio::test]
async fn script_is_played_link_by_link_and_then_everything_passes() {
    let (proxy, listener) = proxy_and_listener().await;
    proxy.script([Link::accept_and_close(), Link::accept_and_reset(), Link::pass()]);
    let (_, outcome) = read_to_end(&mut dial(&proxy).await).await;
    outcome.unwrap();
    assert_eq!(end_of_dial(&proxy).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    for _ in 0..3 {
        let (mut client, mut server) = link(&proxy, &listener).await;
        exchange(&mut client, &mut server).await;
    }
    assert_eq!(proxy.ledger().len(), 5);
    let ends = proxy.ledger().into_iter().map(|record| format!("{:?}", record.end)).collect::<Vec<_>>();
    assert_eq!(ends[..2], ["Some(Cut(Close))", "Some(Cut(Reset))"]);
}

#[tokio::test]
async fn script_may_be_endless_and_is_replaced_by_the_next() {
    let (proxy, listener) = proxy_and_listener().await;
    proxy.script(std::iter::repeat(Link::accept_and_close()));
    for _ in 0..5 {
        assert_eq!(read_to_end(&mut dial(&proxy).await).await.0, b"");
    }
    proxy.script([]);
    let (mut client, mut server) = link(&proxy, &listener).await;
    exchange(&mut client, &mut server).await;
}

#[tokio::test]
async fn script_that_panics_is_at_its_end() {
    let (proxy, listener) = proxy_and_listener().await;
    let mut entries = 0;
    proxy.script(std::iter::from_fn(move || {
        entries += 1;
        assert!(entries < 2, "a panic of the test's own script");
        Some(Link::accept_and_close())
    }));
    assert_eq!(read_to_end(&mut dial(&proxy).await).await.0, b"");
    let (mut client, mut server) = link(&proxy, &listener).await;
    exchange(&mut client, &mut server).await;
}

#[tokio::test]
async fn script_may_refuse_for_ever_and_panic_when_it_is_dropped() {
    struct Bad;
    impl Iterator for Bad {
        type Item = Link;
        fn next(&mut self) -> Option<Link> {
            Some(Link::refuse().lasting(Duration::MAX))
        }
    }
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("a panic of the test's own script");
        }
    }
    let (proxy, listener) = proxy_and_listener().await;
    proxy.script(Bad);
    assert_eq!(TcpStream::connect(proxy.addr()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    proxy.script([]);
    let (mut client, mut server) = link(&proxy, &listener).await;
    exchange(&mut client, &mut server).await;
}

#[tokio::test]
async fn dials_are_refused_between_two_links() {
    let proxy = proxy().await;
    proxy.script([Link::pass(), Link::refuse().lasting(Duration::from_millis(30)), Link::pass()]);
    let mut first = dial(&proxy).await;
    in_time("the first link", proxy.wait_for_links(1)).await;
    // As long as that link lives, and a time after it.
    for _ in 0..3 {
        assert_eq!(TcpStream::connect(proxy.addr()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
    first.write_all(b"x").await.unwrap();
    assert_eq!(in_time("the echo", first.read_u8()).await.unwrap(), b'x');
    proxy.cut(Cut::Reset);
    let mut refused = 0;
    let second = in_time("the port opens again", async {
        loop {
            match TcpStream::connect(proxy.addr()).await {
                Ok(stream) => return stream,
                Err(_) => refused += 1,
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut second = second.await;
    assert!(refused > 0, "the port was closed for 30 ms");
    second.write_all(b"y").await.unwrap();
    assert_eq!(in_time("the echo", second.read_u8()).await.unwrap(), b'y');
    assert_eq!(proxy.ledger().len(), 2);
}

#[tokio::test]
async fn script_that_only_refuses_refuses() {
    let proxy = proxy().await;
    proxy.script(std::iter::repeat(Link::refuse()));
    for _ in 0..5 {
        assert_eq!(TcpStream::connect(proxy.addr()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
    proxy.script([]);
    dial(&proxy).await;
}

#[tokio::test]
async fn port_is_closed_until_the_weather_is_fair() {
    let (proxy, listener) = proxy_and_listener().await;
    let (mut client, mut server) = link(&proxy, &listener).await;
    for _ in 0..3 {
        proxy.refuse();
        assert_eq!(TcpStream::connect(proxy.addr()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        exchange(&mut client, &mut server).await;
        proxy.heal();
        let (mut client, mut server) = link(&proxy, &listener).await;
        exchange(&mut client, &mut server).await;
    }
}

#[tokio::test]
async fn accepted_and_silent_link_says_nothing() {
    let proxy = proxy().await;
    proxy.script([Link::accept_and_stall()]);
    let mut client = dial(&proxy).await;
    client.write_all(b"x").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), client.read_u8()).await.is_err());
    assert!(proxy.ledger()[0].end.is_none() && proxy.ledger()[0].is_stalled);
    proxy.cut(Cut::HalfClose);
    assert_eq!(in_time("the end", client.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn server_that_is_not_there_is_in_the_ledger_and_resets_the_client() {
    let server = refused_address().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    assert_eq!(end_of_dial(&proxy).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    in_time("the end", proxy.wait_for_ends(1)).await;
    let record = &proxy.ledger()[0];
    let Some(LinkEnd::NoServer(error)) = &record.end else { panic!("{record}") };
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(record.to_string().contains(&server.to_string()), "{record}");
}

#[tokio::test]
async fn addresses_that_are_none_are_named() {
    for (server, expected) in [
        ("nowhere", "address \"nowhere\": it has no port"),
        ("127.0.0.1:0", "port 0 cannot be dialed"),
        ("no.such.host.invalid:80", "the server's address no.such.host.invalid:80 cannot be resolved: "),
    ] {
        let error = in_time("start", FaultProxy::start(server)).await.unwrap_err();
        let text = std::iter::successors(error.get_ref().map(|e| e as &dyn std::error::Error), |e| e.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ");
        assert!(error.to_string().contains(expected) || text.contains(expected), "{error}, {text}");
    }
    let taken = proxy().await;
    let error = FaultProxy::start_at(taken.addr(), "127.0.0.1:1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&taken.addr().to_string()), "{error}");
}
