//! Options of a TCP socket that are set again on every link.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::Error;

/// What the builder was asked to set. `None`: what the operating system, or the dialer, has set.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SocketOptions {
    pub(crate) nodelay: Option<bool>,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) user_timeout: Option<Duration>,
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
/// The largest time that Linux takes for a user timeout: a C `int` of milliseconds (tcp(7)).
const USER_TIMEOUT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

impl SocketOptions {
    /// The name of an option that was asked for, if any was.
    pub(crate) fn first_name(&self) -> Option<&'static str> {
        let asked = [
            self.nodelay.map(|_| "nodelay"),
            self.keepalive.map(|_| "keepalive"),
            self.user_timeout.map(|_| "user_timeout"),
        ];
        asked.into_iter().flatten().next()
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
        Ok(())
    }

    pub(crate) fn apply(&self, stream: &TcpStream) -> io::Result<()> {
        if let Some(nodelay) = self.nodelay {
            stream.set_nodelay(nodelay)?;
        }
        if let (Some(keepalive), Some(set)) = (self.keepalive, SET_KEEPALIVE) {
            set(stream, keepalive)?;
        }
        if let (Some(limit), Some(set)) = (self.user_timeout, SET_USER_TIMEOUT) {
            set(stream, limit)?;
        }
        Ok(())
    }
}

fn invalid(text: String) -> Result<(), Error> {
    Err(Error::InvalidConfig(text))
}

/// How an option is set on this platform; `None` where it does not exist.
type Setter<T> = fn(&TcpStream, T) -> io::Result<()>;

#[cfg(any(
    target_os = "android",
    target_os = "freebsd",
    target_os = "ios",
    target_os = "linux",
    target_os = "macos",
    target_os = "netbsd",
    windows,
))]
const SET_KEEPALIVE: Option<Setter<Keepalive>> = Some(|stream, keepalive| {
    let Keepalive { idle, interval, probes } = keepalive;
    let seconds = |time: Duration| Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0));
    let settings =
        socket2::TcpKeepalive::new().with_time(seconds(idle)).with_interval(seconds(interval)).with_retries(probes);
    SockRef::from(stream).set_tcp_keepalive(&settings)
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
const SET_USER_TIMEOUT: Option<Setter<Duration>> =
    Some(|stream, limit| SockRef::from(stream).set_tcp_user_timeout(Some(limit)));
#[cfg(not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")))]
const SET_USER_TIMEOUT: Option<Setter<Duration>> = None;
