//! What a test on the client does to the net, and how it dials.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use std::{fmt, fs, io};

use perconn::{Builder, Conn, TcpDialer};

use crate::lab::{CLIENT, Names, SERVER, SERVER_NAME, SERVER_V6, ip};
use crate::support::{HANG, quick};

/// The limit that the tests set: the shortest that keepalive takes.
pub const T: Duration = Duration::from_secs(1);

/// After so many limits, nobody may still be untold. The documentation says two, and four for keepalive; the rest is for a
/// machine under load.
pub const LATE: f64 = 8.0;

/// Where servers listen unless a test wants two.
pub const PORT: u16 = 4000;
/// Where nobody listens.
const NOBODY: u16 = 9;

/// The time since `start`, in limits.
pub fn limits_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() / T.as_secs_f64()
}

/// The net, as the test sees it from the client.
pub struct Net {
    pub names: Names,
    test: &'static str,
}

impl Net {
    pub fn new(lab: &str, test: &'static str) -> Self {
        Self { names: Names::new(lab), test }
    }

    /// The kernel takes its time, a second or two at times, until packets get through an interface that is up. A refusal
    /// by the server's machine has gone both ways.
    pub fn wait_for_way_to(&self, server: impl Into<IpAddr>) {
        let address = SocketAddr::new(server.into(), NOBODY);
        let began = Instant::now();
        let dial = || TcpStream::connect_timeout(&address, T / 20);
        while dial().expect_err("nobody listens").kind() != io::ErrorKind::ConnectionRefused {
            assert!(began.elapsed() < HANG, "no way to {address}");
        }
    }

    /// Prints what a test has measured.
    pub fn say(&self, what: impl fmt::Display) {
        println!("partition: {}: {what}", self.test);
    }

    pub fn address(&self, port: u16) -> SocketAddr {
        (SERVER, port).into()
    }

    /// A connection to the server with delays fit for a test: dials that a partition swallows do not outlive it for long.
    pub fn client(&self) -> Builder<TcpDialer> {
        self.client_of(PORT)
    }

    pub fn client_of(&self, port: u16) -> Builder<TcpDialer> {
        quick(Conn::builder(self.address(port))).dial_timeout(T / 2)
    }

    /// What the server's name means to the client from now on.
    pub fn name_points_to(&self, addresses: &[&str]) {
        let hosts = "/etc/hosts";
        assert!(fs::read_to_string(hosts).unwrap().contains(SERVER_NAME), "{hosts} is not the lab's");
        // Written into the file that is there: it is mounted.
        let lines: String = addresses.iter().map(|address| format!("{address} {SERVER_NAME}\n")).collect();
        fs::write(hosts, lines).unwrap();
    }

    // ===== faults, all of them in the router =====

    /// Packets to the server vanish.
    pub fn drop_to_server(&self) {
        self.route(format_args!("replace blackhole {SERVER}/32"));
    }

    /// Packets to the client vanish.
    pub fn drop_to_client(&self) {
        self.route(format_args!("replace blackhole {CLIENT}/32"));
    }

    /// Packets vanish both ways.
    pub fn partition(&self) {
        self.drop_to_server();
        self.drop_to_client();
    }

    /// Packets to the server are answered by "host unreachable".
    pub fn refuse_to_server(&self) {
        self.route(format_args!("replace unreachable {SERVER}/32"));
    }

    /// Packets to the server's IPv6 address vanish.
    pub fn drop_v6_to_server(&self) {
        self.route(format_args!("replace blackhole {SERVER_V6}/128"));
    }

    /// Large packets to the server vanish, small ones pass: the path has a smaller MTU than it tells.
    pub fn drop_large_to_server(&self) {
        self.route(format_args!("replace {SERVER}/32 dev server mtu lock 600"));
        // The router's own packets to the client are the reports that a packet was too large.
        ip(&format!("-n {} rule add iif lo to {CLIENT} priority 1 blackhole", self.names.router)).unwrap();
    }

    /// Ends a partition.
    pub fn heal(&self) {
        self.route(format_args!("delete {SERVER}/32"));
        self.route(format_args!("delete {CLIENT}/32"));
    }

    pub fn heal_to_client(&self) {
        self.route(format_args!("delete {CLIENT}/32"));
    }

    pub fn heal_to_server(&self) {
        self.route(format_args!("delete {SERVER}/32"));
    }

    fn route(&self, change: fmt::Arguments<'_>) {
        ip(&format!("-n {} route {change}", self.names.router)).unwrap();
    }
}
