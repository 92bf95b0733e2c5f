//! SRV records by hickory-resolver, from a real name server: the servers of a service by priority, asked for at each dial.

use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfigGroup, ResolverConfig};
use hickory_resolver::name_server::TokioConnectionProvider;
use perconn::Conn;
use tokio::io::AsyncReadExt;

use crate::servers::{RealServer, program};
use crate::support::{Server, in_time, quick, refused_address, wait_for_generation};

/// A name server with one service and one host, which is this machine.
fn name_server(records: &[(u16, u16)]) -> Option<RealServer> {
    let program = program("dns", "dnsmasq", &["/usr/sbin"])?;
    let records: Vec<_> = records
        .iter()
        .map(|(port, priority)| format!("--srv-host=_chat._tcp.perconn.test,one.perconn.test,{port},{priority}"))
        .collect();
    Some(RealServer::start("dnsmasq", |folder, port| {
        let pid = folder.join("pid");
        move || {
            let mut command = Command::new(&program);
            command.args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root", "--conf-file=/dev/null"]);
            command.args(["--listen-address=127.0.0.1", "--bind-interfaces", "--address=/one.perconn.test/127.0.0.1"]);
            command.arg(format!("--port={port}")).arg(format!("--pid-file={}", pid.display())).args(&records);
            command
        }
    }))
}

/// The addresses of a service, those of the first priority first.
async fn look_up(dns: &TokioResolver, service: &str) -> io::Result<Vec<SocketAddr>> {
    let answer = dns.srv_lookup(service).await?;
    let mut servers: Vec<_> = answer.iter().collect();
    servers.sort_by_key(|server| server.priority());
    let mut addresses = Vec::new();
    for server in servers {
        let found = dns.lookup_ip(server.target().clone()).await?;
        addresses.extend(found.iter().map(|ip| SocketAddr::new(ip, server.port())));
    }
    Ok(addresses)
}

#[tokio::test]
async fn service_is_found_by_its_srv_records_at_each_dial() {
    let (dead, mut first, second) = (refused_address().await, Server::start().await, Server::start().await);
    let records = [(second.address.port(), 20), (first.address.port(), 10), (dead.port(), 5)];
    let Some(name_server) = name_server(&records) else { return };
    let servers = NameServerConfigGroup::from_ips_clear(&[name_server.address.ip()], name_server.address.port(), true);
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    let dns = Arc::new(TokioResolver::builder_with_config(config, TokioConnectionProvider::default()).build());
    let builder = |name: &str| {
        let dns = Arc::clone(&dns);
        quick(Conn::builder(name)).resolver(move |host, _| {
            let dns = Arc::clone(&dns);
            async move { look_up(&dns, &format!("_chat._tcp.{host}.")).await }
        })
    };
    let mut conn = in_time("connect", builder("perconn.test:5222").connect()).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), first.address);
    // It goes down, and the server of the next priority takes over.
    let peer = first.accept().await;
    first.stop();
    drop(peer);
    assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
    wait_for_generation(&conn, 2).await;
    assert_eq!(conn.peer_addr().unwrap(), second.address);
    // A service that there is not.
    let error = in_time("connect", builder("nobody.test:5222").connect()).await.unwrap_err();
    let text = error.with_causes().to_string();
    assert!(text.starts_with("dial 1 to nobody.test:5222 failed: name resolution: "), "{text}");
    eprintln!("{text}");
}
