//! What the proxy does with one link: the entries of a script.
//!
//! Next: [`trigger`](super::trigger), which finds the byte at which a link is cut.

use std::fmt;
use std::time::Duration;

use super::trigger::{Place, Trigger};

/// A direction through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ToServer => "to the server",
            Self::ToClient => "to the client",
        })
    }
}

/// How the proxy cuts a link. What has passed before has been sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cut {
    /// It closes both sides cleanly, as a server that is stopped: both peers read the end of the stream. What they write
    /// afterwards is answered with a reset, and that can overtake bytes that a slow reader has not read yet.
    Close,
    /// It resets both sides, as a server that crashes with unread bytes or a firewall that rejects. As on any network, the
    /// reset can overtake the last bytes before it: the peer may read the error before them. On a Unix socket,
    /// which knows no reset, this is a close; on Linux, a peer whose bytes were not read yet gets a
    /// [`ConnectionReset`](std::io::ErrorKind::ConnectionReset) all the same.
    Reset,
    /// It ends the direction to the client: the client reads the end of the stream, and what the server sends is thrown away.
    /// What the client writes still passes, up to the next cut, if there is one. The link ends when both peers have closed, or
    /// one has failed; the ledger then says that it was cut.
    HalfClose,
    /// Nothing passes any more in either direction, and both sockets stay open: a hung server, or a peer that has
    /// vanished. A later [`FaultProxy::cut`](super::FaultProxy::cut) ends the link.
    Stall,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Close => "close",
            Self::Reset => "reset",
            Self::HalfClose => "half-close",
            Self::Stall => "stall",
        })
    }
}

/// A day. A longer time counts as this one, which every clock can add.
pub(super) const LONGEST: Duration = Duration::from_secs(86_400);

/// How long the port is closed for a [`Link::refuse`], unless it says otherwise.
pub(super) const REFUSAL: Duration = Duration::from_millis(200);

/// What happens to one link: one entry of [`FaultProxy::script`](super::FaultProxy::script).
///
/// ```
/// use perconn::testing::{Cut, Link};
///
/// let script = [
///     Link::pass().cut_after(4096, Cut::Reset),               // in the middle of a frame
///     Link::refuse(),
///     Link::accept_and_close(),
///     Link::pass().cut_at_from_server(b"COMMIT", Cut::Close), // the server has done it, and the client knows
///     Link::pass(),
/// ];
/// # let _ = script;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a link does nothing until it is a part of a script"]
pub struct Link {
    /// What becomes of the client's dial.
    pub(super) entry: Entry,
    /// Where a link that passes is cut, if that is planned.
    pub(super) triggers: Vec<(Direction, Trigger)>,
    /// The delay of each byte: the least, and how much chance adds at most.
    pub(super) latency: Option<(Duration, Duration)>,
    /// How many bytes pass in a second, in each direction.
    pub(super) bandwidth: Option<u64>,
}

/// What becomes of a client's dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The port is closed for this long.
    Refuse(Duration),
    /// It is accepted and cut at once; the server hears nothing of it.
    AcceptAnd(Cut),
    /// It is accepted and joined to the server.
    Pass,
}

impl Link {
    /// An entry without a cut.
    fn new(entry: Entry) -> Self {
        Self { entry, triggers: Vec::new(), latency: None, bandwidth: None }
    }

    /// The link passes everything, until one of its ends closes it.
    pub fn pass() -> Self {
        Self::new(Entry::Pass)
    }

    /// Dials are refused: the port is closed, for 200 ms or [as long as you say](Self::lasting).
    ///
    /// It closes when the link before this entry is accepted, and opens that long after the link has ended. So the
    /// client's next dial is refused, unless the client waits longer. The times of several entries in a row add up. The
    /// operating system refuses, so the proxy cannot count these dials, and the ledger has no line for them.
    pub fn refuse() -> Self {
        Self::new(Entry::Refuse(REFUSAL))
    }

    /// The link is accepted and closed, as by a load balancer without a backend. The server hears nothing of it.
    pub fn accept_and_close() -> Self {
        Self::new(Entry::AcceptAnd(Cut::Close))
    }

    /// The link is accepted and reset. The server hears nothing of it. The client's dial may see the reset already.
    pub fn accept_and_reset() -> Self {
        Self::new(Entry::AcceptAnd(Cut::Reset))
    }

    /// The link is accepted, and nothing is read or written, as by a server that hangs. The server hears nothing of it.
    pub fn accept_and_stall() -> Self {
        Self::new(Entry::AcceptAnd(Cut::Stall))
    }

    /// For how long a [`refuse`](Self::refuse) lasts, at most a day. For other entries it says nothing.
    pub fn lasting(mut self, time: Duration) -> Self {
        if let Entry::Refuse(lasting) = &mut self.entry {
            *lasting = time;
        }
        self
    }

