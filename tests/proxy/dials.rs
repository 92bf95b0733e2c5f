//! Dials through a proxy: names, several targets, redials, and what stands on top.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perconn::{Conn, Proxy, ProxyDialer, SocketOptions};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::scripted::{HTTP_REQUEST, failure, play, through};
use crate::support::{Server, in_time, quick, refused_address, wait_for_generation};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// A request in HTTP.
fn request(target: &str) -> Vec<u8> {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn tunnel_is_opened_again_after_a_break_of_the_proxy() {
    let server = Server::start().await;
    let (conn, stream) =
        tokio::join!(through(Proxy::http(server.address)).connect(), play(&server, &[(HTTP_REQUEST, OK)]));
    let mut conn = conn.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), server.address);
    drop(stream);
    assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
    let _stream = play(&server, &[(HTTP_REQUEST, OK)]).await;
    wait_for_generation(&conn, 2).await;
}

/// A connection that nobody uses notices the end of its tunnel, as one without a proxy does.
#[tokio::test]
async fn end_of_an_idle_tunnel_is_noticed() {
    let server = Server::start().await;
    let (conn, stream) =
        tokio::join!(through(Proxy::http(server.address)).connect(), play(&server, &[(HTTP_REQUEST, OK)]));
    drop(stream);
    crate::support::wait_for_break(&conn.unwrap()).await;
}

#[tokio::test]
async fn set_up_and_socket_options_are_on_the_tunnel() {
    let server = Server::start().await;
    let builder = through(Proxy::http(server.address)).nodelay(true).and_then(|mut stream: TcpStream| async move {
        stream.write_all(b"login").await?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await?;
        Ok(stream)
    });
    let playing = play(&server, &[(HTTP_REQUEST, OK), (b"login", b"ok")]);
    let (conn, _stream) = tokio::join!(builder.connect(), playing);
    assert!(SockRef::from(conn.unwrap().get_ref().unwrap()).tcp_nodelay().unwrap());
}

#[tokio::test]
async fn each_dial_asks_for_the_next_of_several_targets_and_names_it() {
    let server = Server::start().await;
    let targets = ["one.example:1", "two.example:2", "[2001:db8::3]:3"];
    let builder = quick(Conn::builder("cluster")).addresses(targets).proxy(Proxy::http(server.address));
    let playing = async {
        for (target, answer) in [(targets[0], &b"HTTP/1.1 502 Bad Gateway\r\n\r\n"[..]), (targets[1], OK)] {
            let stream = play(&server, &[(&request(target), answer)]).await;
            if answer == OK {
                return stream;
            }
        }
        unreachable!()
    };
    let (logged, mut failures) = tokio::sync::mpsc::unbounded_channel();
    let builder = builder.stable_after(Duration::from_secs(60));
    let builder = builder.logger(move |error| _ = logged.send(error.with_causes().to_string()));
    let (conn, stream) = tokio::join!(in_time("connect", builder.connect()), playing);
    let mut conn = conn.unwrap();
    let failure = in_time("the log", failures.recv()).await.unwrap();
    let expected = format!("one.example:1: proxy {}: it answers 502 Bad Gateway", server.address);
    assert_eq!(failure, format!("dial 1 to cluster failed: {expected}"));
    // The link ends before it was stable, so the third follows.
    drop(stream);
    assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
    let _stream = play(&server, &[(&request(targets[2]), OK)]).await;
    wait_for_generation(&conn, 2).await;
}

#[tokio::test]
async fn names_of_targets_are_resolved_here_only_if_so_set() {
    let server = Server::start().await;
    let proxy_port = server.address.port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let resolve = |asked: &Arc<Mutex<Vec<_>>>| {
        let asked = Arc::clone(asked);
        move |host: String, port| {
            asked.lock().unwrap().push(host.clone());
            let ip = if host == "proxy.example" { [127, 0, 0, 1] } else { [192, 0, 2, 1] };
            async move { Ok(vec![SocketAddr::from((ip, port))]) }
        }
    };
    for (is_local, target, expected) in
        [(false, "db.example:5432", &["proxy.example"][..]), (true, "192.0.2.1:5432", &["db.example", "proxy.example"])]
    {
        let proxy = || Proxy::http(("proxy.example", proxy_port)).resolve_locally(is_local);
        let builder = quick(Conn::builder("db.example:5432"));
        let by_builder = builder.resolver(resolve(&asked)).proxy(proxy());
        let dialer = ProxyDialer::new(proxy(), "db.example:5432").resolver(resolve(&asked));
        for builder in [by_builder, quick(Conn::builder("db")).dialer(dialer)] {
            let request = request(target);
            let script = [(&request[..], OK)];
            let (conn, _stream) = tokio::join!(in_time("connect", builder.connect()), play(&server, &script));
            conn.unwrap();
            assert_eq!(*asked.lock().unwrap(), expected);
            asked.lock().unwrap().clear();
        }
    }
}

