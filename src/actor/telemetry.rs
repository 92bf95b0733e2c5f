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
    /// On the heap, and only for a connection that has a name or a subscriber.
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    known: Option<Box<Known>>,
}

/// What a connection is known by.
#[cfg(any(feature = "metrics", feature = "tracing"))]
struct Known {
    /// Its name; `None`: the address is used.
    #[cfg(feature = "metrics")]
    name: Option<Arc<str>>,
    /// `None`: there was no subscriber yet.
    #[cfg(feature = "tracing")]
    spans: Option<Spans>,
}

/// What lasts.
#[cfg(feature = "tracing")]
struct Spans {
    /// The connection.
    connection: tracing::Span,
    /// The link that is up.
    link: tracing::Span,
}

impl Telemetry {
    /// Of a new connection.
    pub(crate) fn new(name: Option<&Arc<str>>, address: &str) -> Self {
        #[cfg(feature = "tracing")]
        let has_subscriber = tracing::dispatcher::has_been_set();
        #[cfg(not(feature = "tracing"))]
        let has_subscriber = false;
        Self {
            #[cfg(any(feature = "metrics", feature = "tracing"))]
            known: (name.is_some() || has_subscriber).then(|| {
                Box::new(Known {
                    #[cfg(feature = "metrics")]
                    name: name.cloned(),
                    #[cfg(feature = "tracing")]
                    spans: has_subscriber.then(|| Spans::new(name, address)),
                })
            }),
        }
    }

    /// Runs a dial in its span, and records how long it takes. `address` is the name of a connection without one.
    pub(super) async fn dial<T>(
        &self,
        address: &str,
        attempt: u32,
        dial: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        #[cfg(feature = "tracing")]
        let dial = {
            // Without a subscriber there must be no span: `tracing` can be built so that it then makes a line of the log of it, on
            // this very thread.
            let span = self.spans().map_or_else(
                tracing::Span::none,
                |spans| tracing::info_span!(target: "perconn", parent: &spans.connection, "dial", attempt),
            );
            tracing::Instrument::instrument(dial, span)
        };
        #[cfg(feature = "metrics")]
        let began = tokio::time::Instant::now();
        let outcome = dial.await;
        #[cfg(feature = "metrics")]
        self.record("perconn.dial.duration", address, began.elapsed(), outcome.as_ref().err().map(io::Error::kind));
        outcome
    }

    /// Tells of an event. If it is not `loud`, it is one failure of many.
    pub(super) fn observe(&mut self, address: &str, event: &Event, loud: bool) {
        #[cfg(feature = "metrics")]
        if let Event::Disconnected { cause, lived, .. } = event {
            self.record("perconn.link.duration", address, *lived, Some(cause.kind()));
        }
        #[cfg(feature = "tracing")]
        if let Some(spans) = self.known.as_mut().and_then(|known| known.spans.as_mut()) {
            spans.trace(event, loud);
        }
    }

    /// Tells of an error that is no event. That of giving up is one.
    pub(super) fn warn(&self, error: &Error) {
        #[cfg(feature = "tracing")]
        if let (Some(spans), false) = (self.spans(), matches!(error, Error::GaveUp { .. })) {
            spans.connection.in_scope(|| tracing::warn!(target: "perconn", error = %error.with_causes()));
        }
    }

    /// The spans, if there is a subscriber.
    #[cfg(feature = "tracing")]
    fn spans(&self) -> Option<&Spans> {
        self.known.as_ref()?.spans.as_ref()
    }

    /// Whether a subscriber of `tracing` gets the events. Then the default log does not write them as well.
    pub(super) fn has_subscriber(&self) -> bool {
        #[cfg(feature = "tracing")]
        return self.spans().is_some();
        #[cfg(not(feature = "tracing"))]
        false
    }
}

#[cfg(feature = "metrics")]
impl Telemetry {
    /// Records a duration of this connection, and how it ended.
    fn record(&self, metric: &'static str, address: &str, took: std::time::Duration, error: Option<io::ErrorKind>) {
        let name = self.known.as_ref().and_then(|known| known.name.clone()).unwrap_or_else(|| address.into());
        match error {
            None => metrics::histogram!(metric, "connection" => name).record(took),
            Some(kind) => {
                let kind = format!("{kind:?}");
                metrics::histogram!(metric, "connection" => name, "error.type" => kind).record(took);
            }
        }
    }
}

#[cfg(feature = "tracing")]
impl Spans {
    /// The span of a new connection.
    fn new(name: Option<&Arc<str>>, address: &str) -> Self {
        let name = name.map(|name| &**name);
        let connection = tracing::info_span!(
            target: "perconn", "connection", connection.name = name, server.address = address
        );
        Self { connection, link: tracing::Span::none() }
    }

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