    /// Cuts the link when this many bytes of the client have been sent to the server.
    ///
    /// With 0, before the first byte. If a link has several cuts, the first that is reached counts. Behind a
    /// [half-close](Cut::HalfClose), the cuts of the client's bytes still count:
    /// `cut_after(10, Cut::HalfClose).cut_after(20, Cut::Reset)` does both.
    pub fn cut_after(self, bytes: u64, cut: Cut) -> Self {
        self.with(Direction::ToServer, Place::After(bytes), cut)
    }

    /// The same for bytes of the server that have been sent to the client.
    pub fn cut_after_from_server(self, bytes: u64, cut: Cut) -> Self {
        self.with(Direction::ToClient, Place::After(bytes), cut)
    }

    /// Cuts the link when the client has sent this pattern: its last byte is the last one that passes.
    ///
    /// With an empty pattern, before the first byte.
    pub fn cut_at(self, pattern: impl AsRef<[u8]>, cut: Cut) -> Self {
        self.with(Direction::ToServer, Place::at(pattern.as_ref()), cut)
    }

    /// The same for a pattern that the server has sent.
    pub fn cut_at_from_server(self, pattern: impl AsRef<[u8]>, cut: Cut) -> Self {
        self.with(Direction::ToClient, Place::at(pattern.as_ref()), cut)
    }

    /// Delays the bytes of this link, in place of [`FaultProxy::latency`](super::FaultProxy::latency).
    pub fn latency(mut self, delay: Duration, jitter: Duration) -> Self {
        self.latency = Some((delay, jitter));
        self
    }

    /// Limits the speed of this link, in place of [`FaultProxy::bandwidth`](super::FaultProxy::bandwidth).
    ///
    /// # Panics
    ///
    /// If it is 0.
    pub fn bandwidth(mut self, bytes_per_second: u64) -> Self {
        self.bandwidth = Some(checked_bandwidth(bytes_per_second));
        self
    }

    /// Adds a cut.
    fn with(mut self, direction: Direction, place: Place, cut: Cut) -> Self {
        self.triggers.push((direction, Trigger { place, cut }));
        self
    }

    /// For how long the port is closed, if this entry refuses.
    pub(super) fn refusal(&self) -> Option<Duration> {
        match self.entry {
            Entry::Refuse(time) => Some(time),
            _ => None,
        }
    }

    /// The cuts in one direction.
    pub(super) fn triggers(&self, direction: Direction) -> Vec<Trigger> {
        self.triggers.iter().filter(|(of, _)| *of == direction).map(|(_, trigger)| trigger.clone()).collect()
    }
}

/// A speed, which must not be zero.
#[track_caller]
pub(super) fn checked_bandwidth(bytes_per_second: u64) -> u64 {
    assert!(bytes_per_second > 0, "bandwidth(0): expected at least 1 byte a second; with `stall`, nothing passes");
    bytes_per_second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cut_is_in_its_direction_and_in_the_order_of_the_script() {
        let link = Link::pass()
            .cut_after(4, Cut::Reset)
            .cut_at_from_server(b"OK", Cut::HalfClose)
            .cut_after_from_server(9, Cut::Stall)
            .cut_at(b"END", Cut::Close);
        let triggers = |direction| format!("{:?}", link.triggers(direction));
        assert_eq!(
            triggers(Direction::ToServer),
            format!("[Trigger {{ place: After(4), cut: Reset }}, Trigger {{ place: At({:?}), cut: Close }}]", b"END")
        );
        assert_eq!(
            triggers(Direction::ToClient),
            format!(
                "[Trigger {{ place: At({:?}), cut: HalfClose }}, Trigger {{ place: After(9), cut: Stall }}]",
                b"OK"
            )
        );
    }

    #[test]
    fn direction_is_named_by_where_it_leads() {
        let names = [Direction::ToServer, Direction::ToClient].map(|direction| direction.to_string());
        assert_eq!(names, ["to the server", "to the client"]);
    }

    #[test]
    fn refusal_lasts_200_ms_unless_it_says_otherwise() {
        let time = Duration::from_secs(3);
        assert_eq!(Link::refuse().refusal(), Some(Duration::from_millis(200)));
        assert_eq!(Link::refuse().lasting(time).refusal(), Some(time));
        for link in [Link::pass(), Link::accept_and_close(), Link::accept_and_reset(), Link::accept_and_stall()] {
            assert_eq!(link.lasting(time).refusal(), None);
        }
    }

    #[test]
    fn slowest_bandwidth_is_one_byte_a_second() {
        assert_eq!(Link::pass().bandwidth(1).bandwidth, Some(1));
        assert!(std::panic::catch_unwind(|| Link::pass().bandwidth(0)).is_err());
    }
}
