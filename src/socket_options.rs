//! Options of a TCP socket, set again on every link.
//!
//! The builder collects them, and [`TcpDialer`](crate::TcpDialer) sets them before it connects. Next:
//! `builder/socket.rs`, where the public docs of each option are.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use socket2::SockRef;

use self::notsent_lowat::SET_NOTSENT_LOWAT;
use self::user_timeout::SET_USER_TIMEOUT;
use crate::Error;

mod notsent_lowat;
mod user_timeout;

/// Options that are set on the TCP socket of every link before it connects.
///
/// An option that is not set keeps the operating system's default. Pass them to
/// [`Builder::socket_options`](crate::Builder::socket_options); the builder has methods of its own for the most common
/// ones. A [`TcpDialer`](crate::TcpDialer) sets them, and so does every dialer on top of one.
///
/// ```
/// use perconn::{Conn, SocketOptions};
///
/// let options = SocketOptions::new().nodelay(true).recv_buffer_size(1 << 20).local_address([127, 0, 0, 1]);
/// let builder = Conn::builder("quotes.example:7000").socket_options(options);
/// # drop(builder);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "they do nothing until they are passed to `Builder::socket_options`"]
#[doc(alias("setsockopt", "SO_SNDBUF", "SO_RCVBUF", "TCP_NODELAY", "bind"))]
pub struct SocketOptions {
    /// `TCP_NODELAY`: whether small writes are sent at once.
    nodelay: Option<bool>,
    /// `SO_KEEPALIVE` and its times: how a dead peer of an idle link is found.
    keepalive: Option<Keepalive>,
    /// `TCP_USER_TIMEOUT` or its like, from 1 ms to 24 days: how long written bytes may stay unacknowledged.
    user_timeout: Option<Duration>,
    /// The address to bind to before the connect; the kernel chooses the port.
    local_address: Option<IpAddr>,
    /// `SO_SNDBUF`, in bytes.
    send_buffer_size: Option<usize>,
    /// `SO_RCVBUF`, in bytes. Set before the connect, as it limits the window that TCP negotiates.
    recv_buffer_size: Option<usize>,
    /// `TCP_NOTSENT_LOWAT`, in bytes.
    notsent_lowat: Option<usize>,
}

