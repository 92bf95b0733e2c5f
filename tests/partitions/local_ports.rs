//! The local ports of links that are dialed from a local address.

use std::net::Ipv4Addr;

use perconn::{Conn, SocketOptions};
use tokio::net::TcpListener;

use crate::in_a_lab::in_a_lab;
use crate::net::{Net, PORT};
use crate::support::{in_time, quick};

#[test]
fn links_from_a_local_address_to_different_peers_share_their_ports() {
    in_a_lab(async |net: &Net| {
        const PORTS: usize = 10;
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40009").unwrap();
        let options = SocketOptions::new().local_address(Ipv4Addr::LOCALHOST);
        let mut links = Vec::new();
        let mut counts = Vec::new();
        for port in [PORT, PORT + 1] {
            let server = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
            let before = links.len();
            for _ in 0..PORTS {
                let builder = quick(Conn::builder(("127.0.0.1", port))).socket_options(options);
                match in_time("connect", builder.connect()).await {
                    Ok(conn) => links.push((conn, in_time("accept", server.accept()).await.unwrap())),
                    Err(error) => println!("{}", error.with_causes()),
                }
            }
            counts.push(links.len() - before);
        }
        net.print(format_args!("{counts:?} links to two peers with {PORTS} local ports"));
        assert_eq!(counts, [PORTS, PORTS]);
    });
}
