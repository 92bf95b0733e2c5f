//! Real proxies: microsocks and Dante for SOCKS5, tinyproxy for HTTP.

use std::io;
use std::process::Command;

use perconn::{Conn, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::real_server::{RealServer, program};
use crate::scripted::failure;
use crate::support::{in_time, quick, refused_address, wait_for_generation};

/// The program of a proxy, or a line that says that it is missing.
fn installed(name: &str) -> Option<std::path::PathBuf> {
    program("proxy: servers", name, &["/usr/sbin"])
}

fn microsocks(arguments: &'static [&'static str]) -> Option<RealServer> {
    let program = installed("microsocks")?;
    Some(RealServer::start("microsocks", |_, port| {
        move || {
            let mut command = Command::new(&program);
            command.args(["-i", "127.0.0.1", "-p"]).arg(port.to_string()).args(arguments);
            command
        }
    }))
}

/// Dante, which lets nobody through to `forbidden`.
fn dante(forbidden: u16) -> Option<RealServer> {
    let program = installed("danted")?;
    Some(RealServer::start("danted", |folder, port| {
        let (file, pid) = (folder.join("danted.conf"), folder.join("pid"));
        let config = format!(
            "logoutput: stderr\ninternal: 127.0.0.1 port = {port}\nexternal: lo\nclientmethod: none\nsocksmethod: none\n\
             user.privileged: root\nuser.unprivileged: root\n\
             client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}\n\
             socks block {{ from: 0.0.0.0/0 to: 127.0.0.1/32 port = {forbidden} }}\n\
             socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}\n"
        );
        std::fs::write(&file, config).unwrap();
        move || {
            let mut command = Command::new(&program);
            command.arg("-f").arg(&file).arg("-p").arg(&pid).args(["-N", "1"]);
            command
        }
    }))
}

/// tinyproxy, which allows tunnels to any port but filters a name.
fn tinyproxy(more: &'static str) -> Option<RealServer> {
    let program = installed("tinyproxy")?;
    Some(RealServer::start("tinyproxy", |folder, port| {
        let (file, filter) = (folder.join("tinyproxy.conf"), folder.join("filter"));
        std::fs::write(&filter, "forbidden\n").unwrap();
        let config = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nFilter \"{}\"\n{more}\n",
            filter.display()
        );
        std::fs::write(&file, config).unwrap();
        move || {
            let mut command = Command::new(&program);
            command.arg("-d").arg("-c").arg(&file);
            command
        }
    }))
}

/// An echo server that speaks first, and tells where each of its clients has come from.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(b"hello").await?;
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await
            });
        }
    });
    port
}

/// Greetings and echoes through the proxy, also after the proxy was killed.
async fn survives_a_kill(server: &RealServer, proxy: Proxy, host: &str) {
    let builder = quick(Conn::builder((host, echo().await))).proxy(proxy);
    let mut conn = in_time("connect", builder.connect()).await.unwrap();
    for generation in 1..=3 {
        wait_for_generation(&conn, generation).await;
        for expected in [&b"hello"[..], b"and back"] {
            let mut received = vec![0; expected.len()];
            in_time("an echo", conn.read_exact(&mut received)).await.unwrap();
            assert_eq!(received, expected);
            if expected == b"hello" {
                conn.write_all(b"and back").await.unwrap();
            }
        }
        server.kill();
        let end = in_time("the end", conn.read(&mut [0])).await;
        assert!(
            matches!(&end, Ok(0)) || matches!(&end, Err(error) if error.kind() == io::ErrorKind::ConnectionReset),
            "{end:?}"
        );
        server.start_again();
    }
}

