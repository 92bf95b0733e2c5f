//! Options of a TCP socket that are set again on every link.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use socket2::SockRef;

use crate::Error;

/// What is set on the TCP socket of every link, before it connects.
///
/// What is not set here is left to the operating system. [`Builder::socket_options`](crate::Builder::socket_options) takes
/// all of them, the most common ones have methods of their own there; a [`TcpDialer`](crate::TcpDialer) sets them, and so
/// does whatever is built on top of one.
///
/// ```
/// use perconn::{Conn, SocketOptions};
///
/// let options = SocketOptions::new().nodelay(true).recv_buffer_size(1 << 20).local_address([127, 0, 0, 1]);
/// let builder = Conn::builder("quotes.example:7000").socket_options(options);
/// # drop(builder);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "they do nothing until they are given to `Builder::socket_options`"]
pub struct SocketOptions {
    nodelay: Option<bool>,
    keepalive: Option<Keepalive>,
    user_timeout: Option<Duration>,
    local_address: Option<IpAddr>,
    send_buffer_size: Option<usize>,
    recv_buffer_size: Option<usize>,
}

impl SocketOptions {
    /// Options of which none is set.
    pub const fn new() -> Self {
        Self {
            nodelay: None,
            keepalive: None,
            user_timeout: None,
            local_address: None,
            send_buffer_size: None,
            recv_buffer_size: None,
        }
    }

    /// See [`Builder::nodelay`](crate::Builder::nodelay).
    pub const fn nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = Some(nodelay);
        self
    }

    /// See [`Builder::keepalive`](crate::Builder::keepalive).
    pub fn keepalive(mut self, keepalive: impl Into<Keepalive>) -> Self {
        self.keepalive = Some(keepalive.into());
        self
    }

    /// See [`Builder::user_timeout`](crate::Builder::user_timeout).
    pub const fn user_timeout(mut self, limit: Duration) -> Self {
        self.user_timeout = Some(limit);
        self
    }

    /// The address of this machine from which is dialed. The port is the system's to choose: a given one could not be
    /// used again for minutes after a link (`TIME_WAIT`).
    ///
    /// Addresses of the peer that are of the other IP version are left out.
    pub fn local_address(mut self, address: impl Into<IpAddr>) -> Self {
        self.local_address = Some(address.into());
        self
    }

    /// The size of the kernel's send buffer (`SO_SNDBUF`), in bytes, from 1 to 2^31 - 1; socket(7) says what Linux makes
    /// of it. It turns the kernel's own tuning off.
    pub const fn send_buffer_size(mut self, bytes: usize) -> Self {
        self.send_buffer_size = Some(bytes);
        self
    }

    /// The size of the kernel's receive buffer (`SO_RCVBUF`), in bytes, from 1 to 2^31 - 1. Being set before the socket
    /// connects, it is also what the peer is offered (the window scale of RFC 7323).
    pub const fn recv_buffer_size(mut self, bytes: usize) -> Self {
        self.recv_buffer_size = Some(bytes);
        self
    }
}

/// How the kernel finds out whether an idle peer is still there; see [`Builder::keepalive`](crate::Builder::keepalive).
///
/// Made from a [`Duration`], which sets the first two times, or in detail:
///
/// ```
/// use std::time::Duration;
/// use perconn::{Conn, Keepalive};
///
/// let keepalive = Keepalive::new(Duration::from_secs(60)).interval(Duration::from_secs(10)).probes(4);
/// let builder = Conn::builder("gateway.example:7000").keepalive(keepalive); // a dead peer is found in 100 s
/// # drop(builder);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it does nothing until it is given to `Builder::keepalive`"]
pub struct Keepalive {
    idle: Duration,
    interval: Duration,
    probes: u32,
}

impl Keepalive {
    /// The first probe is sent after `idle` without a packet from the peer, the next ones every `idle`, three in all.
    ///
    /// The kernel counts in seconds: parts of one are rounded up. From 1 to 32,767 seconds.
    pub const fn new(idle: Duration) -> Self {
        Self { idle, interval: idle, probes: 3 }
    }

    /// The time between two probes. Defaults to the idle time, and has the same limits.
    pub const fn interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// How many probes in a row go unanswered before the link is broken. Defaults to 3; from 1 to 127.
    pub const fn probes(self, probes: u32) -> Self {
        Self { probes, ..self }
    }
}

impl From<Duration> for Keepalive {
    fn from(idle: Duration) -> Self {
        Self::new(idle)
    }
}

/// The largest time that Linux takes for a keepalive, in seconds (`MAX_TCP_KEEPIDLE` in its `net/tcp.h`).
const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);
/// And the largest number of probes (`MAX_TCP_KEEPCNT`).
const PROBES_MAX: u32 = 127;
/// The largest size of a buffer: a C `int` (socket(7)).
const BUFFER_MAX: usize = i32::MAX as usize;
/// The largest time that Linux takes for a user timeout: a C `int` of milliseconds (tcp(7)).
const USER_TIMEOUT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

