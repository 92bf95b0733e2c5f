//! What a connection tells the crates `tracing` and `metrics`, with the features of these names. Without them, nothing.
//!
//! A span lasts as long as the connection; its children are the spans of each dial and each link. The set-up of a session runs
//! within the span of its dial, so what it logs is found there.
//!
//! Next: `metrics.rs`, the figures that are recorded when somebody looks.

#![cfg_attr(
    not(all(feature = "metrics", feature = "tracing")),
    allow(unused_variables, reason = "without both features, there are things that nobody wants to know")
)]

use std::future::Future;
use std::io;
use std::sync::Arc;

use crate::{Error, Event};

/// The spans of a connection, and its name for metrics.
pub(crate) struct Telemetry {
    /// The name, or else the address; and how long the last dial took.
    #[cfg(feature = "metrics")]
    metrics: (Arc<str>, std::time::Duration),
    /// The connection.
    #[cfg(feature = "tracing")]
    connection: tracing::Span,
    /// The link that is up.
    #[cfg(feature = "tracing")]
    link: tracing::Span,
}

impl Telemetry {
    /// Of a new connection.
    pub(crate) fn new(name: Option<&Arc<str>>, address: &str) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            metrics: (name.map_or_else(|| address.into(), Arc::clone), std::time::Duration::ZERO),
            #[cfg(feature = "tracing")]
            connection: tracing::info_span!(
                target: "perconn", "connection", connection.name = name.map(|name| &**name), server.address = address
            ),
            #[cfg(feature = "tracing")]
            link: tracing::Span::none(),
        }
    }

    /// Runs a dial in its span, and notes how long it takes.
    pub(super) async fn dial<T>(&mut self, attempt: u32, dial: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        #[cfg(feature = "tracing")]
        let dial = {
            let span = tracing::info_span!(target: "perconn", parent: &self.connection, "dial", attempt);
            tracing::Instrument::instrument(dial, span)
        };
        #[cfg(feature = "metrics")]
        let began = tokio::time::Instant::now();
        let outcome = dial.await;
        #[cfg(feature = "metrics")]
        (self.metrics.1 = began.elapsed());
        outcome
    }

    /// Tells of an event. If it is not `loud`, it is one failure of many.
    pub(super) fn observe(&mut self, event: &Event, loud: bool) {
        #[cfg(feature = "metrics")]
        self.record(event);
        #[cfg(feature = "tracing")]
        self.trace(event, loud);
    }

    /// Tells of an error that is no event. That of giving up is one.
    pub(super) fn warn(&self, error: &Error) {
        #[cfg(feature = "tracing")]
        if !matches!(error, Error::GaveUp { .. }) {
            self.connection.in_scope(|| tracing::warn!(target: "perconn", error = %error.with_causes()));
        }
    }

    /// Whether a subscriber of `tracing` gets the events. Then the default log does not write them as well.
    pub(super) fn is_traced() -> bool {
        #[cfg(feature = "tracing")]
        return tracing::dispatcher::has_been_set();
        #[cfg(not(feature = "tracing"))]
        false
    }
}

#[cfg(feature = "metrics")]
impl Telemetry {
    /// Records the durations of dials and links.
    fn record(&self, event: &Event) {
        use metrics::histogram;
        let (name, took) = &self.metrics;
        let name = Arc::clone(name);
        match event {
            Event::Connected { .. } | Event::Reconnected { .. } => {
                histogram!("perconn.dial.duration", "connection" => name).record(*took);
            }
            Event::DialFailed { cause, .. } => {
                let kind = format!("{:?}", cause.kind());
                histogram!("perconn.dial.duration", "connection" => name, "error.type" => kind).record(*took);
            }
            Event::Disconnected { cause, lived, .. } => {
                let kind = format!("{:?}", cause.kind());
                histogram!("perconn.link.duration", "connection" => name, "error.type" => kind).record(*lived);
            }
            Event::GaveUp { .. } | Event::Closed => {}
        }
    }
}

#[cfg(feature = "tracing")]
impl Telemetry {
    /// Opens and closes the span of the link, and emits the event in its span.
    ///
    /// The span is entered, as some subscribers look for the current span only, and not for the parent of an event.
    fn trace(&mut self, event: &Event, loud: bool) {
        use tracing::{Level, Span, error, event, info, info_span};
        /// An event at the level `warn`, or at `debug` if there are many like it.
        macro_rules! failure {
            ($($fields:tt)*) => {
                if loud {
                    event!(target: "perconn", Level::WARN, $($fields)*);
                } else {
                    event!(target: "perconn", Level::DEBUG, $($fields)*);
                }
            };
        }
        match event {
            Event::Connected { generation, attempt } | Event::Reconnected { generation, attempt } => {
                self.link = info_span!(target: "perconn", parent: &self.connection, "link", generation);
                self.link.in_scope(|| info!(target: "perconn", attempt, "connected"));
            }
            Event::Disconnected { cause, lived, bytes_read, bytes_written, retry_in, .. } => {
                let link = std::mem::replace(&mut self.link, Span::none());
                let error = cause.with_causes();
                link.in_scope(|| failure!(%error, ?lived, bytes_read, bytes_written, ?retry_in, "disconnected"));
            }
            Event::DialFailed { attempt, cause, retry_in } => {
                let error = cause.with_causes();
                self.connection.in_scope(|| failure!(attempt, %error, ?retry_in, "dial failed"));
            }
            Event::GaveUp { attempts, cause } => {
                let error = cause.with_causes();
                self.connection.in_scope(|| error!(target: "perconn", attempts, %error, "gave up"));
            }
            Event::Closed => {
                self.link = Span::none();
                self.connection.in_scope(|| info!(target: "perconn", "closed"));
            }
        }
    }
}
