//! Settings of the sockets, and of how a dead peer is detected.
//!
//! Next: [`SocketOptions`], which checks and sets them.

#[cfg(doc)]
use std::io;
use std::time::Duration;

#[cfg(doc)]
use tokio::net::TcpStream;

use super::Builder;
#[cfg(doc)]
use crate::Dial;
use crate::{Keepalive, SocketOptions};

impl<D> Builder<D> {
    /// Sets `TCP_NODELAY` on every link: `true` sends small writes at once.
    ///
    /// Defaults to the setting of the operating system or the dialer. Only valid if the dialer
    /// [takes socket options](Dial::take_socket_options), or if its stream is a [`TcpStream`].
    #[doc(alias("TCP_NODELAY", "nagle"))]
    pub fn nodelay(self, nodelay: bool) -> Self {
        self.socket_options(SocketOptions::new().nodelay(nodelay))
    }

    /// Sets these options where the program has not set them, if they are valid.
    #[cfg(feature = "outbox")]
    pub(crate) fn prefer(mut self, options: SocketOptions) -> Self
    where
        D: crate::Dial,
    {
        let options = self.options.or(options.without_second_bound(&self.options));
        if crate::link::is_type::<D::Stream, tokio::net::TcpStream>() || self.dialer.take_socket_options(&options) {
            self.options = options;
        }
        self
    }

    /// Sets these [`SocketOptions`] on every link before it connects. Options that were set earlier and are not in
    /// `options` stay.
    ///
    /// Only valid if the dialer [takes them](Dial::take_socket_options), or if its stream is a [`TcpStream`]. In the
    /// second case they are set after the dial, and a local address, an interface, a mark and Multipath TCP are not valid.
    #[doc(alias(
        "setsockopt",
        "SO_SNDBUF",
        "SO_RCVBUF",
        "SO_MARK",
        "SO_BINDTODEVICE",
        "IP_TOS",
        "DSCP",
        "MPTCP",
        "bind"
    ))]
    pub fn socket_options(mut self, options: SocketOptions) -> Self {
        self.options = options.or(self.options);
        self
    }

    /// Makes the kernel probe a silent peer, on every link.
    ///
    /// With `keepalive(d)` the link breaks as [`TimedOut`](io::ErrorKind::TimedOut) when nothing has arrived from the
    /// peer's machine for four times `d`; [`Keepalive`] sets each time on its own. Defaults to the setting of the
    /// operating system or the dialer: no probes. Only valid where [`nodelay`](Builder::nodelay) is.
    ///
    /// Keepalive detects a dead machine or network. It does not detect a program that hangs on a healthy machine; see
    /// [`idle_timeout`](Builder::idle_timeout). While written bytes are unacknowledged, the kernel sends no probes, and
    /// its retransmission timeout decides: a quarter of an hour on Linux. Set [`user_timeout`](Builder::user_timeout)
    /// as well, which then also replaces the number of probes.
    #[doc(alias("SO_KEEPALIVE", "TCP_KEEPIDLE", "heartbeat", "ping"))]
    pub fn keepalive(self, keepalive: impl Into<Keepalive>) -> Self {
        self.socket_options(SocketOptions::new().keepalive(keepalive))
    }

    /// Limits how long written bytes may stay unacknowledged, on every link: `TCP_USER_TIMEOUT` of Linux (RFC 5482;
    /// tcp(7)) and its like elsewhere.
    ///
    /// On Linux the link breaks within twice `limit` after the first unacknowledged byte. The error is
    /// [`TimedOut`](io::ErrorKind::TimedOut), or what a router reported about the peer, such as
    /// [`HostUnreachable`](io::ErrorKind::HostUnreachable). While nothing is written, this option detects nothing; add
    /// [`keepalive`](Builder::keepalive) for idle links. From 1 ms to 24 days. Defaults to the setting of the operating
    /// system or the dialer: about a quarter of an hour on Linux.
    ///
    /// A peer that accepts nothing for that long counts as dead, even if its machine answers. This can hit a peer that
    /// reads slowly: when its receive buffer is full, Linux asks for more only after a good part of it has been read.
    /// That must not take longer than `limit`.
    ///
    /// On macOS and iOS it is `TCP_RXT_CONNDROPTIME`: whole seconds, rounded up, which count from the first
    /// retransmission. On Windows it is `TCP_MAXRTMS`, which Windows 10 has from version 1607 on; without it, each dial
    /// fails. When exactly these two systems break the link has not been measured.
    ///
    /// Only valid where [`nodelay`](Builder::nodelay) is, and on Linux, Android, Fuchsia, macOS, iOS and Windows.
    #[doc(alias("TCP_USER_TIMEOUT", "TCP_RXT_CONNDROPTIME", "TCP_MAXRTMS", "write_timeout"))]
    pub fn user_timeout(self, limit: Duration) -> Self {
        self.socket_options(SocketOptions::new().user_timeout(limit))
    }

    /// How long a waiting read may receive nothing before the link breaks, as [`TimedOut`](io::ErrorKind::TimedOut).
    ///
    /// For protocols in which the peer sends something at intervals, at least a heartbeat. It detects a peer that
    /// hangs on a healthy machine even if nothing is written, and works on every platform and with every stream.
    /// Bytes that this side sends do not count. Defaults to none; zero is not valid. The time runs only while a read
    /// waits: a program that only writes never breaks a link this way.
    ///
    /// The time runs from the first wait since the last byte. The wait of a cancelled read counts, as another read may
    /// follow. A read that comes only after the time has run out gets the whole time again.
    ///
    /// Bytes that were not acknowledged by then are not sent any more, so that they cannot arrive after the bytes of
    /// the next link. This holds for TCP on Linux. Elsewhere, and on a stream that is not a socket, the kernel may go
    /// on sending them until the last handle drops the link.
    #[doc(alias("keepalive", "read_timeout", "heartbeat", "liveness", "inactivity_timeout"))]
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }
}
