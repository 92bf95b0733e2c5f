//! The figures of this crate as metrics, through the facade of the crate `metrics`.
//!
//! Feature `metrics`. Install a recorder, such as that of `metrics-exporter-prometheus`, and record the figures whenever somebody
//! looks, or every few seconds:
//!
//! ```
//! use std::time::Duration;
//!
//! use perconn::{Conn, metrics};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), perconn::Error> {
//! metrics::describe();
//! let conn = Conn::builder("db.example:7000").name("billing-db").build()?;
//! let stats = conn.watch_stats(); // the connection may move to another task
//! tokio::spawn(async move {
//!     loop {
//!         stats.current().record_metrics("billing-db");
//!         tokio::time::sleep(Duration::from_secs(10)).await;
//!     }
//! });
//! # Ok(())
//! # }
//! ```
//!
//! The counters are those of the figures themselves, so nothing is lost between two calls, and reads and writes cost nothing
//! more. Only the two histograms are recorded when something happens, by the connection itself. Give each connection, pool,
//! acceptor and outbox a name of its own: two with the same name overwrite each other's counters.
//!
//! # The metrics
//!
//! Names, units and attributes follow OpenTelemetry's semantic conventions where these have a word. Exporters to Prometheus
//! write `perconn_dials` for `perconn.dials`.
//!
//! | name | kind, unit | attributes | from |
//! |---|---|---|---|
//! | `perconn.dial.duration` | histogram, s | `connection`, `error.type` of a failed one | each dial |
//! | `perconn.link.duration` | histogram, s | `connection`, `error.type` | each break |
//! | `perconn.connected` | gauge, 1 or 0 | `connection` | [`ConnStats`] |
//! | `perconn.dials`, `perconn.dials.failed`, `perconn.links` | counter | `connection` | [`ConnStats`] |
//! | `perconn.breaks` | counter | `connection`, `cause` | [`ConnStats`] |
//! | `perconn.time` | gauge, s | `connection`, `state`: `up` or `down` | [`ConnStats`] |
//! | `perconn.network.io` | counter, bytes | `connection`, `network.io.direction` | [`ConnStats`] |
//! | `perconn.pool.connection.count` | gauge | `pool`, `state`: `used` or `idle` | `pool::Stats` |
//! | `perconn.pool.connection.max`, `perconn.pool.connection.pending_requests` | gauge | `pool` | `pool::Stats` |
//! | `perconn.pool.connection.timeouts` | counter | `pool`, `stage`: `user`, `slot` or `dial` | `pool::Stats` |
//! | `perconn.pool.connection.opened`, `.reused`, `.failed`, `.evicted`, `.found_dead` | counter | `pool` | `pool::Stats` |
//! | `perconn.acceptor.connections`, `perconn.acceptor.handshakes` | gauge | `acceptor` | `acceptor::Stats` |
//! | `perconn.acceptor.accepted`, `perconn.acceptor.accepts.failed` | counter | `acceptor` | `acceptor::Stats` |
//! | `perconn.acceptor.turned_away`, `perconn.acceptor.ended` | counter | `acceptor`, `reason` | `acceptor::Stats` |
//! | `perconn.outbox.accepted` | counter | `outbox` | `outbox::Tally` |
//! | `perconn.outbox.messages` | counter | `outbox`, `fate` | `outbox::Tally` |
//! | `perconn.outbox.waiting` | gauge | `outbox` | `outbox::Tally` |
//!
//! A listener of `postgres` and an outbox have the figures of their connection as well, by `conn_stats`.

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

use crate::ConnStats;

/// Describes the metrics to the recorder: what they mean, and their units. Call it once, after the recorder is installed.
///
/// Calling it twice, or never, does no harm.
pub fn describe() {
    describe_histogram!("perconn.dial.duration", Unit::Seconds, "How long dials took, with their session set-up.");
    describe_histogram!("perconn.link.duration", Unit::Seconds, "How long the links that broke had been up.");
    describe_gauge!("perconn.connected", "Whether there is a link: 1 or 0.");
    describe_counter!("perconn.dials", "Dials that were begun.");
    describe_counter!("perconn.dials.failed", "Dials that have failed.");
    describe_counter!("perconn.links", "Links that came up.");
    describe_counter!("perconn.breaks", "Links that broke, by cause.");
    describe_gauge!("perconn.time", Unit::Seconds, "How long there was a link (up) and none (down).");
    describe_counter!(
        "perconn.network.io",
        Unit::Bytes,
        "Bytes that the program has read (receive) and written (transmit)."
    );
    describe_gauge!("perconn.pool.connection.count", "Connections of the pool: used and idle.");
    describe_gauge!("perconn.pool.connection.max", "How many connections the pool may have.");
    describe_gauge!("perconn.pool.connection.pending_requests", "Callers that wait for a connection.");
    describe_counter!("perconn.pool.connection.timeouts", "Callers that waited for too long.");
    describe_counter!("perconn.pool.connection.opened", "Connections that were opened.");
    describe_counter!("perconn.pool.connection.reused", "Connections that were handed out again.");
    describe_counter!("perconn.pool.connection.failed", "Connections that could not be opened.");
    describe_counter!("perconn.pool.connection.evicted", "Idle connections that made room for others.");
    describe_counter!("perconn.pool.connection.found_dead", "Idle connections that were found dead.");
    describe_gauge!("perconn.acceptor.connections", "Connections that are being served.");
    describe_gauge!("perconn.acceptor.handshakes", "Connections in their handshake.");
    describe_counter!("perconn.acceptor.accepted", "Connections that were accepted.");
    describe_counter!("perconn.acceptor.accepts.failed", "Calls of accept that have failed.");
    describe_counter!("perconn.acceptor.turned_away", "Connections that got no handler, by reason.");
    describe_counter!("perconn.acceptor.ended", "Connections that ended, by reason.");
    describe_counter!("perconn.outbox.accepted", "Messages that were accepted.");
    describe_counter!("perconn.outbox.messages", "Messages that met their fate, by fate.");
    describe_gauge!("perconn.outbox.waiting", "Messages that have no fate yet.");
}

