//! The network as a test on the client changes it, and how the test dials.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use std::{fmt, fs, io};

use perconn::{Builder, Conn, TcpDialer};

use crate::lab::{CLIENT, Names, SERVER, SERVER_NAME, SERVER_V6, ip};
use crate::support::{HANG_LIMIT, quick};

/// The limit that the tests set: the shortest that keepalive accepts.
pub const T: Duration = Duration::from_secs(1);

/// Every break must be reported within this many limits. The documentation says two, and four for keepalive; the rest
/// is for a machine under load.
pub const LATE: f64 = 8.0;

/// The port of a test's first server.
pub const PORT: u16 = 4000;
/// A port without a listener.
const CLOSED_PORT: u16 = 9;

/// The time since `start`, in limits.
pub fn limits_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() / T.as_secs_f64()
}

/// The network, seen from the client.
pub struct Net {
    pub names: Names,
    test: &'static str,
}

impl Net {
    pub fn new(lab: &str, test: &'static str) -> Self {
        Self { names: Names::new(lab), test }
    }

    /// Waits until packets pass in both directions, which a refused dial proves. After an interface is up, that can
    /// take the kernel a second or two.
    pub fn wait_for_way_to(&self, server: impl Into<IpAddr>) {
        let address = SocketAddr::new(server.into(), CLOSED_PORT);
        let began = Instant::now();
        let dial = || TcpStream::connect_timeout(&address, T / 20);
        while dial().expect_err("the port is closed").kind() != io::ErrorKind::ConnectionRefused {
            assert!(began.elapsed() < HANG_LIMIT, "no way to {address}");
        }
    }

    /// Prints a measurement of the test.
    pub fn print(&self, what: impl fmt::Display) {
        println!("partition: {}: {what}", self.test);
    }

    pub fn address(&self, port: u16) -> SocketAddr {
        (SERVER, port).into()
    }

    /// A builder of connections to the server, with short delays. A dial into a partition ends soon after the partition
    /// does.
    pub fn client(&self) -> Builder<TcpDialer> {
        self.client_of(PORT)
    }

    pub fn client_of(&self, port: u16) -> Builder<TcpDialer> {
        quick(Conn::builder(self.address(port))).dial_timeout(T / 2)
    }

    /// Sets the addresses that the client resolves the server's name to.
    pub fn name_points_to(&self, addresses: &[&str]) {
        let hosts = "/etc/hosts";
        assert!(fs::read_to_string(hosts).unwrap().contains(SERVER_NAME), "{hosts} does not belong to the lab");
        // Overwrites the file in place, as it is a mount point.
        let lines: String = addresses.iter().map(|address| format!("{address} {SERVER_NAME}\n")).collect();
        fs::write(hosts, lines).unwrap();
    }

    // ===== packet loss, all of it in the router =====

    /// Drops packets to the server.
    pub fn drop_to_server(&self) {
        self.route(format_args!("replace blackhole {SERVER}/32"));
    }

    /// Drops packets to the client.
    pub fn drop_to_client(&self) {
        self.route(format_args!("replace blackhole {CLIENT}/32"));
    }

    /// Drops packets in both directions.
    pub fn partition(&self) {
        self.drop_to_server();
        self.drop_to_client();
    }

    /// Answers packets to the server with "host unreachable".
    pub fn refuse_to_server(&self) {
        self.route(format_args!("replace unreachable {SERVER}/32"));
    }

    /// Drops packets to the server's IPv6 address.
    pub fn drop_v6_to_server(&self) {
        self.route(format_args!("replace blackhole {SERVER_V6}/128"));
    }

    /// Drops large packets to the server and lets small ones pass, as a path does that hides its smaller MTU.
    pub fn drop_large_to_server(&self) {
        self.route(format_args!("replace {SERVER}/32 dev server mtu lock 600"));
        // The router's own packets to the client would report that a packet was too large.
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