impl SocketOptions {
    /// No option is set.
    pub const fn new() -> Self {
        Self {
            nodelay: None,
            keepalive: None,
            user_timeout: None,
            local_address: None,
            send_buffer_size: None,
            recv_buffer_size: None,
            notsent_lowat: None,
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

    /// The local IP address to dial from.
    ///
    /// The system chooses the port: a fixed one could not be used again for minutes after a link (`TIME_WAIT`). The
    /// peer's addresses of the other IP version are not dialed.
    ///
    /// On Linux since 4.2, links to different peers can have the same local port, as without this setting. Elsewhere,
    /// the port of a link is taken for all peers: then the number of links from this address, to all peers together, is
    /// limited by the range of ephemeral ports, often 16,384 or 28,232.
    #[doc(alias = "bind")]
    pub fn local_address(mut self, address: impl Into<IpAddr>) -> Self {
        self.local_address = Some(address.into());
        self
    }

    /// The size of the kernel's send buffer (`SO_SNDBUF`), from 1 to 2^31 - 1 bytes.
    ///
    /// Linux doubles the value and caps it (socket(7)). Setting it turns the kernel's own tuning off.
    pub const fn send_buffer_size(mut self, bytes: usize) -> Self {
        self.send_buffer_size = Some(bytes);
        self
    }

    /// The size of the kernel's receive buffer (`SO_RCVBUF`), from 1 to 2^31 - 1 bytes.
    ///
    /// It is set before the socket connects, so that it also decides the window scale offered to the peer (RFC 7323).
    pub const fn recv_buffer_size(mut self, bytes: usize) -> Self {
        self.recv_buffer_size = Some(bytes);
        self
    }

    /// How many bytes the kernel takes that it cannot send yet (`TCP_NOTSENT_LOWAT` of tcp(7)), from 1 to 2^31 - 1.
    ///
    /// Defaults to the setting of the operating system: all that fits into the send buffer, megabytes on Linux. With a limit, a
    /// write waits sooner, and a break costs less of what was written. It does not slow a link: what is on its way through the
    /// network does not count, as it does with [`send_buffer_size`](Self::send_buffer_size). Linux takes up to 64 KiB more.
    ///
    /// Only valid on Linux and Android. A kernel that does not know the option, before Linux 3.12, is left as it is.
    #[doc(alias("TCP_NOTSENT_LOWAT", "bufferbloat", "low_watermark"))]
    pub const fn notsent_lowat(mut self, bytes: usize) -> Self {
        self.notsent_lowat = Some(bytes);
        self
    }
}

/// How the kernel probes an idle peer; see [`Builder::keepalive`](crate::Builder::keepalive).
///
/// A [`Duration`] converts into one and sets the idle time and the interval. Or set each value:
///
/// ```
/// use std::time::Duration;
/// use perconn::{Conn, Keepalive};
///
/// let keepalive = Keepalive::new(Duration::from_secs(60)).interval(Duration::from_secs(10)).probes(4);
/// let builder = Conn::builder("gateway.example:7000").keepalive(keepalive); // a dead peer is found after 100 s
/// # drop(builder);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it does nothing until it is passed to `Builder::keepalive`"]
#[doc(alias("SO_KEEPALIVE", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "heartbeat"))]
pub struct Keepalive {
    /// The silence before the first probe, from 1 to 32,767 s. A part of a second is rounded up.
    idle: Duration,
    /// The time between two probes. Defaults to `idle`, with the same limits.
    interval: Duration,
    /// How many unanswered probes break the link. Defaults to 3; from 1 to 127.
    probes: u32,
}

impl Keepalive {
    /// Sends the first probe after `idle` without a packet from the peer, and two more, each after another `idle`.
    ///
    /// From 1 to 32,767 seconds. The kernel counts whole seconds; fractions are rounded up.
    pub const fn new(idle: Duration) -> Self {
        Self { idle, interval: idle, probes: 3 }
    }

    /// The time between two probes. Defaults to the idle time, and has the same limits.
    pub const fn interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// How many probes in a row may go unanswered before the link breaks. Defaults to 3; from 1 to 127.
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
/// The largest number of probes that Linux takes (`MAX_TCP_KEEPCNT`).
const PROBES_MAX: u32 = 127;
/// The largest size of a buffer: a C `int` (socket(7)).
const BUFFER_MAX: usize = i32::MAX as usize;
/// The largest time that Linux takes for a user timeout: a C `int` of milliseconds (tcp(7)).
const USER_TIMEOUT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

impl SocketOptions {
    /// These options; where one is not set, that of `others`.
    pub(crate) fn or(self, others: Self) -> Self {
        Self {
            nodelay: self.nodelay.or(others.nodelay),
            keepalive: self.keepalive.or(others.keepalive),
            user_timeout: self.user_timeout.or(others.user_timeout),
            local_address: self.local_address.or(others.local_address),
            send_buffer_size: self.send_buffer_size.or(others.send_buffer_size),
            recv_buffer_size: self.recv_buffer_size.or(others.recv_buffer_size),
            notsent_lowat: self.notsent_lowat.or(others.notsent_lowat),
        }
    }

    /// These options, with [`notsent_lowat`](Self::notsent_lowat) only where the platform has it, and `others` do not say by the
    /// size of the send buffer how much the kernel takes.
    #[cfg(feature = "outbox")]
    pub(crate) fn without_second_bound(self, others: &Self) -> Self {
        let is_wanted = SET_NOTSENT_LOWAT.is_some() && others.send_buffer_size.is_none();
        Self { notsent_lowat: self.notsent_lowat.filter(|_| is_wanted), ..self }
    }

    /// The name of the first option that is set.
    pub(crate) fn first_name(&self) -> Option<&'static str> {
        let set = [
            self.nodelay.map(|_| "nodelay"),
            self.keepalive.map(|_| "keepalive"),
            self.user_timeout.map(|_| "user_timeout"),
            self.send_buffer_size.map(|_| "send_buffer_size"),
            self.recv_buffer_size.map(|_| "recv_buffer_size"),
            self.notsent_lowat.map(|_| "notsent_lowat"),
            self.local_address.map(|_| "local_address"),
        ];
        set.into_iter().flatten().next()
    }

    /// The local IP address to bind the socket to.
    pub(crate) fn bind_address(&self) -> Option<IpAddr> {
        self.local_address
    }

    /// Checks that this platform has the options and takes their values.
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
        if let Some(bytes) = self.notsent_lowat.filter(|_| SET_NOTSENT_LOWAT.is_none()) {
            return invalid(format!(
                "notsent_lowat {bytes}: this platform has no TCP_NOTSENT_LOWAT that limits writes"
            ));
        }
        let sizes = [
            ("send_buffer_size", self.send_buffer_size),
            ("recv_buffer_size", self.recv_buffer_size),
            ("notsent_lowat", self.notsent_lowat),
        ];
        for (name, size) in sizes {
            if let Some(size) = size.filter(|size| !(1..=BUFFER_MAX).contains(size)) {
                return invalid(format!("{name} {size}: expected 1 to {BUFFER_MAX}"));
            }
        }
        Ok(())
    }

    /// Sets all options but the local address. The socket may be connected or not.
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
        if let (Some(bytes), Some(set)) = (self.notsent_lowat, SET_NOTSENT_LOWAT) {
            // Without it, the link works as well, and writes take more than they should.
            let _ = set(socket, bytes);
        }
        Ok(())
    }
}

/// The error of a bad value.
fn invalid(text: String) -> Result<(), Error> {
    Err(Error::InvalidConfig(text))
}

/// Sets one option. `None` below means that the platform does not have the option.
type Setter<T> = fn(&SockRef<'_>, T) -> io::Result<()>;

/// For systems that take all three values. It rounds up to whole seconds, as the kernel counts them.
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
/// Elsewhere, a keepalive is an invalid setting.
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
