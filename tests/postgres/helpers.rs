//! Helpers that the test modules share.
//!
//! Next: `scripted_server`, the peer of most tests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use perconn::postgres::{Error, Event, Listener, ListenerBuilder, Message, ServerConfig};

use crate::server::{Plain, Postgres};
use crate::support::in_time;

/// A builder with short delays that logs nothing.
pub fn quick(config: impl Into<ServerConfig>) -> ListenerBuilder {
    Listener::builder(config)
        .retry_min(Duration::from_millis(10))
        .retry_max(Duration::from_millis(100))
        .stable_after(Duration::ZERO)
        .logger(|_| {})
}

/// A builder whose sessions have this application name, so that a test can find them.
pub fn named(server: &Postgres, name: &str) -> ListenerBuilder {
    let mut config = server.config();
    config.application_name(name);
    quick(config)
}

/// A listener that is connected.
pub async fn connected(builder: ListenerBuilder) -> Listener {
    // `connect` would fail while the server is still starting up.
    let listener = builder.build().unwrap();
    until("connected", async || listener.is_connected()).await;
    listener
}

/// The next message.
pub async fn next(listener: &mut Listener) -> Message {
    in_time("a message", listener.recv()).await.unwrap()
}

/// The payload of the next message, which must be a notification.
pub async fn payload(listener: &mut Listener) -> String {
    match next(listener).await {
        Message::Notification(notification) => notification.payload().to_owned(),
        other => panic!("expected a notification: {other:?}"),
    }
}

/// Takes the next two messages, which must be the markers of one loss. Returns its cause.
pub async fn outage(listener: &mut Listener) -> Arc<Error> {
    let Message::Lost { generation: lost, cause, .. } = next(listener).await else { panic!("expected Lost") };
    let Message::Resynced { generation, .. } = next(listener).await else { panic!("expected Resynced") };
    assert_eq!(generation, lost + 1);
    cause
}

/// Ends all sessions of this application name with 57P01. There must be at least one.
pub async fn terminate(client: &Plain, name: &str) {
    for pid in client.sessions_named(name).await.unwrap() {
        assert!(client.terminate(pid).await.unwrap());
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    in_time(what, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The events of a listener.
#[derive(Clone, Default)]
pub struct EventLog(Arc<Mutex<Vec<Event>>>);

impl EventLog {
    /// The event hook that fills it.
    pub fn hook(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let events = Arc::clone(&self.0);
        move |event| events.lock().unwrap().push(event.clone())
    }

    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    /// The first word of each event's text.
    pub fn kinds(&self) -> Vec<String> {
        self.events().iter().map(|event| event.to_string().split([':', ' ']).next().unwrap().to_owned()).collect()
    }

    pub fn count(&self, kind: &str) -> usize {
        self.kinds().iter().filter(|other| *other == kind).count()
    }
}

/// Runs a test on a runtime with one thread, and on a runtime with two.
pub fn on_one_and_two_threads(test: impl AsyncFn()) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(test());
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap().block_on(test());
}
