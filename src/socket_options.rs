//! Options of a TCP socket, set again on every link.
//!
//! The builder collects them, and [`TcpDialer`](crate::TcpDialer) sets them before it connects. Next:
//! `builder/socket.rs`, where the public docs of each option are.

use std::net::IpAddr;
use std::time::Duration;
use std::{fmt, io};

use socket2::SockRef;

use self::device::{BIND_DEVICE, DeviceName};
pub use self::keepalive::Keepalive;
use self::keepalive::SET_KEEPALIVE;
use self::multipath::HAS_MULTIPATH;
use self::notsent_lowat::SET_NOTSENT_LOWAT;
use self::traffic::{SET_MARK, SET_TYPE_OF_SERVICE};
use self::user_timeout::SET_USER_TIMEOUT;
use crate::Error;

/// Defines the [`Setter`] of an option for the platforms that have it. Elsewhere it is `None`, and the option an invalid setting.
macro_rules! setter {
    ($(#[$doc:meta])* $name:ident: $value:ty, on $platforms:meta, $set:expr) => {
        $(#[$doc])*
        #[cfg($platforms)]
        pub(super) const $name: Option<super::Setter<$value>> = Some($set);
        $(#[$doc])*
        #[cfg(not($platforms))]
        pub(super) const $name: Option<super::Setter<$value>> = None;
    };
}

mod device;
mod keepalive;
mod multipath;
mod notsent_lowat;
mod traffic;
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
#[doc(alias("setsockopt", "SO_SNDBUF", "SO_RCVBUF", "TCP_NODELAY", "bind", "DSCP", "fwmark"))]
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
    /// The interface to bind to before the connect.
    bind_device: Option<DeviceName>,
    /// `SO_MARK`, on each packet.
    mark: Option<u32>,
    /// `IP_TOS` or `IPV6_TCLASS`, a multiple of 4.
    type_of_service: Option<u8>,
    /// Whether the socket is one of Multipath TCP, where there are such.
    multipath: Option<bool>,
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
            bind_device: None,
            mark: None,
            type_of_service: None,
            multipath: None,
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

    /// The network interface to send and receive by, whatever the routes say: `"eth1"`, `"wg0"`, `"vrf-blue"`.
    ///
    /// `SO_BINDTODEVICE` of Linux, Android and Fuchsia, which needs no privilege on Linux since 5.7 and `CAP_NET_RAW` before;
    /// `IP_BOUND_IF` on macOS and iOS. Elsewhere it is not valid. From 1 to 15 bytes. A name that no interface has fails the dial,
    /// as the interface may come later.
    #[doc(alias("SO_BINDTODEVICE", "IP_BOUND_IF", "interface", "vrf"))]
    pub fn bind_device(mut self, interface: impl AsRef<str>) -> Self {
        self.bind_device = Some(DeviceName::new(interface.as_ref()));
        self
    }

    /// The mark of all packets of the link, for the policy routes and filters of this machine (`SO_MARK`).
    ///
    /// On Linux, Android and Fuchsia; elsewhere it is not valid. It needs `CAP_NET_ADMIN`, or `CAP_NET_RAW` on Linux since 5.17.
    /// Without, each dial fails as [`PermissionDenied`](io::ErrorKind::PermissionDenied).
    #[doc(alias("SO_MARK", "fwmark"))]
    pub const fn mark(mut self, mark: u32) -> Self {
        self.mark = Some(mark);
        self
    }

    /// The priority of the packets for the routers on the way: `IP_TOS`, or `IPV6_TCLASS` for IPv6.
    ///
    /// The upper six bits are the code point of DiffServ (RFC 2474): `46 << 2` for expedited forwarding, `8 << 2` for bulk transfers
    /// of little importance. The lower two belong to the kernel (ECN, RFC 3168), so it has to be a multiple of 4. On Linux, it also
    /// chooses the priority in the queue of this machine. On Windows and iOS it is not valid.
    #[doc(alias("IP_TOS", "IPV6_TCLASS", "DSCP", "QoS"))]
    pub const fn type_of_service(mut self, value: u8) -> Self {
        self.type_of_service = Some(value);
        self
    }

    /// Whether to connect by Multipath TCP (RFC 8684), so that a link can use several interfaces and outlive the loss of one.
    ///
    /// On Linux since 5.6; on other systems, `true` is not valid. Without support in the kernel (`net.mptcp.enabled`), and if an
    /// option is set that the kernel lacks for these sockets (`user_timeout` on many), the socket is one of TCP. With a peer that has
    /// no Multipath TCP, the kernel goes on with TCP. Which addresses are used besides is set by `ip mptcp`. Defaults to `false`.
    #[doc(alias("MPTCP", "IPPROTO_MPTCP"))]
    pub const fn multipath(mut self, is_multipath: bool) -> Self {
        self.multipath = Some(is_multipath);
        self
    }
}

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
            bind_device: self.bind_device.or(others.bind_device),
            mark: self.mark.or(others.mark),
            type_of_service: self.type_of_service.or(others.type_of_service),
            multipath: self.multipath.or(others.multipath),
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
            self.type_of_service.map(|_| "type_of_service"),
            self.notsent_lowat.map(|_| "notsent_lowat"),
            self.local_address.map(|_| "local_address"),
            self.bind_device.map(|_| "bind_device"),
            self.mark.map(|_| "mark"),
            self.multipath.map(|_| "multipath"),
        ];
        set.into_iter().flatten().next()
    }

    /// The local IP address to bind the socket to.
    pub(crate) fn bind_address(&self) -> Option<IpAddr> {
        self.local_address
    }

    /// The first option that has no effect, or not all of it, after the connect; as it was set.
    pub(crate) fn first_before_connect(&self) -> Option<String> {
        let local_address = self.local_address.map(|address| format!("local_address {address}"));
        let bind_device = || self.bind_device.map(|name| format!("bind_device {name}"));
        let mark = || self.mark.map(|mark| format!("mark {mark}"));
        let multipath = || self.multipath.filter(|is_set| *is_set).map(|_| "multipath true".to_owned());
        local_address.or_else(bind_device).or_else(mark).or_else(multipath)
    }

    /// Checks that this platform has the options and takes their values.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let Some(keepalive) = self.keepalive {
            keepalive.check().or_else(invalid)?;
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
        self.check_routing()
    }

    /// Checks the options that say which way packets take.
    fn check_routing(&self) -> Result<(), Error> {
        if let Some(name) = self.bind_device {
            name.check().or_else(invalid)?;
            if BIND_DEVICE.is_none() {
                return invalid(format!("bind_device {name}: this platform binds no socket to an interface"));
            }
        }
        if let Some(mark) = self.mark.filter(|_| SET_MARK.is_none()) {
            return invalid(format!("mark {mark}: this platform has no SO_MARK"));
        }
        if let Some(value) = self.type_of_service {
            if SET_TYPE_OF_SERVICE.is_none() {
                return invalid(format!("type_of_service {value}: this platform has none, or does not heed it"));
            }
            if value % 4 != 0 {
                return invalid(format!(
                    "type_of_service {value}: expected a multiple of 4, six bits of DiffServ above two"
                ));
            }
        }
        if self.multipath == Some(true) && !HAS_MULTIPATH {
            return invalid("multipath true: this platform has no Multipath TCP".into());
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
        if let (Some(name), Some(bind)) = (self.bind_device, BIND_DEVICE) {
            bind(socket, name).map_err(|error| named(format_args!("bind_device {name}"), &error))?;
        }
        if let (Some(mark), Some(set)) = (self.mark, SET_MARK) {
            set(socket, mark).map_err(|error| named(format_args!("mark {mark}"), &error))?;
        }
        if let (Some(value), Some(set)) = (self.type_of_service, SET_TYPE_OF_SERVICE) {
            set(socket, value).map_err(|error| named(format_args!("type_of_service {value}"), &error))?;
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

/// Names an option in the error of setting it.
fn named(option: fmt::Arguments<'_>, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{option}: {error}"))
}

/// Sets one option. `None` in its place means that the platform does not have the option.
type Setter<T> = fn(&SockRef<'_>, T) -> io::Result<()>;
