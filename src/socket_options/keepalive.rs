//! How a silent peer is probed.
//!
//! Next: [`SocketOptions::apply`](super::SocketOptions), which sets it.

use std::time::Duration;

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

impl Keepalive {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self { idle, interval, probes } = *self;
        if SET_KEEPALIVE.is_none() {
            return Err("keepalive: this platform has no such option".into());
        }
        for (name, time) in [("keepalive", idle), ("keepalive interval", interval)] {
            if time < Duration::from_secs(1) || KEEPALIVE_MAX < time {
                return Err(format!("{name} {time:?}: expected 1s to {KEEPALIVE_MAX:?}"));
            }
        }
        if !(1..=PROBES_MAX).contains(&probes) {
            return Err(format!("keepalive probes {probes}: expected 1 to {PROBES_MAX}"));
        }
        Ok(())
    }
}

setter! {
    /// For systems that take all three values. It rounds up to whole seconds, as the kernel counts them.
    SET_KEEPALIVE: Keepalive, on any(
        target_os = "android",
        target_os = "freebsd",
        target_os = "ios",
        target_os = "linux",
        target_os = "macos",
        target_os = "netbsd",
        windows,
    ),
    |socket, keepalive| {
        let Keepalive { idle, interval, probes } = keepalive;
        let seconds = |time: Duration| Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0));
        let settings = socket2::TcpKeepalive::new().with_time(seconds(idle)).with_interval(seconds(interval));
        socket.set_tcp_keepalive(&settings.with_retries(probes))
    }
}