#[tokio::test]
async fn microsocks_tunnels_with_and_without_credentials() {
    let Some(server) = microsocks(&[]) else { return };
    let proxy = || Proxy::socks5(server.address);
    survives_a_kill(&server, proxy(), "localhost").await;
    survives_a_kill(&server, proxy().resolve_locally(true), "localhost").await;
    survives_a_kill(&server, proxy(), "127.0.0.1").await;
    // Its credentials are not asked for, and so not needed.
    survives_a_kill(&server, proxy().credentials("me", "secret"), "127.0.0.1").await;
    let Some(server) = microsocks(&["-u", "me", "-P", "secret"]) else { return };
    let proxy = || Proxy::socks5(server.address);
    survives_a_kill(&server, proxy().credentials("me", "secret"), "localhost").await;
    for proxy in [proxy(), proxy().credentials("me", "wr0ng")] {
        let (text, kind) = failure(quick(Conn::builder("127.0.0.1:1")).proxy(proxy)).await;
        eprintln!("microsocks: {text}");
        assert_eq!(kind, io::ErrorKind::PermissionDenied);
        assert!(!text.contains("wr0ng"));
    }
}

#[tokio::test]
async fn refusals_of_microsocks_and_dante_have_their_reply() {
    let (refused, forbidden) = (refused_address().await, refused_address().await);
    let microsocks = microsocks(&[]);
    let dante = dante(forbidden.port());
    for (name, server) in [("microsocks", &microsocks), ("dante", &dante)] {
        let Some(server) = server else { continue };
        let proxy = Proxy::socks5(server.address);
        let (text, kind) = failure(quick(Conn::builder(refused)).proxy(proxy)).await;
        eprintln!("{name}: {text}");
        assert_eq!(kind, io::ErrorKind::ConnectionRefused);
        assert!(text.ends_with("connection refused by the target (SOCKS5 reply 5)"), "{text}");
    }
    let Some(dante) = dante else { return };
    let (text, kind) = failure(quick(Conn::builder(forbidden)).proxy(Proxy::socks5(dante.address))).await;
    eprintln!("dante: {text}");
    assert_eq!(kind, io::ErrorKind::PermissionDenied);
    survives_a_kill(&dante, Proxy::socks5(dante.address), "127.0.0.1").await;
}

#[tokio::test]
async fn tinyproxy_tunnels_with_and_without_credentials() {
    let Some(server) = tinyproxy("") else { return };
    let proxy = || Proxy::http(server.address);
    survives_a_kill(&server, proxy(), "localhost").await;
    survives_a_kill(&server, proxy().resolve_locally(true), "localhost").await;
    let Some(server) = tinyproxy("BasicAuth me secret") else { return };
    let proxy = || Proxy::http(server.address);
    survives_a_kill(&server, proxy().credentials("me", "secret"), "127.0.0.1").await;
    for (proxy, status) in [(proxy(), "407"), (proxy().credentials("me", "wr0ng"), "40")] {
        let (text, kind) = failure(quick(Conn::builder("127.0.0.1:1")).proxy(proxy)).await;
        eprintln!("tinyproxy: {text}");
        assert_eq!(kind, io::ErrorKind::PermissionDenied);
        assert!(text.contains(&format!("it answers {status}")) && !text.contains("wr0ng"), "{text}");
    }
}

#[tokio::test]
async fn refusals_of_tinyproxy_have_their_status_and_reason() {
    let Some(server) = tinyproxy("ConnectPort 443") else { return };
    let proxy = || Proxy::http(server.address);
    for target in ["forbidden.example:443", "127.0.0.1:1"] {
        let (text, kind) = failure(quick(Conn::builder(target)).proxy(proxy())).await;
        eprintln!("tinyproxy: {text}");
        assert_eq!(kind, io::ErrorKind::PermissionDenied, "{text}");
        assert!(text.contains("it answers 403 "), "{text}");
    }
    let Some(server) = tinyproxy("") else { return };
    let (text, _) = failure(quick(Conn::builder(refused_address().await)).proxy(Proxy::http(server.address))).await;
    eprintln!("tinyproxy: {text}");
    assert!(text.contains("it answers 500 Unable to connect"), "{text}");
}
