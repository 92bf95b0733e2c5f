//! Settings of the sockets, and of how a dead peer is found.

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
    /// Defaults to what the operating system, or the dialer, has set. Only valid if the dialer
    /// [takes socket options](Dial::take_socket_options), or its stream is a [`TcpStream`].
    pub fn nodelay(self, nodelay: bool) -> Self {
        self.socket_options(SocketOptions::new().nodelay(nodelay))
    }

    /// Sets these [`SocketOptions`] on every link, before it connects. What was set earlier and is not in `options` stays.
    ///
    /// Only valid if the dialer [takes them](Dial::take_socket_options), or its stream is a [`TcpStream`]; in the latter
    /// case they are set after the dial, and there can be no local address.
    pub fn socket_options(mut self, options: SocketOptions) -> Self {
        self.options = options.or(self.options);
        self
    }

    /// Lets the kernel ask a peer that has been silent whether it is still there, on every link.
    ///
    /// With `keepalive(d)` the link breaks, as [`TimedOut`](io::ErrorKind::TimedOut), when nothing has been heard from
    /// the peer's machine for four times `d`; [`Keepalive`] sets the times one by one. Defaults to what the operating
    /// system, or the dialer, has set: no probes. Only valid where [`nodelay`](Builder::nodelay) is.
    ///
    /// It finds a peer whose machine or network is gone, not a program that hangs on a healthy machine. While bytes of
    /// ours are unacknowledged no probes are sent, and the kernel's patience with them (a quarter of an hour, on Linux)
    /// decides: set [`user_timeout`](Builder::user_timeout) as well, which then also takes the place of the number of
    /// probes.
    pub fn keepalive(self, keepalive: impl Into<Keepalive>) -> Self {
        self.socket_options(SocketOptions::new().keepalive(keepalive))
    }

    /// Sets `TCP_USER_TIMEOUT` on every link (RFC 5482; tcp(7)): how long written bytes may stay unacknowledged.
    ///
    /// When the time has passed, the link breaks within twice `limit` of the first byte that was not acknowledged: as
    /// [`TimedOut`](io::ErrorKind::TimedOut), or as what a router had said of the peer, such as
    /// [`HostUnreachable`](io::ErrorKind::HostUnreachable). While nothing is written, nothing is noticed; with
    /// [`keepalive`](Builder::keepalive) an idle link is, too. From 1 ms to 24 days. Defaults to what the operating
    /// system, or the dialer, has set: about a quarter of an hour on Linux.
    ///
    /// A peer that takes nothing for that long counts as dead, though its machine answers. So does one that reads slowly:
    /// when its receive buffer is full, Linux asks for more only after a good part of it has been read, which must not
    /// take longer than `limit`.
    ///
    /// Only valid where [`nodelay`](Builder::nodelay) is, and on Linux, Android and Fuchsia.
    pub fn user_timeout(self, limit: Duration) -> Self {
        self.socket_options(SocketOptions::new().user_timeout(limit))
    }

    /// How long a waiting read may receive nothing before the link counts as broken, as
    /// [`TimedOut`](io::ErrorKind::TimedOut).
    ///
    /// For protocols in which the peer sends something at intervals, a heartbeat at least. It finds a peer that hangs on
    /// a healthy machine even if nothing is written, and it works on every platform and any stream. What this side sends
    /// does not count. Defaults to none; zero is not valid. Unless a read waits, no time runs: a program that only writes
    /// never breaks a link by this.
    ///
    /// The time runs from the first wait since the last byte. A read that was cancelled may not have been the last, so its
    /// wait counts on; a read that comes back only after the time has run out gets the whole time once more.
    ///
    /// What was not acknowledged by then is not sent any more, so that it cannot arrive after the next link's bytes. (That
    /// holds for TCP on Linux. Elsewhere, and on a stream that is no socket, the kernel may go on sending it until the
    /// last handle has let go of the link.)
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }
}