impl SocketOptions {
    /// These, and where one is not set, that of `others`.
    pub(crate) fn or(self, others: Self) -> Self {
        Self {
            nodelay: self.nodelay.or(others.nodelay),
            keepalive: self.keepalive.or(others.keepalive),
            user_timeout: self.user_timeout.or(others.user_timeout),
            local_address: self.local_address.or(others.local_address),
            send_buffer_size: self.send_buffer_size.or(others.send_buffer_size),
            recv_buffer_size: self.recv_buffer_size.or(others.recv_buffer_size),
        }
    }

    /// The name of an option that is set, if any is.
    pub(crate) fn first_name(&self) -> Option<&'static str> {
        let set = [
            self.nodelay.map(|_| "nodelay"),
            self.keepalive.map(|_| "keepalive"),
            self.user_timeout.map(|_| "user_timeout"),
            self.send_buffer_size.map(|_| "send_buffer_size"),
            self.recv_buffer_size.map(|_| "recv_buffer_size"),
            self.local_address.map(|_| "local_address"),
        ];
        set.into_iter().flatten().next()
    }

    /// The address to dial from.
    pub(crate) fn source(&self) -> Option<IpAddr> {
        self.local_address
    }

    /// Finds what no kernel would take, or not this one.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let Some(Keepalive { idle, interval, probes }) = self.keepalive {
            if SET_KEEPALIVE.is_none() {
                return invalid("keepalive: this platform has no such option".into());
            }
            for (name, time) in [("keepalive", idle), ("keepalive interval", interval)] {
                if time < Duration::from_secs(1) || KEEPALIVE_MAX < time {
                    return invalid(format!("{name} {time:?}: expected 1s to {KEEPALIVE_MAX:?}"));
                }
            }
            if !(1..=PROBES_MAX).contains(&probes) {
                return invalid(format!("keepalive probes {probes}: expected 1 to {PROBES_MAX}"));
            }
        }
        if let Some(limit) = self.user_timeout {
            if SET_USER_TIMEOUT.is_none() {
                return invalid(format!("user_timeout {limit:?}: this platform has no TCP_USER_TIMEOUT"));
            }
            if limit < Duration::from_millis(1) || USER_TIMEOUT_MAX < limit {
                return invalid(format!("user_timeout {limit:?}: expected 1ms to {USER_TIMEOUT_MAX:?}"));
            }
        }
        let sizes = [("send_buffer_size", self.send_buffer_size), ("recv_buffer_size", self.recv_buffer_size)];
        for (name, size) in sizes {
            if let Some(size) = size.filter(|size| !(1..=BUFFER_MAX).contains(size)) {
                return invalid(format!("{name} {size}: expected 1 to {BUFFER_MAX}"));
            }
        }
        Ok(())
    }

    /// Sets them, but for the local address, on a socket that is connected or not.
    pub(crate) fn apply<'s>(&self, socket: impl Into<SockRef<'s>>) -> io::Result<()> {
        let socket = &socket.into();
        if let Some(nodelay) = self.nodelay {
            socket.set_tcp_nodelay(nodelay)?;
        }
        if let (Some(keepalive), Some(set)) = (self.keepalive, SET_KEEPALIVE) {
            set(socket, keepalive)?;
        }
        if let (Some(limit), Some(set)) = (self.user_timeout, SET_USER_TIMEOUT) {
            set(socket, limit)?;
        }
        if let Some(bytes) = self.send_buffer_size {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.recv_buffer_size {
            socket.set_recv_buffer_size(bytes)?;
        }
        Ok(())
    }
}

fn invalid(text: String) -> Result<(), Error> {
    Err(Error::InvalidConfig(text))
}

/// How an option is set on this platform; `None` where it does not exist.
type Setter<T> = fn(&SockRef<'_>, T) -> io::Result<()>;

#[cfg(any(
    target_os = "android",
    target_os = "freebsd",
    target_os = "ios",
    target_os = "linux",
    target_os = "macos",
    target_os = "netbsd",
    windows,
))]
const SET_KEEPALIVE: Option<Setter<Keepalive>> = Some(|socket, keepalive| {
    let Keepalive { idle, interval, probes } = keepalive;
    let seconds = |time: Duration| Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0));
    let settings =
        socket2::TcpKeepalive::new().with_time(seconds(idle)).with_interval(seconds(interval)).with_retries(probes);
    socket.set_tcp_keepalive(&settings)
});
#[cfg(not(any(
    target_os = "android",
    target_os = "freebsd",
    target_os = "ios",
    target_os = "linux",
    target_os = "macos",
    target_os = "netbsd",
    windows,
)))]
const SET_KEEPALIVE: Option<Setter<Keepalive>> = None;

#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const SET_USER_TIMEOUT: Option<Setter<Duration>> = Some(|socket, limit| socket.set_tcp_user_timeout(Some(limit)));
#[cfg(not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")))]
const SET_USER_TIMEOUT: Option<Setter<Duration>> = None;
