//! The figures of a connection, kept while things happen.
//!
//! Next: [`ConnStats`], as the program gets them.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::byte_count::ByteCount;
use crate::fault::{Cause, Fault};
use crate::{Breaks, ConnStats, Error};

/// What has happened so far.
#[derive(Debug)]
pub(super) struct Figures {
    /// When the connection was built.
    begun: Instant,
    /// How many dials were begun.
    dials: u64,
    /// What has ended or failed. On the heap, as for many connections nothing has.
    past: Option<Box<Past>>,
}

/// What has ended or failed.
#[derive(Debug, Default)]
struct Past {
    /// When the connection ended.
    ended: Option<Instant>,
    /// How many dials have failed.
    failed_dials: u64,
    /// Breaks by cause.
    breaks: Breaks,
    /// How long the links before the present one were up.
    up: Duration,
    /// Bytes read and written on the links before the last two.
    bytes: (u64, u64),
    /// The bytes of the link before the newest. Its last calls may still return.
    previous: Option<Arc<ByteCount>>,
    /// The last failure.
    last_error: Option<Arc<Error>>,
}

impl Figures {
    /// The figures of a new connection.
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), dials: 0, past: None }
    }

    /// A dial begins.
    pub(super) fn dial_begins(&mut self) {
        self.dials += 1;
    }

    /// A dial has failed, or a link broke. Returns the failure before, to be dropped without the lock.
    pub(super) fn failed(&mut self, error: &Arc<Error>) -> Option<Arc<Error>> {
        let past = self.past.get_or_insert_default();
        past.failed_dials += u64::from(matches!(**error, Error::DialFailure { .. }));
        past.last_error.replace(Arc::clone(error))
    }

    /// The last failure.
    pub(super) fn last_error(&self) -> Option<Arc<Error>> {
        self.past.as_ref()?.last_error.clone()
    }

    /// Another link begins after the one with these bytes.
    pub(super) fn link_replaced(&mut self, byte_count: &Arc<ByteCount>) {
        let past = self.past.get_or_insert_default();
        if let Some(before) = past.previous.replace(Arc::clone(byte_count)) {
            past.bytes.0 += before.read();
            past.bytes.1 += before.written();
        }
    }

    /// A link broke.
    pub(super) fn link_broke(&mut self, fault: &Fault) {
        let past = self.past.get_or_insert_default();
        past.up += fault.lived;
        let breaks = &mut past.breaks;
        *match &fault.cause {
            Cause::PeerClosed | Cause::DialerSaysClosed => &mut breaks.closed,
            Cause::Requested => &mut breaks.requested,
            Cause::IdleTimeout(_) => &mut breaks.timed_out,
            Cause::Failed(error) => match error.kind() {
                ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => &mut breaks.reset,
                ErrorKind::TimedOut => &mut breaks.timed_out,
                _ => &mut breaks.other,
            },
        } += 1;
    }

    /// The connection ends. `up`: how long a link was up that ends with it.
    pub(super) fn ends(&mut self, up: Duration) {
        let past = self.past.get_or_insert_default();
        past.ended.get_or_insert_with(Instant::now);
        past.up += up;
    }

    /// All of them. `up`: how long the newest link has been up, if it is; `byte_count`: its bytes.
    pub(super) fn stats(&self, generation: u64, up: Option<Duration>, byte_count: &ByteCount) -> ConnStats {
        let none = Past::default();
        let past = self.past.as_deref().unwrap_or(&none);
        let time_up = past.up + up.unwrap_or_default();
        let all = past.ended.unwrap_or_else(Instant::now).saturating_duration_since(self.begun);
        let previous = past.previous.as_ref().map_or((0, 0), |previous| (previous.read(), previous.written()));
        ConnStats {
            is_connected: up.is_some(),
            generation,
            dials: self.dials,
            failed_dials: past.failed_dials,
            breaks: past.breaks,
            time_up,
            time_down: all.saturating_sub(time_up),
            bytes_read: past.bytes.0 + previous.0 + byte_count.read(),
            bytes_written: past.bytes.1 + previous.1 + byte_count.written(),
            last_error: past.last_error.clone(),
        }
    }
}
