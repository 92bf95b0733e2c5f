//! The rules of silence: when to send a heartbeat, and when to drop the connection. No I/O, no clock.
//!
//! Next: [`ServerConnection`](super::connection::ServerConnection), which follows them.

use std::time::Duration;

use tokio::time::Instant;

/// The signs of life of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heartbeat {
    /// Send a heartbeat when nothing has arrived, or when nothing was sent, for this long.
    interval: Option<Duration>,
    /// Drop the connection when nothing has arrived for this long after a query.
    limit: Duration,
    /// When the query was sent after which nothing has arrived yet.
    query_sent_at: Option<Instant>,
    /// When this side last sent anything. The server's `idle_session_timeout` runs from then on, whatever the server sends.
    last_sent: Instant,
    /// When this side last began to read again after a pause.
    resumed_at: Option<Instant>,
    /// The limit has passed, and the socket is checked once more until this time.
    last_check: Option<Instant>,
}

/// What the caller has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeartbeatStep {
    /// Nothing before this time, or before something arrives.
    Wait(Option<Instant>),
    /// Send a heartbeat. The time for its answer runs from now on.
    Send,
    /// Drop the connection.
    GiveUp,
}

/// The socket is checked once more after this delay. If the program was suspended, the timer may fire before the
/// runtime has looked at the socket.
const GRACE: Duration = Duration::from_millis(20);

impl Heartbeat {
    /// The rules for a connection that begins now. Without an `interval`, there are no heartbeats.
    pub(super) fn new(interval: Option<Duration>, limit: Duration, now: Instant) -> Self {
        Self { interval, limit, query_sent_at: None, last_sent: now, resumed_at: None, last_check: None }
    }

    /// Anything was sent.
    pub(super) fn note_sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    /// A ping of the program was sent: its answer has a limit.
    pub(super) fn note_ping(&mut self, now: Instant) {
        self.query_sent_at.get_or_insert(now);
    }

    /// This side reads again. The pause before says nothing about the server.
    pub(super) fn note_resumed(&mut self, now: Instant) {
        self.resumed_at = Some(now);
        self.query_sent_at = self.query_sent_at.map(|_| now);
        self.last_check = None;
    }

    /// The next step, when everything that has arrived was read. The last byte was read at `last_read`.
    ///
    /// While the server works on a statement of the program, it may be silent for as long as the statement takes.
    pub(super) fn step(&mut self, now: Instant, last_read: Instant, is_statement_running: bool) -> HeartbeatStep {
        if self.query_sent_at.is_some_and(|sent| sent < last_read) {
            self.query_sent_at = None;
            self.last_check = None;
        }
        if is_statement_running {
            self.last_check = None;
            return HeartbeatStep::Wait(None);
        }
        if let Some(sent) = self.query_sent_at {
            let Some(end) = sent.checked_add(self.limit) else { return HeartbeatStep::Wait(None) };
            if now < end {
                return HeartbeatStep::Wait(Some(end));
            }
            let last_check = *self.last_check.get_or_insert(now + GRACE);
            return if now < last_check { HeartbeatStep::Wait(Some(last_check)) } else { HeartbeatStep::GiveUp };
        }
        let quiet_since = self.resumed_at.map_or(last_read, |resumed| resumed.max(last_read)).min(self.last_sent);
        match self.interval.and_then(|interval| quiet_since.checked_add(interval)) {
            None => HeartbeatStep::Wait(None),
            Some(due) if now < due => HeartbeatStep::Wait(Some(due)),
            Some(_) => {
                self.query_sent_at = Some(now);
                self.last_sent = now;
                HeartbeatStep::Send
            }
        }
    }
}

#[cfg(test)]
mod tests;