#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
impl ConnStats {
    /// Records these figures as [metrics](crate::metrics) of the connection with this name.
    pub fn record_metrics(&self, name: &str) {
        let name = || name.to_owned();
        gauge!("perconn.connected", "connection" => name()).set(u8::from(self.is_connected));
        counter!("perconn.dials", "connection" => name()).absolute(self.dials);
        counter!("perconn.dials.failed", "connection" => name()).absolute(self.failed_dials);
        counter!("perconn.links", "connection" => name()).absolute(self.generation);
        let breaks = &self.breaks;
        for (cause, count) in [
            ("closed", breaks.closed),
            ("reset", breaks.reset),
            ("timed_out", breaks.timed_out),
            ("requested", breaks.requested),
            ("other", breaks.other),
        ] {
            counter!("perconn.breaks", "connection" => name(), "cause" => cause).absolute(count);
        }
        for (state, time) in [("up", self.time_up), ("down", self.time_down)] {
            gauge!("perconn.time", "connection" => name(), "state" => state).set(time.as_secs_f64());
        }
        for (direction, bytes) in [("receive", self.bytes_read), ("transmit", self.bytes_written)] {
            counter!("perconn.network.io", "connection" => name(), "network.io.direction" => direction).absolute(bytes);
        }
    }
}

#[cfg(feature = "pool")]
impl crate::pool::Stats {
    /// Records these figures as [metrics](crate::metrics) of the pool with this name.
    #[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
    pub fn record_metrics(&self, name: &str) {
        let name = || name.to_owned();
        for (state, count) in [("used", self.in_use), ("idle", self.idle)] {
            gauge!("perconn.pool.connection.count", "pool" => name(), "state" => state).set(count as f64);
        }
        gauge!("perconn.pool.connection.max", "pool" => name()).set(self.max as f64);
        gauge!("perconn.pool.connection.pending_requests", "pool" => name()).set(self.waiting as f64);
        let timeouts = &self.timeouts;
        for (stage, count) in [("user", timeouts.user), ("slot", timeouts.slot), ("dial", timeouts.dial)] {
            counter!("perconn.pool.connection.timeouts", "pool" => name(), "stage" => stage).absolute(count);
        }
        for (metric, count) in [
            ("perconn.pool.connection.opened", self.opened),
            ("perconn.pool.connection.reused", self.reused),
            ("perconn.pool.connection.failed", self.dials_failed),
            ("perconn.pool.connection.evicted", self.evicted),
            ("perconn.pool.connection.found_dead", self.found_dead),
        ] {
            counter!(metric, "pool" => name()).absolute(count);
        }
    }
}

#[cfg(feature = "acceptor")]
impl crate::acceptor::Stats {
    /// Records these figures as [metrics](crate::metrics) of the acceptor with this name.
    #[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
    pub fn record_metrics(&self, name: &str) {
        let name = || name.to_owned();
        gauge!("perconn.acceptor.connections", "acceptor" => name()).set(self.busy as f64);
        gauge!("perconn.acceptor.handshakes", "acceptor" => name()).set(self.handshaking as f64);
        counter!("perconn.acceptor.accepted", "acceptor" => name()).absolute(self.accepted);
        counter!("perconn.acceptor.accepts.failed", "acceptor" => name()).absolute(self.accepts_failed);
        for (reason, count) in [
            ("finished", self.finished),
            ("failed", self.failed),
            ("timed_out", self.timed_out),
            ("panicked", self.panicked),
            ("cut", self.cut),
        ] {
            counter!("perconn.acceptor.ended", "acceptor" => name(), "reason" => reason).absolute(count);
        }
        for (reason, count) in
            [("refused", self.refused), ("rejected", self.rejected), ("handshake", self.handshakes_failed)]
        {
            counter!("perconn.acceptor.turned_away", "acceptor" => name(), "reason" => reason).absolute(count);
        }
    }
}

#[cfg(feature = "outbox")]
impl crate::outbox::Tally {
    /// Records these figures as [metrics](crate::metrics) of the outbox with this name.
    #[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
    pub fn record_metrics(&self, name: &str) {
        let name = || name.to_owned();
        counter!("perconn.outbox.accepted", "outbox" => name()).absolute(self.accepted);
        for (fate, count) in [
            ("answered", self.answered),
            ("rejected", self.rejected),
            ("written", self.written),
            ("in_doubt", self.in_doubt),
            ("dropped", self.dropped),
            ("expired", self.expired),
            ("unsent", self.unsent),
        ] {
            counter!("perconn.outbox.messages", "outbox" => name(), "fate" => fate).absolute(count);
        }
        gauge!("perconn.outbox.waiting", "outbox" => name()).set(self.waiting as f64);
    }
}