#[tokio::test]
async fn addresses_of_a_name_resolved_here_are_tried_until_the_proxy_reaches_one() {
    let server = Server::start().await;
    let all = ["192.0.2.1:1", "192.0.2.2:2", "192.0.2.3:3"];
    let found: Vec<SocketAddr> = all.iter().map(|address| address.parse().unwrap()).collect();
    let builder = quick(Conn::builder("db.example:5432")).resolver(move |_, _| {
        let found = found.clone();
        async move { Ok(found) }
    });
    let builder = builder.proxy(Proxy::http(server.address).resolve_locally(true));
    let builder = builder.stable_after(Duration::ZERO);
    let bad = &b"HTTP/1.1 502 Bad Gateway\r\n\r\n"[..];
    let playing = async {
        play(&server, &[(&request(all[0]), bad)]).await;
        play(&server, &[(&request(all[1]), OK)]).await
    };
    let (conn, stream) = tokio::join!(in_time("connect", builder.connect()), playing);
    let mut conn = conn.unwrap();
    // The one that has worked comes first.
    drop(stream);
    assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
    let _stream = play(&server, &[(&request(all[1]), OK)]).await;
    wait_for_generation(&conn, 2).await;
}

#[tokio::test]
async fn all_addresses_of_a_name_are_named_when_the_proxy_reaches_none() {
    let server = Server::start().await;
    let all = ["192.0.2.1:1", "192.0.2.2:2"];
    let found: Vec<SocketAddr> = all.iter().map(|address| address.parse().unwrap()).collect();
    let builder = quick(Conn::builder("db.example:5432")).resolver(move |_, _| {
        let found = found.clone();
        async move { Ok(found) }
    });
    let builder = builder.proxy(Proxy::http(server.address).resolve_locally(true));
    let playing = async {
        for target in all {
            play(&server, &[(&request(target), b"HTTP/1.1 502 Bad Gateway\r\n\r\n")]).await;
        }
    };
    let ((text, kind), ()) = tokio::join!(failure(builder), playing);
    let answer = "it answers 502 Bad Gateway";
    let expected = format!("no address answered: {}: {answer}; {}: {answer}", all[0], all[1]);
    assert_eq!(text, format!("dial 1 to db.example:5432 failed: proxy {}: {expected}", server.address));
    assert_eq!(kind, io::ErrorKind::HostUnreachable);
}

#[tokio::test]
async fn proxy_that_is_down_is_named_with_the_kernels_error() {
    let down = refused_address().await;
    let refused = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
    for proxy in [Proxy::http(down), Proxy::socks5(down)] {
        let (text, kind) = failure(through(proxy)).await;
        assert_eq!(text, format!("dial 1 to db.example:5432 failed: proxy {down}: {refused}"));
        assert_eq!(kind, io::ErrorKind::ConnectionRefused);
    }
    // It is not found, or its name takes too long.
    let unknown = quick(Conn::builder("192.0.2.1:1")).resolver(|_, _| async { Ok(Vec::new()) });
    let (text, _) = failure(unknown.proxy(Proxy::http("proxy.example:3128"))).await;
    let cause = "proxy proxy.example:3128: the name has no addresses";
    assert_eq!(text, format!("dial 1 to 192.0.2.1:1 failed: {cause}"));
    let slow = quick(Conn::builder("192.0.2.1:1")).resolver(|_, _| std::future::pending());
    let slow = slow.proxy(Proxy::http("proxy.example:3128")).dial_timeout(Duration::from_millis(20));
    let (text, _) = failure(slow).await;
    let cause = "proxy proxy.example:3128: name resolution: the dial took longer than 20ms";
    assert_eq!(text, format!("dial 1 to 192.0.2.1:1 failed: {cause}"));
}

#[tokio::test]
async fn local_address_is_that_of_the_socket_to_the_proxy() {
    let server = Server::start().await;
    let options = SocketOptions::new().local_address([127, 0, 0, 1]);
    // The target has another IP version. That is the proxy's business.
    let builder = quick(Conn::builder("[2001:db8::1]:1")).proxy(Proxy::http(server.address)).socket_options(options);
    let request = request("[2001:db8::1]:1");
    let script = [(&request[..], OK)];
    let (conn, _stream) = tokio::join!(in_time("connect", builder.connect()), play(&server, &script));
    assert_eq!(conn.unwrap().local_addr().unwrap().ip().to_string(), "127.0.0.1");
}
