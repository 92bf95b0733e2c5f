//! TLS to a server behind a real SOCKS5 or HTTP proxy: the session is with the target, whose name the certificate is for.

use std::process::Command;

use perconn::{Conn, Dial, Proxy, ProxyDialer, Tls, TlsDialer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Authority, accept, acceptor, dial_failure};
use crate::real_server::{RealServer, program};
use crate::support::{Server, in_time, quick, wait_for_generation};

/// The proxies that are installed, with their settings.
fn proxies() -> Vec<(RealServer, Proxy)> {
    let socks = program("tls: tunnel", "microsocks", &[]).map(|program| {
        let server = RealServer::start("microsocks", |_, port| {
            move || {
                let mut command = Command::new(&program);
                command.args(["-i", "127.0.0.1", "-p"]).arg(port.to_string());
                command
            }
        });
        let proxy = Proxy::socks5(server.address);
        (server, proxy)
    });
    let http = program("tls: tunnel", "tinyproxy", &["/usr/sbin"]).map(|program| {
        let server = RealServer::start("tinyproxy", |folder, port| {
            let file = folder.join("tinyproxy.conf");
            std::fs::write(&file, format!("Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\n")).unwrap();
            move || {
                let mut command = Command::new(&program);
                command.arg("-d").arg("-c").arg(&file);
                command
            }
        });
        let proxy = Proxy::http(server.address);
        (server, proxy)
    });
    socks.into_iter().chain(http).collect()
}

#[tokio::test]
async fn session_is_with_the_target_and_comes_back_with_its_proxy() {
    for (proxy_server, proxy) in proxies() {
        let (server, authority) = (Server::start().await, Authority::new());
        let acceptor = acceptor(&authority.issue("localhost"), None, &[]);
        let builder = quick(Conn::builder(("localhost", server.address.port()))).proxy(proxy);
        let builder = builder.tls(authority.trusted()).unwrap().and_then(|mut session| async move {
            // A login within the session.
            session.write_all(b"login").await?;
            session.flush().await?;
            session.read_u8().await?;
            Ok(session)
        });
        let log_in = async || {
            let mut peer = accept(&server, &acceptor).await.unwrap();
            let mut login = [0; 5];
            in_time("the login", peer.read_exact(&mut login)).await.unwrap();
            peer.write_all(b"\n").await.unwrap();
            peer.flush().await.unwrap();
            peer
        };
        let (conn, mut peer) = tokio::join!(builder.connect(), log_in());
        let mut conn = conn.unwrap();
        for generation in 1..=3 {
            wait_for_generation(&conn, generation).await;
            assert_eq!(peer.get_ref().1.server_name(), Some("localhost"));
            peer.write_all(b"x").await.unwrap();
            peer.flush().await.unwrap();
            assert_eq!(in_time("a byte", conn.read_u8()).await.unwrap(), b'x');
            proxy_server.kill();
            in_time("the break", conn.read_u8()).await.unwrap_err();
            proxy_server.start_again();
            peer = log_in().await;
        }
    }
}

#[tokio::test]
async fn certificate_for_the_proxy_is_not_one_for_the_target() {
    for (_proxy_server, proxy) in proxies() {
        let (server, authority) = (Server::start().await, Authority::new());
        let acceptor = acceptor(&authority.issue("127.0.0.1"), None, &[]);
        let dialer = ProxyDialer::new(proxy, ("localhost", server.address.port()));
        let dialer = TlsDialer::new(dialer, authority.trusted()).unwrap();
        let builder = quick(Conn::builder("127.0.0.1:1")).dialer(dialer);
        let (error, _) = tokio::join!(dial_failure(builder), accept(&server, &acceptor));
        let text = error.to_string();
        assert!(text.contains("certificate") && !text.contains("proxy"), "{text}");
    }
}

/// A write asks the socket below the session whether the proxy has closed the tunnel.
#[tokio::test]
async fn end_of_the_tunnel_is_seen_below_the_session() {
    for (proxy_server, proxy) in proxies() {
        let (server, authority) = (Server::start().await, Authority::new());
        let acceptor = acceptor(&authority.issue("localhost"), None, &[]);
        let dialer = ProxyDialer::new(proxy, ("localhost", server.address.port()));
        let mut dialer = TlsDialer::new(dialer, Tls::clone(&authority.trusted())).unwrap();
        let (session, _peer) = tokio::join!(in_time("a dial", dialer.dial()), accept(&server, &acceptor));
        let session = session.unwrap();
        assert!(!TlsDialer::<ProxyDialer>::is_closed(&session));
        proxy_server.kill();
        in_time("the end of the tunnel", session.get_ref().0.readable()).await.unwrap();
        while !TlsDialer::<ProxyDialer>::is_closed(&session) {
            tokio::task::yield_now().await;
        }
    }
}
